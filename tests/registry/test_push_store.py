"""Registries elsewhere: the real s3fs client at moto's S3, fsspec's memory, a renaming file system, a directory."""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pytest
from blake3 import blake3
from fsspec.implementations.local import LocalFileSystem
from saves import make_run, make_save

from polyana.errors import Damaged, UserError
from polyana.registry import Ranking, Repository, parse_target, pull, push
from polyana.registry.patience import Patience
from polyana.registry.store import StoredRepository
from polyana.registry.verify import verify

RUN = "demo-pretrain-2026-11-22_01.02.03"
ROOT = f"shared/registry/models--polyana--{RUN}"
S3 = "s3://shared/registry"
TESTS = str(Path(__file__).parent.parent)  # where saves.py is


@pytest.fixture
def bucket(s3_server):
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    store = s3fs.S3FileSystem()
    if store.exists("shared"):
        store.rm("shared", recursive=True)
    store.mkdir("shared")
    yield store
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def run(tmp_path):
    """Begun by an earlier version."""
    return make_run(tmp_path / "hub", sha256=(100,))


@pytest.fixture(params=["s3", "memory", "rename"])
def place(request, tmp_path):
    """The address of an empty place, and what reads it."""
    if request.param == "s3":
        return S3, request.getfixturevalue("bucket")
    if request.param == "memory":
        store = fsspec.filesystem("memory")
        store.store.clear()
        store.pseudo_dirs[:] = [""]
        return "memory://shared/registry", store
    (tmp_path / "shared").mkdir()
    return f"dir://{tmp_path}", Renaming()


class Renaming(LocalFileSystem):
    """As sftp or smb: files are written in place and renamed."""

    protocol = ("dir",)
    cachable = False

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("dir://") if isinstance(path, str) else path)


fsspec.register_implementation("dir", Renaming, clobber=True)


def check_whole(store, address, run):
    """The same layout, each file under its checksum, nothing else."""
    root = f"{store._strip_protocol(address)}/models--polyana--{run.run}"
    store.invalidate_cache()
    found = {path.removeprefix(f"{root}/") for path in store.find(root)}
    digests = {digest for commit in run.commits() for digest in commit.files.values()}
    assert found == {
        *(f"blobs/{digest}" for digest in digests),
        *(f"snapshots/{commit.id}/commit.json" for commit in run.commits()),
        *(f"refs/{name}" for name in run.refs()),
    }
    for digest in digests:
        content = store.cat_file(f"{root}/blobs/{digest}")
        assert digest in (f"blake3-{blake3(content).hexdigest()}", hashlib.sha256(content).hexdigest())
    assert {name: store.cat_file(f"{root}/refs/{name}").decode() for name in run.refs()} == run.refs()
    for commit in run.commits():
        assert json.loads(store.cat_file(f"{root}/snapshots/{commit.id}/commit.json"))["files"] == commit.files


def test_a_registry_elsewhere_has_the_same_layout(place, run, tmp_path):
    address, store = place
    done = push(run, parse_target(address))
    assert [commit.step for commit in done.new] == [100, 200, 300]
    check_whole(store, address, run)
    again = push(run, parse_target(address))
    assert (list(again.new), list(again.refs)) == ([], [])
    make_save(run, 400)
    assert [commit.step for commit in push(run, parse_target(address)).new] == [400]
    check_whole(store, address, run)
    pulled = pull(tmp_path / "other", f"{address}/demo-pretrain@best")
    assert pulled.commit == run.resolve("best")
    there = Repository(tmp_path / "other", run.run)
    there.snapshot(pulled.commit)
    assert there.refs() == dict.fromkeys(("best", "main", "step-200"), pulled.commit.id)
    assert [commit.step for commit in pull(tmp_path / "other", address, history=True).new] == [100, 300, 400]
    assert there.commits() == run.commits()
    assert there.refs() == run.refs()


