"""The reader's index: read on, read anew, survive damage, shared by several servers."""

import json
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from polyana.tracking import Curves, Histogram, Index, MetricLog, read_curves
from polyana.tracking.blocks import BLOCK, PEAK, take_in
from polyana.tracking.parsing import _Other
from polyana.tracking.rows import read_lines


@pytest.fixture
def index(tmp_path):
    return Index(tmp_path / "index.sqlite")


def write(directory, steps, resumes_at=0, names=("train/loss",), value=float):
    log = MetricLog(directory, resumes_at, "recipe", print)
    for step in steps:
        log.log(step, {name: value(step) for name in names})
    log.close()
    return log.path


def read(index, metrics, metric="train/loss"):
    """The curve as the index has it, after reading on."""
    index.catch_up("run", metrics)
    steps, values = Curves(index, "run").points(metric)
    return list(zip(steps.tolist(), values.tolist(), strict=True))


def test_what_is_indexed_is_what_the_files_say(tmp_path, index):
    """Against the plain reader of the files, over several blocks, resumes and a value that is not finite."""
    metrics = tmp_path / "metrics"
    write(metrics, range(1, 3 * BLOCK + 7), names=("a", "b"), value=np.sin)
    write(metrics, range(2000, 2 * BLOCK + 900), resumes_at=1999, names=("a", "c"), value=np.cos)
    write(metrics, [], resumes_at=5)
    index.catch_up("run", metrics)
    curves = read_curves(metrics)
    assert index.metrics("run") == sorted(curves) == ["a", "b", "c"]
    for metric, points in curves.items():
        assert read(index, metrics, metric) == points


def line_of(rng, step):
    """A line as somebody may have written it, mostly {"a", "b", "c"}; and what Python's own json takes it for."""
    time = step / 7
    row = {"step": step, "a": float(rng.normal()), "b": int(rng.integers(-9, 9)), "c": 1e-300 * step, "time": time}
    others = [
        row | {"a": None, "c": None},
        dict(reversed(row.items())),
        {name: value for name, value in row.items() if name != "b"},
        row | {"d": -0.5},
        row | {"b": "text"},
        {"step": step, "x": 2.0**60, "time": time},
        {"step": step, "event": "save", "time": time},
        "torn",
    ]
    odd = int(rng.integers(0, 80)) if step < 3000 or step > 3200 else step % 2 + 5
    line = json.dumps(row)[:-9] if odd == 7 else json.dumps(others[odd] if odd < 7 else row)
    try:
        row = json.loads(line)
    except ValueError:
        return line, None
    return line, None if "text" in row.values() else row


def test_rows_of_all_kinds_among_each_other(tmp_path, index, monkeypatch):
    """Against a reading by Python's own json, line by line: what most rows have, in another order too, with nulls and
    whole numbers; rows that have less, more, other things, no numbers; records; two kinds in turns."""
    monkeypatch.setattr("polyana.tracking.rows._SLICE", 1 << 14)
    rng, (metrics, expected) = np.random.default_rng(5), (tmp_path / "metrics", dict[str, dict[int, float]]())
    metrics.mkdir()
    lines, rows = zip(*[line_of(rng, step) for step in range(1, 4001)], strict=True)
    head = json.dumps({"attempt": 1, "parent": None, "resumes_at": 0, "time": 0.0})
    (metrics / "attempt-0001.jsonl").write_text("\n".join([head, *lines, ""]))
    for row in rows:
        for name, value in row.items() if row is not None and "event" not in row else []:
            if name not in ("step", "time"):
                expected.setdefault(name, {})[row["step"]] = np.nan if value is None else value
    index.catch_up("run", metrics)
    assert index.metrics("run") == sorted(expected) == ["a", "b", "c", "d", "x"]
    for name, points in expected.items():
        steps, values = Curves(index, "run").points(name)
        np.testing.assert_array_equal(steps, sorted(points))
        np.testing.assert_array_equal(values, [points[step] for step in sorted(points)])
    (said,) = index.troubles("run")
    assert f"{rows.count(None)} lines are damaged" in said


