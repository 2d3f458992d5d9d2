"""Runs of people's own scripts, beside Polyana's: `polyana runs`, `polyana ui` and `polyana watch` show them alike.

>>> from polyana import track
>>> run = track.init("my-experiment", config={"lr": 3e-4})
>>> track.log({"train/loss": 2.3}, step=1)
>>> track.finish()

Each `log` is one write to the run's file, so what it returned from survives SIGKILL. Importing this imports no torch.
"""

from __future__ import annotations

import atexit
import re
import shutil
import struct
import sys
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyana.errors import UserError
from polyana.storage import home_directory, write_json
from polyana.tracking import (
    Histogram as Spread,
)
from polyana.tracking import (
    MetricLog,
    RunDirectory,
    describe_environment,
    find_run,
    read_attempts,
)
from polyana.tracking.sinks import SinkConfig, Sinks

__all__ = ["Histogram", "Image", "Run", "Table", "finish", "init", "log"]

_BINS = 64
_LONGEST_NAME = 36  # as a recipe's and a stage's (recipe.py)


class Histogram:
    """How the numbers of an array or a tensor are spread; what is not finite is left out."""

    def __init__(self, values: Any) -> None:
        finite = _array(values).astype(np.float64).ravel()
        finite = finite[np.isfinite(finite)]
        counts, edges = np.histogram(finite, bins=_BINS)
        self.spread = Spread(
            low=float(edges[0]),
            high=float(edges[-1]),
            counts=[int(count) for count in counts],
            zeros=float(np.mean(finite == 0)) if len(finite) else 0.0,
            norm=float(np.linalg.norm(finite)),
        )


@dataclass(frozen=True)
class Image:
    """A picture: a file, which is copied, or an array [height, width], [height, width, 3] or [height, width, 4] of
    bytes or of numbers from 0 to 1."""

    content: Any