def evaluate(repository, commit, value, suite="lm-eval:arc"):
    repository.record_evaluation(commit, suite, {"metrics": {"acc": {"value": value}}}, [{"acc": value}])


def test_evaluations_go_where_their_commit_goes(place, run, tmp_path):
    """The newest on each side stays; what is not known there is brought back."""
    exchange_evaluations(place[0], run, tmp_path)


def test_evaluations_go_with_their_commit_to_a_directory(run, tmp_path):
    exchange_evaluations(str(tmp_path / "shared"), run, tmp_path)


def exchange_evaluations(address, run, tmp_path):
    commit, later = run.resolve("step-200"), run.resolve("step-300")
    evaluate(run, commit, 0.1)
    push(run, parse_target(address))
    evaluate(run, commit, 0.25)
    evaluate(run, later, 0.5, suite="../mine")
    push(run, parse_target(address))
    pulled = pull(tmp_path / "other", f"{address}/{run.run}", history=True)
    there = Repository(tmp_path / "other", pulled.run)
    for each, suite in ((commit, "lm-eval:arc"), (later, "../mine")):
        assert there.evaluations(each) == run.evaluations(each) != {}
        assert there.evaluation_items(each, suite) == run.evaluation_items(each, suite) != []
    evaluate(there, commit, 0.75)
    evaluate(there, later, 0.8, suite="perplexity")
    pull(tmp_path / "other", f"{address}/{run.run}", history=True)
    assert there.evaluations(commit)["lm-eval:arc"]["metrics"]["acc"]["value"] == 0.75
    push(there, parse_target(address))
    pull(tmp_path / "hub", f"{address}/{run.run}", history=True)
    assert set(run.evaluations(later)) == {"../mine", "perplexity"}
    assert run.evaluations(commit)["lm-eval:arc"]["metrics"]["acc"]["value"] == 0.25


def test_what_best_is_picked_by_goes_where_best_goes(place, run, tmp_path):
    """To an address, to a directory and back; what somebody has picked here moves only with `best`."""
    gold, later = Ranking("gold/reward", lowest=False), make_save(run, 400)
    for number, address in enumerate((place[0], str(tmp_path / "directory"))):
        run.set_ref("best", run.resolve("step-200").id)
        run.rank_by(Ranking())
        push(run, parse_target(address), "step-300")
        run.rank_by(gold)
        run.set_ref("best", later.id)
        push(run, parse_target(address), "step-300")  # `best` is not among these
        there = Repository(tmp_path / f"other {number}", run.run)
        pull(there.path.parent, f"{address}/{run.run}@best")
        assert (there.resolve("best").step, there.ranking()) == (200, Ranking())
        push(run, parse_target(address))
        pull(there.path.parent, f"{address}/{run.run}@step-100")
        assert (there.resolve("best").step, there.ranking()) == (200, Ranking())
        pull(there.path.parent, f"{address}/{run.run}", history=True)
        assert (there.resolve("best").step, there.ranking()) == (400, gold)
        there.rank_by(Ranking("eval/accuracy", lowest=False))
        pull(there.path.parent, f"{address}/{run.run}", history=True)
        assert there.ranking().metric == "eval/accuracy"
        pull(tmp_path / f"new {number}", f"{address}/{run.run}@step-100")
        assert Repository(tmp_path / f"new {number}", run.run).ranking() == gold


def test_what_others_wrote_as_a_ranking_is_no_error(bucket, run, tmp_path):
    run.rank_by(Ranking("gold/reward", lowest=False))
    push(run, parse_target(S3))
    broken = (b"{", b"[]", b'{"metric": 3}', b'{"metric": "x", "lowest": "no"}', b'{"more": 1}')
    for number, content in enumerate(broken):
        bucket.pipe_file(f"{S3}/models--polyana--{run.run}/ranking.json", content)
        pull(tmp_path / f"one {number}", f"{S3}/{run.run}@best")
        push(run, parse_target(S3))
        pull(tmp_path / f"other {number}", f"{S3}/{run.run}@best")
        assert Repository(tmp_path / f"other {number}", run.run).ranking() == run.ranking()