def test_reading_goes_on_where_it_stopped(tmp_path, index):
    metrics = tmp_path / "metrics"
    log = MetricLog(metrics, 0, "", print)
    for end in (1, 2, 700, BLOCK, BLOCK + 1, 3000):
        for step in range(len(read_curves(metrics).get("x", [])) + 1, end + 1):
            log.log(step, {"x": step / 2})
        assert read(index, metrics, "x") == [(step, step / 2) for step in range(1, end + 1)]
    log.close()


def test_a_line_on_its_way_is_waited_for(tmp_path, index):
    path = write(tmp_path / "metrics", range(1, 4))
    with path.open("ab") as file:
        file.write(b'{"step":4,"train/loss":4.0,"ti')
        file.flush()
        assert [step for step, _ in read(index, path.parent)] == [1, 2, 3]
        (said,) = index.troubles("run")
        assert "torn" in said
        file.write(b'me":9e9}\n')
    assert [step for step, _ in read(index, path.parent)] == [1, 2, 3, 4]
    assert index.troubles("run") == []


def test_damaged_lines_are_left_out_and_told(tmp_path, index):
    path = write(tmp_path / "metrics", range(1, 4))
    lines = path.read_bytes().splitlines(keepends=True)
    garbage = [b"\x00\xff\n", b"[1,2]\n", b"\n", b'{"step":"x","time":1}\n', b'{"step":9,"train/loss":"?","time":1}\n',
               b'{"step":-1,"train/loss":1,"time":1}\n', b'{"event":"save"}\n']  # fmt: skip
    path.write_bytes(b"".join([*lines[:2], *garbage, *lines[2:]]))
    assert [step for step, _ in read(index, path.parent)] == [1, 2, 3]
    (said,) = index.troubles("run")
    assert "7 lines are damaged" in said


def test_two_torn_lines_are_not_read_as_one(tmp_path, index):
    path = write(tmp_path / "metrics", [1])
    with path.open("ab") as file:
        file.write(b'{"step":2,"time":1\n"train/loss":2.0}\n')
    assert read(index, path.parent) == [(1, 1.0)]
    assert "2 lines are damaged" in index.troubles("run")[0]


def test_a_damaged_header_costs_the_header_alone(tmp_path, index):
    metrics = tmp_path / "metrics"
    write(metrics, range(1, 30))
    path = write(metrics, range(11, 15), resumes_at=10)
    path.write_bytes(b"{torn\n" + path.read_bytes().partition(b"\n")[2])
    assert [step for step, _ in read(index, metrics)] == list(range(1, 15))
    assert any("header" in said for said in index.troubles("run"))
    assert read_curves(metrics)["train/loss"] == read(index, metrics)


def test_a_shorter_or_another_file_is_read_anew(tmp_path, index):
    metrics = tmp_path / "metrics"
    path = write(metrics, range(1, 100))
    assert len(read(index, metrics)) == 99
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:51]))
    assert len(read(index, metrics)) == 50
    path.unlink()
    write(metrics, range(1, 300), value=lambda step: -step)
    assert read(index, metrics) == [(step, -step) for step in range(1, 300)]
    path.unlink()
    assert read(index, metrics) == []


def test_many_sets_of_metrics_are_read_as_well(tmp_path, index):
    """Somebody logs another set of metrics each step: 200 shapes."""
    log = MetricLog(tmp_path / "metrics", 0, "", print)
    for step in range(200):
        log.log(step, {"loss": float(step), f"odd/{step}": 1.0})
    log.close()
    assert read(index, tmp_path / "metrics", "loss") == [(step, float(step)) for step in range(200)]
    assert len(index.metrics("run")) == 201


@pytest.mark.parametrize("damage", ["garbage", "old", "empty", "middle"])
def test_a_damaged_or_old_index_is_made_anew(tmp_path, damage):
    metrics, place = tmp_path / "metrics", tmp_path / "index.sqlite"
    write(metrics, range(1, 5 * BLOCK))
    first = Index(place)
    read(first, metrics)
    first.close()
    for suffix in ("-wal", "-shm"):
        place.with_name(place.name + suffix).unlink(missing_ok=True)
    content = bytearray(place.read_bytes())
    if damage == "old":
        content[60:64] = (99).to_bytes(4, "big")  # where SQLite keeps user_version
    elif damage == "middle":
        content[16384:] = b"\xa5" * (len(content) - 16384)
    place.write_bytes({"garbage": b"no database at all" * 1000, "empty": b""}.get(damage, bytes(content)))
    second = Index(place)
    assert len(second.use(lambda: read(second, metrics))) == 5 * BLOCK - 1


