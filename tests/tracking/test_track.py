"""Runs of people's own scripts, through `polyana.track`."""

import json
import os
import signal
import struct
import subprocess
import sys
import textwrap
import zlib

import numpy as np
import pytest

from polyana import track
from polyana.errors import Busy, UserError
from polyana.tracking import find_runs, read_attempts, read_curves


@pytest.fixture(autouse=True)
def nothing_left_open():
    yield
    track.finish()


def script(code, *, home, code_wanted=0):
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=os.environ | {"POLYANA_HOME": str(home)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ended.returncode == code_wanted, ended.stderr
    return ended


def test_a_script_is_a_run_like_any_other(home, polyana):
    run = track.init("my experiment", "trial", config={"lr": 0.1, "model": {"layers": 2}}, tags=["a"], steps=10)
    assert run.name.startswith("my-experiment-trial-20")
    for step in range(1, 6):
        track.log({"train": {"loss": np.float32(1 / step)}, "eval/loss": 0.5, "flag": True}, step=step)
    listed = json.loads(polyana("runs", "--json").stdout)
    assert [(row["run"], row["status"], row["step"]) for row in listed] == [(run.name, "training", 5)]
    track.finish()
    (found,) = find_runs(home / "runs")
    assert found.status() == "finished"
    assert found.about()["settings"] == {"lr": 0.1, "model": {"layers": 2}}
    assert [step for step, _ in read_curves(found.metrics)["train/loss"]] == [1, 2, 3, 4, 5]
    assert json.loads((found.path / "notes.json").read_text())["tags"] == ["a"]


def test_steps_count_by_themselves_and_a_resumed_run_goes_on(home):
    name = track.init("p").name
    for _ in range(150):
        track.log({"loss": 1.0})
    track.finish("interrupted")
    track.init(resume="p-script")
    for step in range(101, 221):
        track.log({"loss": 2.0}, step=step)
    track.finish()
    (run,) = find_runs(home / "runs")
    assert run.name == name
    curve = read_curves(run.metrics)["loss"]
    assert [step for step, _ in curve] == list(range(1, 221))
    assert [value for _, value in curve] == [1.0] * 100 + [2.0] * 120
    assert [attempt.resumes_at for attempt in read_attempts(run.metrics)] == [0, 100]
    track.init(resume=name)
    track.log({"loss": 3.0})
    track.finish()
    assert read_curves(run.metrics)["loss"][-1] == (221, 3.0)


def test_spreads_pictures_tables_and_texts(home, tmp_path):
    import torch

    run = track.init("p")
    numbers = torch.cat([torch.zeros(25), torch.linspace(-1, 1, 75), torch.tensor([float("nan")])])
    pixels = np.zeros((4, 6, 3))
    pixels[1, 2] = [1.0, 0.5, 0.0]
    track.log({"w": track.Histogram(numbers), "picture": track.Image(pixels), "note": "so <b>far</b>"}, step=3)
    track.log({"scores": track.Table(["name", "value"], [["a", 1], ["b", None]])}, step=3)
    media = run.directory / "media" / "picture-3.png"
    track.log({"again": track.Image(media)}, step=4)
    track.finish()
    ((attempt,),) = (read_attempts(run.directory / "metrics"),)
    spread = attempt.rows[[("histograms" in row) for row in attempt.rows].index(True)]["histograms"]["w"]
    assert (sum(spread["counts"]), len(spread["counts"]), spread["low"], spread["high"]) == (100, 64, -1.0, 1.0)
    assert spread["zeros"] == pytest.approx(0.25)
    by_kind = {kind: row for row in attempt.rows for kind in ("image", "table", "text") if kind in row}
    assert by_kind["text"]["value"] == "so <b>far</b>"
    assert by_kind["table"]["rows"] == [["a", 1], ["b", None]]
    assert (run.directory / by_kind["image"]["file"]).read_bytes() == media.read_bytes()
    assert png_pixels(media) == [[[255, 128, 0] if (y, x) == (1, 2) else [0, 0, 0] for x in range(6)] for y in range(4)]


def png_pixels(path):
    """[height][width][channel], by the standard: whole chunks, colour type 2, each line behind filter type 0."""
    content, place, chunks = path.read_bytes(), 8, {}
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    while place < len(content):
        (length,) = struct.unpack_from(">I", content, place)
        kind, data = content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        assert struct.unpack_from(">I", content, place + 8 + length)[0] == zlib.crc32(kind + data)
        chunks[kind] = data
        place += 12 + length
    width, height, depth, colour, *_ = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (depth, colour) == (8, 2)
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + 3 * width)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(height, width, 3).tolist()