def test_a_directory_is_a_registry_that_other_tools_read(run, tmp_path):
    from huggingface_hub import snapshot_download

    target = parse_target(str(tmp_path / "shared"))
    assert [commit.step for commit in push(run, target, "step-200").new] == [100, 200]
    assert [commit.step for commit in push(run, target).new] == [300]
    assert list(push(run, target).new) == []
    there = Repository(tmp_path / "shared", run.run)
    assert (there.commits(), there.refs()) == (run.commits(), run.refs())
    found = snapshot_download(
        f"polyana/{run.run}", revision="best", cache_dir=tmp_path / "shared", local_files_only=True
    )
    assert found == str(there.path / "snapshots" / run.resolve("best").id)
    assert pull(tmp_path / "third", f"{tmp_path}/shared/{run.run}@step-100").commit == run.resolve("step-100")
    with pytest.raises(UserError, match="is where this registry lies"):
        push(run, parse_target(str(tmp_path / "hub")))


def test_main_shows_the_furthest_whoever_comes_last(bucket, run, tmp_path):
    behind = make_run(tmp_path / "behind", steps=(100, 200), sha256=(100,))
    push(run, parse_target(S3))
    done = push(behind, parse_target(S3))
    assert list(done.new) == []
    assert bucket.cat_file(f"{ROOT}/refs/main").decode() == run.refs()["main"]
    ahead = make_run(tmp_path / "ahead", steps=(100, 200, 300, 400), sha256=(100,))
    assert "main" in push(ahead, parse_target(S3), "step-400").refs
    assert bucket.cat_file(f"{ROOT}/refs/main").decode() == ahead.refs()["main"]


def test_of_two_who_move_a_ref_one_looks_again(bucket, run, monkeypatch):
    push(run, parse_target(S3), "step-100")
    stored = StoredRepository(parse_target(S3), run.run, Patience(5, print))
    ids = {commit.step: commit.id for commit in run.commits()}
    stored.send(run, run.commits(), lambda _: None)
    swap, calls = StoredRepository._swap, []

    def late(self, path, content, old, tag):
        """Somebody else writes between the look and the write."""
        calls.append(content)
        if len(calls) == 1:
            bucket.pipe_file(f"{ROOT}/{path}", ids[300].encode())
        return swap(self, path, content, old, tag)

    monkeypatch.setattr(StoredRepository, "_swap", late)
    moved = stored.point({"main": ids[200]}, {ids[step]: step for step in (100, 200)})
    assert (calls, moved) == ([ids[200]], [])  # it has lost, looked again and found that main is further
    assert bucket.cat_file(f"{ROOT}/refs/main").decode() == ids[300]
    calls.clear()
    bucket.rm(f"{ROOT}/refs/best") if bucket.exists(f"{ROOT}/refs/best") else None
    assert stored.point({"best": ids[200]}, {}) == ["best"]
    assert calls == [ids[200], ids[200]]  # lost once, for somebody had made it; then moved


def test_what_is_damaged_there_is_a_letter_and_mended_by_a_push(place, run, tmp_path):
    address, store = place
    push(run, parse_target(address))
    commit = run.resolve("best")
    root = f"{store._strip_protocol(address)}/models--polyana--{run.run}"
    blob = f"{root}/blobs/{commit.files['model.safetensors']}"
    whole = store.cat_file(blob)
    store.pipe_file(blob, b"x" + whole[1:])
    with pytest.raises(Damaged, match=r"is damaged: its checksum is not its name\. Delete it there, and push demo-"):
        pull(tmp_path / "other", f"{address}/{RUN}@best")
    assert Repository(tmp_path / "other", RUN).commits() == []
    store.rm_file(blob)
    store.pipe_file(f"{root}/snapshots/{commit.id}/commit.json", b'{"id": "torn')
    with pytest.raises(UserError, match="has no revision `best`"):
        pull(tmp_path / "other", f"{address}/{RUN}@best")
    assert [each.step for each in push(run, parse_target(address)).new] == [200]
    check_whole(store, address, run)
    assert pull(tmp_path / "other", f"{address}/{RUN}@best").commit == commit