def test_an_index_deleted_while_it_is_used_is_no_trouble(tmp_path, index):
    metrics = tmp_path / "metrics"
    write(metrics, range(1, 100))
    assert len(read(index, metrics)) == 99
    for path in tmp_path.glob("index.sqlite*"):
        path.unlink()
    found = []
    another = threading.Thread(target=lambda: found.append(len(index.use(lambda: read(index, metrics)))))
    another.start()
    another.join(60)
    assert found == [99]
    assert len(index.use(lambda: read(index, metrics))) == 99


def test_several_processes_read_one_run_at_once(tmp_path):
    """Four begin with no index while the run is written: each sees every point once, and the file stays whole."""
    metrics, place = tmp_path / "metrics", tmp_path / "index.sqlite"
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom polyana.tracking import Curves, Index\n"
        "index = Index(Path(sys.argv[1]))\n"
        "def look():\n"
        "    index.catch_up('run', Path(sys.argv[2]))\n"
        "    with index.snapshot():\n"
        "        return Curves(index, 'run').points('x')[0].tolist()\n"
        "end = time.monotonic() + 20\n"
        "while len(steps := index.use(look)) < 6000 and time.monotonic() < end:\n"
        "    assert steps == list(range(len(steps))), steps[:10]\n"
        "assert steps == list(range(6000)), len(steps)\n"
    )
    readers = [
        subprocess.Popen([sys.executable, "-c", code, str(place), str(metrics)], stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    log = MetricLog(metrics, 0, "", print)
    for step in range(6000):
        log.log(step, {"x": 1.0})
        if step % 100 == 0:
            time.sleep(0.01)
    log.close()
    for reader in readers:
        _, said = reader.communicate(timeout=60)
        assert reader.returncode == 0, said.decode()


def test_a_clock_that_goes_back_is_told(tmp_path, index):
    path = write(tmp_path / "metrics", range(1, 11))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows[6:]:
        row["time"] -= 3600
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(read(index, path.parent)) == 10
    assert "clock" in index.troubles("run")[0]


def test_records_of_every_kind(tmp_path, index):
    metrics = tmp_path / "metrics"
    log = MetricLog(metrics, 0, "", print)
    for step in (1, 2, 3):
        log.log(step, {"loss": 1.0})
        counts = [step] * 64
        log.histograms(step, {"weights/head": Histogram(-1.0, 1.0, counts, 0.25, 2.0)})
        log.text(step, "said", f"<b>{step}</b>")
        log.table(step, "errors", ["word", "times"], [["a", step]])
        log.image(step, "attention", f"media/{step}.png")
        log.event(step, "save", commit="abc")
    log.close()
    write(metrics, [2], resumes_at=1)
    index.catch_up("run", metrics)
    assert [index.names("run", kind) for kind in ("histograms", "text", "table", "image", "event")] == [
        ["weights/head"], ["said"], ["errors"], ["attention"], ["save"]
    ]  # fmt: skip
    (histogram,) = index.records("run", "histograms", "weights/head")  # steps 2 and 3 were done again
    assert (histogram["step"], histogram["counts"], histogram["zeros"]) == (1, [1] * 64, 0.25)
    assert index.records("run", "text", "said")[0]["value"] == "<b>1</b>"
    assert index.records("run", "table")[0]["rows"] == [["a", 1]]
    assert index.records("run", "image")[0]["file"] == "media/1.png"
    assert [row["step"] for row in index.records("run", "event")] == [1, 2, 3]
    assert set(read_curves(metrics)) == {"loss", "train/loss"}


def test_peaks_are_the_extremes_of_each_part(tmp_path, index):
    rng = np.random.default_rng(3)
    values = rng.normal(size=2 * BLOCK + 100)
    values[130] = np.nan
    values[192:256] = np.nan
    write(tmp_path / "metrics", range(len(values)), value=lambda step: values[step])
    index.catch_up("run", tmp_path / "metrics")
    (attempt,) = index.attempts("run")
    ((series, shape),) = index.strips(attempt.id, "train/loss")
    assert index.blocks(shape).counts_B.tolist() == [BLOCK, BLOCK, 100]
    peaks = index.peaks(series, 0, 2).reshape(-1)
    assert len(peaks) == 2 * BLOCK // PEAK  # of full blocks
    for place in range(len(peaks)):
        part = values[place * PEAK : (place + 1) * PEAK]
        if np.isnan(part).all():
            assert np.isnan(peaks[place]["low"])
            continue
        assert (peaks[place]["low"], peaks[place]["high"]) == (np.nanmin(part), np.nanmax(part))
        at = place * PEAK % BLOCK
        assert (peaks[place]["low_at"], peaks[place]["high_at"]) == (at + np.nanargmin(part), at + np.nanargmax(part))


def test_two_processes_read_a_long_file_as_one_does(tmp_path, index, monkeypatch):
    """Over many spans, with a header, records, a damaged line, a clock that jumps between spans and a torn end; also
    when the other process dies on its way."""
    metrics = tmp_path / "metrics"
    log = MetricLog(metrics, 0, "", print)
    for step in range(1, 20_001):
        log.log(step, {"a": step / 3, "b": -float(step)})
        if step % 5000 == 0:
            log.event(step, "save", message=f"number {step}")
    log.close()
    with log.path.open("ab") as file:
        file.write(b'{"step":1,\n{"step":20001,"a":1.5,"time":1.0}\n{"step":20002,"a":')
    index.catch_up("run", metrics)
    monkeypatch.setattr("polyana.tracking.index._LONG", 1 << 16)
    monkeypatch.setattr("polyana.tracking.parsing._SPAN", 1 << 16)
    others = []

    class Kept(_Other):
        def __init__(self, file):
            super().__init__(file)
            others.append(self)

    monkeypatch.setattr("polyana.tracking.parsing._Other", Kept)
    here, taken = [], []

    def slowly(*span):
        end = time.monotonic() + 60
        while not here and others[-1]._answers.empty() and time.monotonic() < end:
            time.sleep(0.01)  # the other process has time to begin
        time.sleep(0.05)  # and to do a part
        here.append(span)
        return read_lines(*span)

    monkeypatch.setattr("polyana.tracking.parsing.read_lines", slowly)
    monkeypatch.setattr("polyana.tracking.index.take_in", lambda *given: taken.append(given) or take_in(*given))
    for place, dies in (("together", False), ("alone", True)):
        other = Index(tmp_path / f"{place}.sqlite")

        def progress(_share, dies=dies):
            if dies:
                others[-1]._process.kill()

        monkeypatch.setattr("polyana.tracking.blocks.TRANSACTION", 1 << 16)
        monkeypatch.setattr("polyana.tracking.index.SHORT", 1 << 10)
        here.clear()
        taken.clear()
        other.catch_up("run", metrics, progress)
        assert len(taken) > 15
        assert dies or 2 < len(here) < len(taken) - 3
        for metric in ("a", "b"):
            ours, theirs = (Curves(each, "run").points(metric) for each in (other, index))
            np.testing.assert_array_equal(ours, theirs)
        for ask in ("troubles", "all_attempts", "metrics"):
            assert getattr(other, ask)("run") == getattr(index, ask)("run")
        assert other.records("run", "event") == index.records("run", "event")
    assert len(others) == 2
    assert all(each._process.poll() is not None for each in others)


def test_a_reading_that_was_broken_off_goes_on(tmp_path, monkeypatch):
    """The server is killed between two transactions; the file is not written to any more."""
    metrics = tmp_path / "metrics"
    write(metrics, range(1, 5000))
    monkeypatch.setattr("polyana.tracking.blocks.TRANSACTION", 1 << 16)
    monkeypatch.setattr("polyana.tracking.index.SHORT", 1 << 10)

    class Killed(Exception):
        pass

    def progress(_share):
        raise Killed

    with pytest.raises(Killed):
        Index(tmp_path / "index.sqlite").catch_up("run", metrics, progress)
    after = Index(tmp_path / "index.sqlite")
    assert len(read(after, metrics)) == 4999
    assert after.troubles("run") == []
