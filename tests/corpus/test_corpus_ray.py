"""The mill's tasks on Ray: the same bytes, kills, letters; a cluster of this machine and one that was there before."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from test_corpus_mill import Run, build, config_of, small_shards, sources, stressed, tasks_of, undisturbed

from polyana.corpus.executor import Executor, Task
from polyana.corpus.stage import WorkConfig
from polyana.errors import PolyanaError

__all__ = ["small_shards", "sources", "stressed", "undisturbed"]  # fixtures

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'polyana[ray]'")

CODE = os.pathsep.join(map(str, (Path(__file__).parents[2], Path(__file__).parent)))
ON_RAY = ("--set", "stages.corpus.work.executor=ray")


@pytest.fixture(autouse=True)
def without_a_cluster(monkeypatch):
    """But for those that a test begins. Its processes find what tests define."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # they are of one machine, and of this test alone
    monkeypatch.setenv("PYTHONPATH", CODE)


@pytest.mark.slow
def test_ray_changes_no_byte_and_leaves_nothing_behind(sources, undisturbed, tmp_path, small_shards, capfd):
    import ray
    from psutil import Process

    before, on_end = Process().children(recursive=True), signal.getsignal(signal.SIGTERM)
    work = {"executor": "ray", "workers": 2}
    assert build(config_of(work=work), sources, tmp_path / "corpus") == undisturbed
    assert not ray.is_initialized()
    assert signal.getsignal(signal.SIGTERM) is on_end
    assert Process().children(recursive=True) == before
    assert capfd.readouterr() == ("", "")


def kill_once(target):
    """The process that does this first."""
    if not target.exists():
        target.write_text("was here")
        os.kill(os.getpid(), signal.SIGKILL)
    return target.read_text(), [target]


def miss(target):
    return target.read_text(), []


@pytest.mark.slow
def test_a_task_that_fails_on_ray_is_a_letter_or_done_again(tmp_path):
    with Executor("ray", workers=2) as executor:
        executor.run(tasks_of(tmp_path, "first"))
        with pytest.raises(PolyanaError, match=r"^a letter of its own$"):
            executor.run(tasks_of(tmp_path, "first", "second", "letter"))
        began = (tmp_path / "0-first.json").stat().st_mtime_ns
        with pytest.raises(PolyanaError, match=r"a process of the mill was killed(?s:.*)Ray says: \S"):
            executor.run(tasks_of(tmp_path, "first", "second", "killed"))
        with pytest.raises(FileNotFoundError) as caught:
            executor.run([Task(tmp_path / "miss.json", miss, (tmp_path / "nowhere",))])
        assert "in miss" in str(caught.value.__cause__)  # where it happened
        assert executor.run([Task(tmp_path / "killed.json", kill_once, (tmp_path / "once",))]) == ["was here"]
        assert executor.run(tasks_of(tmp_path, "first", "second", "third")) == ["first", "second", "third"]
        assert (tmp_path / "0-first.json").stat().st_mtime_ns == began


def _title(process):
    from psutil import NoSuchProcess

    try:
        return " ".join(process.cmdline())
    except NoSuchProcess:  # it ends just now
        return ""


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["all", "parent", "child"])
def test_a_run_on_ray_that_was_killed_goes_on_and_makes_the_same(stressed, tmp_path, whom):
    from psutil import Process, wait_procs

    base, expected, notes = stressed
    run, draws = Run(base, tmp_path / "home", *ON_RAY), random.Random(whom)
    process = run.start()
    moment, workers, working = draws.randrange(1, notes - 3), [], []
    while process.poll() is None and (len(run.notes()) < moment or not working):
        titles = {each: _title(each) for each in Process(process.pid).children(recursive=True)}
        workers = [each for each, title in titles.items() if title.startswith(("ray::run", "ray::IDLE"))]
        working = [each for each in workers if titles[each].startswith("ray::run")]
        time.sleep(0.02)
    assert process.poll() is None, process.stderr.read()
    if whom == "child":
        draws.choice(working).kill()
        _, err = process.communicate(timeout=100)
        assert process.returncode == 0, err
        assert run.finish() == expected
        return
    if whom == "all":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate(timeout=60)
    before = run.notes()
    _, alive = wait_procs(workers, timeout=10)
    assert not alive  # so none writes what the next run writes; Ray's own processes may take a minute
    assert run.finish() == expected
    after = run.notes()
    assert len(after) == notes
    assert {path: when for path, when in before.items() if "shards" not in str(path)}.items() <= after.items()


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A machine with a working directory of its own, and a directory that is another one there: its address, this."""
    place, port = tmp_path_factory.mktemp("cluster"), free_port()
    (place / "own").mkdir()
    script = Path(sys.executable).with_name("ray")
    begin = f"exec {script} start --head --block --port {port} --num-cpus 2 --include-dashboard=false"
    private = os.geteuid() == 0 and shutil.which("unshare") is not None
    mount = f"mount -t tmpfs -o size=1m none {place / 'own'} && " if private else ""
    process = subprocess.Popen(
        [*(["unshare", "-m"] if private else []), "sh", "-c",
         f"{mount}{begin} --disable-usage-stats --object-store-memory 80000000"],
        cwd=place, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=os.environ | {"RAY_AUTH_MODE": "disabled", "PYTHONPATH": CODE},
    )  # fmt: skip
    over = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < over
            time.sleep(0.2)
    yield f"127.0.0.1:{port}", place / "own" if private else None
    process.terminate()
    process.wait(60)


@pytest.mark.slow
def test_a_cluster_that_is_there_makes_the_same(stressed, cluster, tmp_path):
    base, expected, _ = stressed
    run = Run(base, tmp_path / "home", *ON_RAY, "--set", "stages.corpus.work.workers=auto", RAY_ADDRESS=cluster[0])
    assert run.finish() == expected


@pytest.mark.slow
def test_a_cluster_that_is_not_named_is_left_alone(cluster, tmp_path, monkeypatch):
    import ray

    with Executor("ray", workers=1) as executor:
        assert executor.run(tasks_of(tmp_path, "first")) == ["first"]
        assert ray.get_runtime_context().gcs_address.rpartition(":")[2] != cluster[0].rpartition(":")[2]


@pytest.mark.slow
def test_machines_that_see_other_files_are_a_letter(cluster, tmp_path, monkeypatch):
    address, own = cluster
    if own is None:
        pytest.skip("only root can give a process other files")
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr("polyana.corpus.cluster._PATIENCE", 1.0)
    (own / "seen").write_text("here alone")
    with Executor("ray", workers=2) as executor:
        with pytest.raises(PolyanaError, match=f"a machine of the Ray cluster does not see {own / 'seen'}: all"):
            executor.run([Task(tmp_path / "miss.json", miss, (own / "seen",))])
        with pytest.raises(PolyanaError, match=f"this machine does not see {own / '0-first.json'}: all"):
            executor.run(tasks_of(own, "first"))


def test_a_cluster_that_does_not_answer_is_a_letter(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    with Executor("ray") as executor, pytest.raises(PolyanaError, match="no Ray cluster answers at RAY_ADDRESS=127"):
        executor.run(tasks_of(tmp_path, "first"))
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    with Executor("ray") as executor, pytest.raises(PolyanaError, match="Ray does not begin at `nonsense`: Invalid"):
        executor.run(tasks_of(tmp_path, "first"))


def test_of_a_cluster_all_cores_are_used(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert WorkConfig(executor="ray").processes() > 10_000
    assert WorkConfig(executor="ray", workers=3).processes() == 3
    assert WorkConfig().processes() == len(os.sched_getaffinity(0))