def test_letters(bucket, run, tmp_path):
    push(run, parse_target(S3))
    with pytest.raises(UserError, match=rf"{RUN} in {S3} has no revision `step-7`; it has: best, main, step-100"):
        pull(tmp_path / "other", f"{S3}/{RUN}@step-7")
    with pytest.raises(UserError, match=f"{S3} holds no run `nothing`; it has: {RUN}"):
        pull(tmp_path / "other", f"{S3}/nothing")
    push(make_run(tmp_path / "hub", run="other-sft-2026-11-23_01.02.03"), parse_target(S3))
    with pytest.raises(UserError, match=f"{S3} holds several runs; write {S3}/RUN with one of: {RUN}, other-sft"):
        pull(tmp_path / "other", S3)
    assert pull(tmp_path / "other", f"{S3}/other-sft@best").run == "other-sft-2026-11-23_01.02.03"
    with pytest.raises(UserError, match="pushing to s3://no-such-bucket/a: "):
        push(run, parse_target("s3://no-such-bucket/a"))
    with pytest.raises(UserError, match=r"`nope://a/b` is no address that can be reached"):
        push(run, parse_target("nope://a/b"))


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("hub:name", "names no repository of the Hub: write `hub:org/name`"),
        ("org/name", "write `hub:org/name` for the Hub, or `./org/name` for a directory"),
        ("somewhere", "is no place to push to; write `hub:org/name`, `s3://bucket/path`"),
        ("sftp://me:secret@host/path", "leave the password out of the address"),
        ("", "is no place to push to"),
    ],
)
def test_a_target_that_is_none(text, letter):
    with pytest.raises(UserError, match=letter) as raised:
        parse_target(text)
    assert "secret" not in str(raised.value)


# ---- several machines


MACHINE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from saves import make_run
from polyana.registry import parse_target, push, pull
what, place, address, steps = sys.argv[2:6]
if what == "push":
    run = make_run(Path(place), steps=[int(step) for step in steps.split(",")], best=int(steps.split(",")[0]))
    for commit in run.commits():
        push(run, parse_target(address), commit.id)
else:
    while True:
        pulled = pull(Path(place), address + "/demo-pretrain", history=True)
        print(pulled.commit.step, len(pulled.new), flush=True)
        if pulled.commit.step == int(steps):
            break