def test_what_was_logged_survives_sigkill_and_the_run_is_interrupted(home):
    code = """
        import os, signal
        from polyana import track
        track.init("p")
        for step in range(1, 1001):
            track.log({"loss": 1.0}, step=step)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    script(code, home=home, code_wanted=-signal.SIGKILL)
    (run,) = find_runs(home / "runs")
    assert run.status() == "interrupted"
    assert len(read_curves(run.metrics)["loss"]) == 1000


@pytest.mark.parametrize(
    ("end", "outcome", "code"),
    [("pass", "finished", 0), ("raise OSError('disk')", "failed", 1), ("raise KeyboardInterrupt", "interrupted", -2)],
)
def test_a_script_that_forgets_to_finish(home, end, outcome, code):
    script(
        f"from polyana import track\ntrack.init('p')\ntrack.log({{'loss': 1.0}})\n{end}", home=home, code_wanted=code
    )
    (run,) = find_runs(home / "runs")
    assert run.status() == outcome


def test_importing_it_imports_no_torch(home):
    script("import sys\nimport polyana.track\nassert 'torch' not in sys.modules", home=home)


def test_mistakes_are_said(home):
    with pytest.raises(UserError, match="there is no run `nothing`"):
        track.init(resume="nothing")
    run = track.init("p")
    with pytest.raises(TypeError, match="`loss` is list"):
        track.log({"loss": [1, 2]})
    code = f"from polyana import track\ntrack.init(resume={run.name!r})"
    assert Busy.__name__ in script(code, home=home, code_wanted=1).stderr
    track.finish()
    with pytest.raises(RuntimeError, match=r"track\.init begins"):
        track.log({"loss": 1})
    with pytest.raises(RuntimeError, match="is finished"):
        run.log({"loss": 1})
    with pytest.raises(UserError, match="sink"):
        track.init("p", sinks=["nowhere"])


def test_a_block_that_fails_ends_the_run_as_failed(home):
    with pytest.raises(ZeroDivisionError), track.init("p") as run:
        run.log({"loss": 1 / 0})
    (found,) = find_runs(home / "runs")
    assert found.status() == "failed"


def test_sinks_of_a_script(home):
    with track.init("p", sinks=["csv"]) as run:
        run.log({"loss": 1.5}, step=1)
    assert (run.directory / "metrics.csv").read_text().splitlines()[1].endswith(",1.5")


def test_the_dashboard_lists_it(home):
    from polyana.dashboard.runs import Catalogue
    from polyana.tracking import Index

    with track.init("p", "q", config={"model": {"layers": 2}}) as run:
        run.log({"train/loss": 1.5, "note": "x"}, step=7)
    catalogue = Catalogue(home, Index(home / "index.sqlite"))
    catalogue.look()
    (row,) = catalogue.summaries()
    assert (row["name"], row["recipe"], row["stage"], row["status"], row["step"]) == (run.name, "p", "q", "finished", 7)
    assert row["config"] == {"model.layers": 2}
    assert catalogue.troubles() == []
    detail = catalogue.detail(run.name)
    assert (detail["metrics"], detail["texts"], detail["troubles"]) == (["train/loss"], ["note"], [])
