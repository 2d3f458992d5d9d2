"""Event files, written with TensorBoard's own writer: no torch, no TensorFlow."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from polyana.tracking.metrics import Histogram
from polyana.tracking.sinks.config import TensorboardConfig
from polyana.tracking.sinks.sink import About, Sink

__all__ = ["TensorboardSink"]


class TensorboardSink(Sink):
    """Each attempt is an event file. A later one begins with the mark (SessionLog.START) at which TensorBoard purges
    what earlier files have of later steps."""

    takes_back = True

    def __init__(self, config: TensorboardConfig) -> None:
        self._config = config

    def begin(self, about: About, kept: dict[str, Any]) -> dict[str, Any]:
        given = self._config.directory
        directory = Path(given) / about.run if given else about.directory / "tensorboard"
        self.where = f"tensorboard --logdir {directory}"
        self._writer = EventFileWriter(str(directory), flush_secs=3600)  # `flush` says when
        if not kept:
            settings = "".join(f"| {name} | {json.dumps(value)} |\n" for name, value in about.settings.items())
            self.text(0, 0.0, "settings", f"| setting | value |\n|---|---|\n{settings}")
        return {"directory": str(directory)}

    def go_on_from(self, step: int) -> None:
        start = Event(step=step + 1, session_log=SessionLog(status=SessionLog.START))
        self._writer.add_event(start)

    def scalars(self, step: int, time: float, values: Mapping[str, float]) -> None:
        self._add(step, time, *(Summary.Value(tag=name, simple_value=value) for name, value in values.items()))

    def histogram(self, step: int, time: float, name: str, histogram: Histogram) -> None:
        low, counts = histogram.low, histogram.counts
        width = (histogram.high - low) / len(counts)
        middles = [low + (place + 0.5) * width for place in range(len(counts))]
        spread = HistogramProto(
            min=low,
            max=histogram.high,
            num=sum(counts),
            sum=sum(count * middle for count, middle in zip(counts, middles, strict=True)),
            sum_squares=histogram.norm**2,
            bucket_limit=[middle + width / 2 for middle in middles],
            bucket=counts,
        )
        self._add(step, time, Summary.Value(tag=name, histo=spread))

    def text(self, step: int, time: float, name: str, value: str) -> None:
        plugin = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
        tensor = TensorProto(dtype=DT_STRING, tensor_shape=shape, string_val=[value.encode()])
        self._add(step, time, Summary.Value(tag=f"{name}/text_summary", metadata=plugin, tensor=tensor))

    def table(self, step: int, time: float, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        lines = [columns, ["---"] * len(columns), *rows]
        self.text(step, time, name, "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines))

    def image(self, step: int, time: float, name: str, path: Path) -> None:
        content = path.read_bytes()
        width, height = struct.unpack(">II", content[16:24]) if content.startswith(b"\x89PNG") else (0, 0)
        picture = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=content)
        self._add(step, time, Summary.Value(tag=name, image=picture))

    def flush(self) -> None:
        self._writer.flush()

    def close(self, outcome: str) -> None:  # noqa: ARG002
        self._writer.close()

    def _add(self, step: int, time: float, *values: Summary.Value) -> None:
        self._writer.add_event(Event(step=step, wall_time=time, summary=Summary(value=values)))