"""


def machine(what, place, steps):
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", MACHINE, TESTS, what, str(place), S3, steps],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_two_machines_push_and_a_third_pulls_meanwhile(bucket, tmp_path):
    """Each trains the same run from the same start, on steps of its own; both know step 100."""
    one = machine("push", tmp_path / "one", ",".join(str(step) for step in (100, *range(210, 300, 20))))
    two = machine("push", tmp_path / "two", ",".join(str(step) for step in (100, *range(220, 301, 20))))
    deadline = time.monotonic() + 60
    while not bucket.exists(f"{ROOT}/refs/main") and time.monotonic() < deadline:
        time.sleep(0.02)
        bucket.invalidate_cache()
    three = machine("pull", tmp_path / "three", "300")
    for process in (one, two, three):
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert int(out.split()[0]) < 300  # it has pulled before all was there
    stored = StoredRepository(parse_target(S3), RUN, Patience(5, print))
    mine, yours = (Repository(tmp_path / name, RUN) for name in ("one", "two"))
    assert {commit.id for commit in stored.commits()} == {commit.id for commit in [*mine.commits(), *yours.commits()]}
    refs = stored.refs()
    assert refs["main"] == yours.refs()["main"]  # the furthest
    assert refs == mine.refs() | yours.refs() | {"best": refs["best"]}
    for commit in stored.commits():
        pulled = pull(tmp_path / "four", f"{S3}/{RUN}@{commit.id}")
        Repository(tmp_path / "four", RUN).snapshot(pulled.commit)
    three = Repository(tmp_path / "three", RUN)
    for commit in three.commits():
        three.snapshot(commit)
    assert three.refs()["main"] == refs["main"]


def test_a_full_disk_on_the_other_side_is_a_letter_and_keeps_nothing_for_it(tmp_path, small_disk, polyana, monkeypatch):
    monkeypatch.setenv("POLYANA_HOME", str(tmp_path / "home"))
    repository = Repository(tmp_path / "home" / "hub", RUN)
    first = make_save(repository, 100)
    make_save(repository, 200, size=3_000_000)
    (small_disk / "full").write_bytes(bytes(2_000_000))
    said = polyana("models", "push", RUN, small_disk / "shared", check=1).stderr
    assert "No space left on device. Free some room and run this again" in said
    assert said.startswith(str(small_disk)), "the disk that is full is named"
    assert repository.pins() == {first.id: {f"pushed:{small_disk / 'shared'}"}}
    there = Repository(small_disk / "shared", RUN)
    assert [commit.id for commit in there.commits()] == [first.id]
    assert there.refs() == {} or set(there.refs().values()) == {first.id}
    (small_disk / "full").unlink()
    assert "1 commit of" in polyana("models", "push", RUN, small_disk / "shared").stdout
    assert there.refs() == repository.refs()
    assert not list(verify(there))


def test_a_pull_onto_a_full_disk_leaves_no_run_behind(tmp_path, small_disk, polyana, monkeypatch):
    make_save(Repository(tmp_path / "shared", RUN), 100, size=3_000_000)
    monkeypatch.setenv("POLYANA_HOME", str(small_disk / "home"))
    (small_disk / "full").write_bytes(bytes(2_000_000))
    said = polyana("models", "pull", f"./shared/{RUN}", check=1).stderr
    assert said.startswith(str(small_disk))
    assert "No space left on device" in said
    assert not list((small_disk / "home" / "hub").iterdir())
    (small_disk / "full").unlink()
    assert "1 commit pulled" in polyana("models", "pull", f"./shared/{RUN}").stdout


def test_a_place_without_runs_is_a_letter(tmp_path, polyana):
    said = polyana("models", "pull", "./nothing", check=2).stderr
    assert "nothing holds no runs: name a directory that runs were pushed to, or a run in one" in said


KILLED = (
    MACHINE[: MACHINE.index("what, place")]
    + """
run = __import__("polyana.registry").registry.Repository(Path(sys.argv[2]), sys.argv[3])
push(run, parse_target(sys.argv[4]))
"""
)


@pytest.mark.parametrize("rounds", [4, pytest.param(40, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_killed_at_any_moment_readers_find_whole_commits(bucket, tmp_path, rounds):
    run = make_run(tmp_path / "hub", steps=range(100, 1300, 100))
    stored = StoredRepository(parse_target(S3), RUN, Patience(5, print))
    for number in range(rounds):
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", KILLED, TESTS, str(tmp_path / "hub"), RUN, S3],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
        objects = len(bucket.find("shared"))
        while process.poll() is None and len(bucket.find("shared")) < objects + 3 + number % 7:
            time.sleep(0.02)  # the server works in this process, too, and comes to it only while this one waits
            bucket.invalidate_cache()
        process.kill()
        process.wait()
        for commit in stored.commits():
            for name in commit.files:
                stored.fetch(commit, name, tmp_path / "fetched")
        assert set(stored.refs().values()) <= stored.ids()
    push(run, parse_target(S3))
    check_whole(bucket, S3, run)
