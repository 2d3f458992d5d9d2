"""Curves as they are drawn: attempts put together, smoothed, thinned; against plain numpy."""

import json

import numpy as np
import pytest

from polyana.tracking import AXES, Curves, Index, MetricLog, View
from polyana.tracking.thinning import pick_extremes, smooth


@pytest.fixture
def index(tmp_path):
    return Index(tmp_path / "index.sqlite")


def write(directory, steps, resumes_at=0, value=float, **more):
    log = MetricLog(directory, resumes_at, "recipe", print)
    for step in steps:
        log.log(step, {"train/loss": value(step), **{name: make(step) for name, make in more.items()}})
    log.close()
    return log.path


def retime(path, begin, every):
    """Let an attempt begin at `begin` and log a row each `every` seconds."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number, row in enumerate(rows):
        row["time"] = begin + every * number
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def curves(index, metrics):
    index.catch_up("run", metrics)
    return Curves(index, "run")


def plain_average(values, factor):
    """Smoothing as one writes it down."""
    total, seen, out = 0.0, 0, []
    for value in values:
        if np.isnan(value):
            out.append(np.nan)
            continue
        total, seen = factor * total + (1 - factor) * value, seen + 1
        out.append(total / (1 - factor**seen) if factor else total)
    return np.array(out)


@pytest.mark.parametrize("resumes_at", [99, 100])
def test_resume_continues_the_curve(tmp_path, index, resumes_at):
    """Log 0..149, die, go on from the save, log 100..219: 220 points, strictly increasing, the later wins, a ghost."""
    write(tmp_path / "metrics", range(150), value=lambda _: -1.0)
    write(tmp_path / "metrics", range(100, 220), resumes_at=resumes_at)
    drawn = curves(index, tmp_path / "metrics").draw("train/loss", View())
    x, y = drawn.raw
    assert drawn.total == len(x) == 220
    assert x.tolist() == list(range(220))
    assert y.tolist() == [-1.0 if step < 100 else step for step in range(220)]
    assert drawn.ghost[0].tolist() == list(range(resumes_at + 1, 150))
    assert set(drawn.ghost[1]) == {-1.0}
    assert drawn.marks == [resumes_at]


def test_ghosts_of_several_attempts_are_parted(tmp_path, index):
    metrics = tmp_path / "metrics"
    write(metrics, range(1, 31))
    write(metrics, range(11, 21), resumes_at=10)
    write(metrics, [], resumes_at=15)  # died before it did anything
    write(metrics, range(16, 26), resumes_at=15)
    drawn = curves(index, metrics).draw("train/loss", View())
    assert drawn.raw[0].tolist() == list(range(1, 26))
    assert np.array_equal(drawn.ghost[0], [*range(11, 31), np.nan, *range(16, 21)], equal_nan=True)
    assert drawn.marks == [10, 15]


def test_an_imported_continuation_begins_at_its_step(tmp_path, index):
    write(tmp_path / "metrics", range(5000, 5100), resumes_at=4999)
    assert curves(index, tmp_path / "metrics").draw("train/loss", View()).raw[0][0] == 5000


def test_a_step_logged_twice_has_its_last_value(tmp_path, index):
    log = MetricLog(tmp_path / "metrics", 0, "", print)
    for step, value in ((1, 1.0), (2, 2.0), (3, 3.0), (2, 20.0), (4, 4.0)):
        log.log(step, {"train/loss": value})
    log.close()
    x, y = curves(index, tmp_path / "metrics").draw("train/loss", View()).raw
    assert (x.tolist(), y.tolist()) == ([1, 2, 3, 4], [1, 20, 3, 4])


def test_a_spike_of_one_point_in_a_million_is_drawn(tmp_path, index):
    """In every view that holds it: from summaries, from all points, on each axis."""
    spike, dip = 654_321, 123_456
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    noise = np.random.default_rng(0).normal(size=1000).round(4).tolist()
    with (metrics / "attempt-0001.jsonl").open("w") as file:
        file.write('{"attempt":1,"parent":null,"resumes_at":0,"time":1000.0}\n')
        for step in range(1, 1_000_001):
            value = {spike: 99.5, dip: -99.5}.get(step, noise[step % 1000])
            file.write(f'{{"step":{step},"train/loss":{value},"train/tokens":{step * 512},"time":{1000 + step}.0}}\n')
    drawing = curves(index, metrics)
    for view in (View(), View(width=300), View(width=8000), View(x="tokens"), View(x="time"), View(x="relative"),
                 View(low=100_000, high=700_000), View(low=600_000, high=660_000, width=50)):  # fmt: skip
        drawn = drawing.draw("train/loss", view)
        x, y = drawn.raw
        scale, shift = {"tokens": (512, 0), "time": (1, 1000)}.get(view.x, (1, 0))
        assert (x[np.argmax(y)], y.max()) == (spike * scale + shift, 99.5)
        if view.low is None or view.low < dip:
            assert (x[np.argmin(y)], y.min()) == (dip * scale + shift, -99.5)
        assert len(x) <= 2 * view.width + 2
        assert np.all(np.diff(x) > 0)
        first, last = (view.low or 1, view.high or 1_000_000)
        assert drawn.total == last - first + 1
        assert (x[0], x[-1]) == (first * scale + shift, last * scale + shift)


def test_summaries_draw_what_all_points_would(tmp_path, index):
    """Where each stretch is made of whole parts of 64, exactly; the summary is taken from 128 points a stretch on."""
    values = np.random.default_rng(1).normal(size=64_000).cumsum()
    values[5000:5100] = np.nan
    write(tmp_path / "metrics", range(64_000), value=lambda step: values[step])
    drawn = curves(index, tmp_path / "metrics").draw("train/loss", View(low=0, high=64_000, width=500))
    expected = pick_extremes(np.arange(64_000.0), values, 500, 0, 64_000)
    finite = expected[~np.isnan(values[expected])]
    shown = ~np.isnan(drawn.raw[1])
    assert drawn.raw[0][shown].tolist() == finite.tolist()
    assert np.array_equal(drawn.raw[1][shown], values[finite])


def test_extremes_are_those_of_each_stretch():
    rng = np.random.default_rng(2)
    for _ in range(30):
        count, width = int(rng.integers(3, 3000)), int(rng.integers(1, 60))
        x = np.sort(rng.uniform(0, 10, size=count))
        y = np.where(rng.uniform(size=count) < 0.1, np.nan, rng.normal(size=count))
        low, high = -1.0, 11.0
        chosen = pick_extremes(x, y, width, low, high)
        if count <= 2 * width:
            assert chosen.tolist() == list(range(count))
            continue
        wanted = {0, count - 1}
        stretch = np.clip(np.floor((x - low) / (high - low) * width), 0, width - 1)
        for number in np.unique(stretch):
            members = np.flatnonzero(stretch == number)
            known = members[~np.isnan(y[members])]
            wanted |= {known[np.argmin(y[known])], known[np.argmax(y[known])]} if len(known) else {members[0]}
        assert chosen.tolist() == sorted(wanted)


@pytest.mark.parametrize("factor", [0.0, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 5000])
def test_smoothing_is_the_debiased_average(factor, count):
    values = np.random.default_rng(4).normal(size=count) + 5
    values[count // 3 : count // 3 + 2] = np.nan
    assert np.allclose(smooth(values, factor), plain_average(values, factor), rtol=1e-10, equal_nan=True)


def test_smoothing_comes_before_thinning_and_reaches_behind_the_view(tmp_path, index):
    values = np.random.default_rng(5).normal(size=60_000) + 3
    write(tmp_path / "metrics", range(50_000), value=lambda step: values[step])
    write(tmp_path / "metrics", range(40_001, 60_000), resumes_at=40_000, value=lambda step: values[step])
    expected = plain_average(values, 0.999)
    drawing = curves(index, tmp_path / "metrics")
    for low, high in ((None, None), (45_000, 45_300), (39_990, 40_100), (59_990, None)):
        x, y = drawing.draw("train/loss", View(low=low, high=high, smoothing=0.999, width=200)).smooth
        assert np.allclose(y, expected[x.astype(int)], rtol=1e-9)
        assert len(x) >= (200 if low is None else 10)


def test_every_axis(tmp_path, index):
    """x by tokens, epochs and times, of train rows and of evaluations between them; two attempts with a pause."""
    metrics = tmp_path / "metrics"
    more = {"train/tokens": lambda step: step * 100, "train/epoch": lambda step: step / 10}
    first = write(metrics, range(1, 31), **more)
    second = write(metrics, range(21, 41), resumes_at=20, **more)
    retime(first, 1000.0, 2.0)
    retime(second, 5000.0, 2.0)
    drawing = curves(index, metrics)
    drawn = {x: drawing.draw("train/loss", View(x=x)) for x in AXES}
    assert drawn["tokens"].raw[0].tolist() == [step * 100 for step in range(1, 41)]
    assert np.allclose(drawn["epoch"].raw[0], np.arange(1, 41) / 10)
    times = [1000 + 2 * step for step in range(1, 21)] + [5000 + 2 * (step - 20) for step in range(21, 41)]
    assert drawn["time"].raw[0].tolist() == times
    assert drawn["relative"].raw[0].tolist() == [2 * step for step in range(1, 41)]  # no pause, nothing done twice
    assert drawn["relative"].ghost[0].tolist() == [2 * step for step in range(21, 31)]
    assert [drawn[x].marks for x in AXES] == [[20], [2000], [2], [5000], [40]]
    assert drawing.draw("train/loss", View(x="tokens", low=950, high=1200)).raw[0].tolist() == [1000, 1100, 1200]
    assert drawing.draw("train/loss", View(x="relative", low=39, high=44)).raw[0].tolist() == [40, 42, 44]
    assert drawing.draw("train/loss", View(x="time", low=1039, high=5002)).raw[0].tolist() == [1040, 5002]
    assert drawing.draw("train/loss", View(x="time", low=2000, high=3000)).total == 0


def test_an_evaluation_stands_at_the_tokens_of_its_step(tmp_path, index):
    log = MetricLog(tmp_path / "metrics", 0, "", print)
    log.log(0, {"eval/loss": 3.0})
    for step in range(1, 11):
        log.log(step, {"train/loss": 1.0, "train/tokens": step * 512})
        if step % 5 == 0:
            log.log(step, {"eval/loss": 2.0})
    log.close()
    drawing = curves(index, tmp_path / "metrics")
    assert drawing.draw("eval/loss", View(x="tokens")).raw[0].tolist() == [0, 2560, 5120]
    assert drawing.draw("eval/loss", View(x="tokens", low=2500, high=2600)).raw[0].tolist() == [2560]


def test_time_stands_still_while_the_clock_goes_back(tmp_path, index):
    path = write(tmp_path / "metrics", range(1, 7))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row, moment in zip(rows, (10, 11, 12, 13, 4, 5, 16), strict=True):
        row["time"] = moment
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert curves(index, tmp_path / "metrics").draw("train/loss", View(x="time")).raw[0].tolist() == [
        11, 12, 13, 13, 13, 16
    ]  # fmt: skip


def test_values_that_are_not_finite_are_nan(tmp_path, index):
    write(tmp_path / "metrics", range(1, 6), value=lambda step: float("inf") if step == 3 else 1.0)
    y = curves(index, tmp_path / "metrics").draw("train/loss", View()).raw[1]
    assert np.isnan(y).tolist() == [False, False, True, False, False]


def test_nothing_is_drawn_of_what_is_not_there(tmp_path, index):
    write(tmp_path / "metrics", range(1, 6))
    drawing = curves(index, tmp_path / "metrics")
    for x in AXES:
        drawn = drawing.draw("no/such", View(x=x, low=1, high=2, smoothing=0.5))
        assert (drawn.total, len(drawn.raw[0]), len(drawn.smooth[0]), len(drawn.ghost[0])) == (0, 0, 0, 0)
    assert drawing.draw("train/loss", View(x="tokens")).total == 0  # the run does not tell its tokens