@dataclass(frozen=True)
class Table:
    """`rows` of numbers, texts and None, each as long as `columns`."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


class Run:
    """A run that a script writes. As a context manager it ends as failed when the block does."""

    def __init__(self, directory: RunDirectory, resumes_at: int | None, sinks: Sequence[SinkConfig]) -> None:
        self._directory = directory
        self._log: MetricLog | None = None
        self._resumes_at = resumes_at
        self._step = _last_step(directory) if resumes_at is None else resumes_at
        self._resumed = bool(list(directory.metrics.glob("attempt-*.jsonl")))
        self._one_at_a_time = threading.Lock()
        self._held = ExitStack()
        self._held.enter_context(directory.lock())
        directory.note(outcome="interrupted")  # until it is known better
        write_json(directory.path / "environment.json", describe_environment())
        self._held.enter_context(Sinks(directory, sinks, _say))

    @property
    def name(self) -> str:
        """What `init(resume=...)`, `polyana watch` and `polyana compare` know it by."""
        return self._directory.name

    @property
    def directory(self) -> Path:
        """For the script's own files too; pages (*.html) in it are shown beside the curves."""
        return self._directory.path

    def log(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Numbers, and Histogram, Image, Table or text, under names such as `train/loss`; nested ones are joined by /.

        step: default: one more than the last. Raises TypeError for what is none of these.
        """
        with self._one_at_a_time:
            if self._held is _CLOSED:
                raise RuntimeError(f"{self.name} is finished; track.init begins another run")
            self._step = self._step + 1 if step is None else int(step)
            numbers: dict[str, float] = {}
            spreads: dict[str, Spread] = {}
            for name, value in _leaves(values):
                if isinstance(value, Histogram):
                    spreads[name] = value.spread
                elif isinstance(value, Image):
                    self._file().image(self._step, name, self._keep(name, value))
                elif isinstance(value, Table):
                    self._file().table(self._step, name, value.columns, value.rows)
                elif isinstance(value, str):
                    self._file().text(self._step, name, value)
                else:
                    numbers[name] = _number(name, value)
            if spreads:
                self._file().histograms(self._step, spreads)
            if numbers:
                self._file().log(self._step, numbers)

    def finish(self, outcome: str = "finished") -> None:
        """Close the run; `outcome`: finished, failed or interrupted. A second time does nothing."""
        with self._one_at_a_time:
            held, self._held = self._held, _CLOSED
        if held is _CLOSED:
            return
        if self._log is not None:
            self._log.sync()
            self._log.close()
        ended = {"finished": time.time()} if outcome == "finished" else {}
        self._directory.note(outcome=outcome, **ended)
        held.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish(_outcome_of(error))

    def _file(self) -> MetricLog:
        """The attempt's file, made when the first step is known: that tells where this attempt goes on."""
        if self._log is None:
            before = self._resumes_at
            if before is None:
                before = max(self._step - 1, 0) if self._resumed else 0
            self._log = MetricLog(self._directory.metrics, before, "", _say)
        return self._log

    def _keep(self, name: str, image: Image) -> str:
        """Store a picture; its path from the run's directory."""
        media = self.directory / "media"
        media.mkdir(exist_ok=True)
        stem = f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', name)}-{self._step}"
        if isinstance(image.content, str | Path):
            source = Path(image.content)
            shutil.copyfile(source, media / f"{stem}{source.suffix}")
            return f"media/{stem}{source.suffix}"
        (media / f"{stem}.png").write_bytes(_png(_array(image.content)))
        return f"media/{stem}.png"


_CLOSED = ExitStack()
_current: Run | None = None


def init(
    project: str | None = None,
    name: str = "script",
    *,
    config: Mapping[str, Any] | None = None,
    resume: str | None = None,
    resumes_at: int | None = None,
    steps: int | None = None,
    tags: Sequence[str] = (),
    notes: str = "",
    group: str = "",
    home: Path | str | None = None,
    sinks: Sequence[str | Mapping[str, Any]] = (),
) -> Run:
    """Begin a run, or go on with one, and make it the one that `track.log` writes to; an earlier one is finished.

    project, name: stand in the columns recipe and stage; the run is called PROJECT-NAME-DATE_TIME. Default: what the
    script is called.
    config: any settings, shown, compared and sorted by; nested ones too.
    resume: a run's name, or the beginning of it, to go on with. Steps that are logged again replace what it had.
    resumes_at: the step that it goes on from; default: the one before the first that is logged.
    steps: how many are planned. home: default $POLYANA_HOME, else .polyana. sinks: as in a recipe, `["tensorboard"]`.

    Raises UserError when there is no such run, or a sink is not there, and Busy when another process writes to it.
    """
    global _current  # noqa: PLW0603
    if _current is not None:
        _current.finish()
    runs = (Path(home).absolute() if home is not None else home_directory()) / "runs"
    configs = _sinks(sinks)
    if resume is not None:
        directory = find_run(runs, resume)
        more = {} if config is None else {"settings": _plain(config)}
    else:
        script = Path(sys.argv[0]).stem if sys.argv and sys.argv[0] else "python"
        about = {"fingerprint": "", "settings": _plain(config or {}), "by": "polyana.track"}
        directory = RunDirectory.create(runs, _as_name(project or script), _as_name(name), about)
        more = {}
        if tags or notes or group:
            write_json(directory.path / "notes.json", {"tags": list(tags), "notes": notes, "group": group})
    run = Run(directory, resumes_at, configs)
    if steps is not None:
        more["planned_steps"] = steps
    directory.note(**more)
    _current = run
    return run


def log(values: Mapping[str, Any], step: int | None = None) -> None:
    """Write to the run that `init` began; see `Run.log`."""
    if _current is None:
        raise RuntimeError("there is no run to write to; track.init begins one")
    _current.log(values, step)


def finish(outcome: str = "finished") -> None:
    """Close the run that `init` began. Done by itself when the script ends."""
    global _current  # noqa: PLW0603
    if _current is not None:
        _current.finish(outcome)
        _current = None


@atexit.register
def _at_exit() -> None:
    # The interpreter keeps the error that nobody caught here (`sys.last_value`).
    finish(_outcome_of(getattr(sys, "last_value", None)))


def _outcome_of(error: BaseException | None) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return "failed" if error is not None else "finished"


def _say(text: str) -> None:
    sys.stderr.write(f"{text.strip()}\n")


def _last_step(directory: RunDirectory) -> int:
    steps = [row["step"] for attempt in read_attempts(directory.metrics) for row in attempt.rows[-1:] if "step" in row]
    return max(steps, default=0)


def _sinks(given: Sequence[str | Mapping[str, Any]]) -> list[SinkConfig]:
    from pydantic import TypeAdapter, ValidationError

    reader: TypeAdapter[SinkConfig] = TypeAdapter(SinkConfig)
    made = []
    for each in given:
        try:
            made.append(reader.validate_python(dict(each) if isinstance(each, Mapping) else each))
        except ValidationError as error:
            raise UserError(f"the sink {each}: {error.errors()[0]['msg']}") from None
    for sink in made:
        for _, what in sink.problems():
            raise UserError(what)
    return made


def _as_name(text: str) -> str:
    """As a file's and a Hugging Face repository's name allow it."""
    words = re.findall(r"[A-Za-z0-9]+", text)
    return "-".join(words)[:_LONGEST_NAME].rstrip("-") or "run"


def _leaves(values: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{before}{key}"
        found += _leaves(value, f"{name}/") if isinstance(value, Mapping) else [(name, value)]
    return found


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(
            f"`{name}` is {type(value).__name__}: a number, text, Histogram, Image or Table is wanted"
        ) from None


def _plain(value: Any) -> Any:
    """Settings as JSON holds them; what it has no form for becomes text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        return value.item()
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _array(values: Any) -> NDArray[Any]:
    torch = sys.modules.get("torch")  # a tensor comes from a script that has imported it
    if torch is not None and isinstance(values, torch.Tensor):
        values = values.detach().cpu().float().numpy()
    return np.asarray(values)


def _png(pixels: NDArray[Any]) -> bytes:
    """A PNG (ISO 15948) of pixels [height, width], or [height, width, 1, 3 or 4]."""
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    kinds = {1: 0, 3: 2, 4: 6}  # channels -> colour type
    if pixels.ndim != 3 or pixels.shape[2] not in kinds:
        raise TypeError(f"an image of shape {pixels.shape}: [height, width] or [height, width, 3 or 4] is wanted")
    if pixels.dtype != np.uint8:
        pixels = np.rint(np.clip(np.nan_to_num(pixels.astype(np.float64)), 0, 1) * 255).astype(np.uint8)
    height, width, channels = pixels.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)  # 0: no filter
    header = struct.pack(">IIBBBBB", width, height, 8, kinds[channels], 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes())), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )
