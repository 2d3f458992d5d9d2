"""What the machine does meanwhile: processor, memory, disk, GPUs; sampled in a thread of its own.

    system/cpu               share of the machine's processors that are busy, 0 to 1, since the last sample
    system/memory            bytes resident of this process
    system/memory_machine    bytes that cannot be given to anybody else
    system/disk_free         bytes free where the run lies
    system/gpu0_busy         share of the time that GPU 0 computed, 0 to 1
    system/gpu0_memory       bytes of its memory in use
    system/gpu0_temperature  degrees Celsius
    system/gpu0_power        watts

GPUs are asked through NVML where the package nvidia-ml-py is there. That part has not been run on a GPU yet.
"""

from __future__ import annotations

import shutil
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

__all__ = ["SystemSampler"]

EVERY = 10.0
"""Seconds between two samples: 360 points an hour, half a millisecond each. Guess."""


class SystemSampler:
    """Within its block a thread samples; `take` hands over what is new.

    The thread writes nothing itself: a row with numbers says that its attempt covers a step, so only the training loop,
    which has done the step, may write one.
    """

    def __init__(self, place: Path, every: float | None = None) -> None:
        """`place`: a path on the disk that is watched. `every`: seconds; default: EVERY."""
        self._place, self._every = place, EVERY if every is None else every
        self._newest: deque[dict[str, float]] = deque(maxlen=1)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="system metrics", daemon=True)

    def __enter__(self) -> SystemSampler:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def take(self) -> dict[str, float]:
        """The newest sample, once; {} when there is no new one."""
        try:
            return self._newest.pop()
        except IndexError:
            return {}

    def _run(self) -> None:
        process, read_gpus = psutil.Process(), _open_gpus()
        psutil.cpu_percent()  # from here on
        while not self._ended.wait(self._every):
            with suppress(OSError, psutil.Error):  # the disk was taken away: the next sample may be whole again
                self._newest.append(
                    {
                        "system/cpu": psutil.cpu_percent() / 100,
                        "system/memory": process.memory_info().rss,
                        "system/memory_machine": psutil.virtual_memory().used,
                        "system/disk_free": shutil.disk_usage(self._place).free,
                        **read_gpus(),
                    }
                )


def _open_gpus() -> Callable[[], dict[str, float]]:
    """What reads all GPUs; nothing where there are none, or no NVML."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
    except Exception:  # no package, no driver, a driver of another version: training goes on without
        return dict
    return lambda: _read_gpus(pynvml, handles)


def _read_gpus(nvml: Any, handles: list[Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    readings: dict[str, Callable[[Any], float]] = {
        "busy": lambda gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100,
        "memory": lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used,
        "temperature": lambda gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
        "power": lambda gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000,  # milliwatts
    }
    for number, gpu in enumerate(handles):
        for name, read in readings.items():
            with suppress(nvml.NVMLError):  # not every GPU tells everything
                found[f"system/gpu{number}_{name}"] = float(read(gpu))
    return found
