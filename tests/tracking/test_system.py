"""System metrics: real ones, at their time, and no thread is left."""

import io
import sys
import threading
import time
import types

import psutil
import pytest
from conftest import CLOCKED, metrics_of, newest_run

from polyana.errors import TrainingFailed
from polyana.run import run_recipe
from polyana.tasks import LanguageModelTask
from polyana.tracking import Console, SystemSampler
from polyana.tracking.metrics import MetricLog, read_attempts, read_curves

QUIET = Console(io.StringIO())
ALWAYS = {"system/cpu", "system/memory", "system/memory_machine", "system/disk_free"}


@pytest.fixture
def often(monkeypatch):
    """A sample every few milliseconds."""
    monkeypatch.setattr("polyana.tracking.system.EVERY", 0.003)


def next_sample(sampler: SystemSampler) -> dict[str, float]:
    limit = time.monotonic() + 10
    while time.monotonic() < limit:
        if sample := sampler.take():
            return sample
        time.sleep(0.001)
    raise AssertionError("ten seconds without a sample")


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "system metrics"]


def test_samples_are_what_the_machine_says(tmp_path):
    with SystemSampler(tmp_path, every=0.2) as sampler:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            pass  # one processor is busy
        sample = next_sample(sampler)
        assert sampler.take() == {}  # once
    assert threads() == []
    assert set(sample) >= ALWAYS
    assert 0.5 / psutil.cpu_count() < sample["system/cpu"] <= 1
    assert sample["system/memory"] == pytest.approx(psutil.Process().memory_info().rss, rel=0.3)
    assert sample["system/memory"] < sample["system/memory_machine"] < psutil.virtual_memory().total
    assert sample["system/disk_free"] == pytest.approx(psutil.disk_usage(str(tmp_path)).free, rel=0.1)


def test_a_training_has_them(tiny, home, load, often):
    run_recipe(load(tiny), console=QUIET)
    watched = metrics_of(newest_run(home), system=True)
    assert set(watched) >= ALWAYS
    assert set(watched["system/cpu"]) <= set(range(1, 13))
    assert threads() == []


def test_they_do_not_change_what_is_learned(tiny, home, load, monkeypatch):
    curves = []
    for every in (0.003, 1000):
        monkeypatch.setattr("polyana.tracking.system.EVERY", every)
        run_recipe(load(tiny), console=QUIET, fresh=True)
        curves.append({name: points for name, points in metrics_of(newest_run(home)).items() if name not in CLOCKED})
    assert curves[0] == curves[1]


def test_a_training_that_fails_leaves_no_thread(tiny, home, load, often, monkeypatch):
    original = LanguageModelTask.loss

    def poisoned(self, batch):
        output = original(self, batch)
        output.total.data.fill_(float("nan"))
        return output

    run_recipe(load(tiny), stage="tokenizer", console=QUIET)
    monkeypatch.setattr(LanguageModelTask, "loss", poisoned)
    with pytest.raises(TrainingFailed):
        run_recipe(load(tiny), console=QUIET)
    assert threads() == []


def test_an_attempt_that_did_no_step_covers_none_however_long_it_took(tiny, home, load, often, tmp_path):
    """The sampler itself writes nothing; the row of a sample comes behind that of its step."""
    log = MetricLog(tmp_path / "metrics", 0, "", print)
    for step in range(1, 10):
        log.log(step, {"train/loss": 1.0})
    log.close()
    with SystemSampler(tmp_path, every=0.001) as sampler:
        log = MetricLog(tmp_path / "metrics", 5, "", print)
        next_sample(sampler)
        log.close()
    assert [step for step, _ in read_curves(tmp_path / "metrics")["train/loss"]] == list(range(1, 10))
    run_recipe(load(tiny), console=QUIET)
    (attempt,) = read_attempts(newest_run(home) / "metrics")
    done = 0
    for row in attempt.rows:
        if "train/loss" in row:
            done = row["step"]
        elif "system/cpu" in row:
            assert row["step"] == done


def test_a_disk_that_is_gone_is_read_past(tmp_path):
    place = tmp_path / "place"
    with SystemSampler(place, every=0.001) as sampler:
        time.sleep(0.05)
        assert sampler.take() == {}
        place.mkdir()
        assert next_sample(sampler)["system/disk_free"] > 0


def test_gpus_are_asked_through_nvml(tmp_path, monkeypatch):
    """A stand-in: there is no GPU here. The second one does not tell its power."""

    class NVMLError(Exception):
        pass

    def power(gpu):
        if gpu == 1:
            raise NVMLError
        return 70_000

    nvml = types.SimpleNamespace(
        NVMLError=NVMLError, NVML_TEMPERATURE_GPU=0, nvmlInit=lambda: None, nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda number: number,
        nvmlDeviceGetUtilizationRates=lambda _: types.SimpleNamespace(gpu=50),
        nvmlDeviceGetMemoryInfo=lambda _: types.SimpleNamespace(used=2**30),
        nvmlDeviceGetTemperature=lambda _gpu, _kind: 60, nvmlDeviceGetPowerUsage=power,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    with SystemSampler(tmp_path, every=0.001) as sampler:
        sample = next_sample(sampler)
    told = {name: value for name, value in sample.items() if "gpu" in name}
    assert told == {
        "system/gpu0_busy": 0.5, "system/gpu0_memory": 2.0**30, "system/gpu0_temperature": 60.0,
        "system/gpu0_power": 70.0,
        "system/gpu1_busy": 0.5, "system/gpu1_memory": 2.0**30, "system/gpu1_temperature": 60.0,
    }  # fmt: skip
