"""Pushing to and pulling from the Hub: the real huggingface_hub client against a stand-in on the loopback interface."""

import hashlib
import json
import signal
import subprocess
import sys
import time

import pytest
from blake3 import blake3
from exchanging import Worker, environment
from hub_stand_in import SIGNATURE, TOKEN, Fault, HubRepository, git_hash
from saves import make_run, make_save

from polyana.registry import Ranking, Repository
from polyana.registry.verify import verify
from polyana.storage import has_checksum, sha256_of

NAME, TARGET = "org/demo", "hub:org/demo"
COMMIT = f"POST /api/models/{NAME}/commit/main"


@pytest.fixture(scope="module")
def worker(hub_server, tmp_path_factory):
    worker = Worker(hub_server.address, tmp_path_factory.mktemp("worker"))
    yield worker
    worker.close()


@pytest.fixture
def hub(hub_server):
    hub_server.reset()
    return hub_server


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "hub")


def history(repository):
    return [(commit.id, commit.message.splitlines()[0]) for commit in repository.commits()]


def files_of(repository, revision):
    commit = repository.resolve(revision)
    return {name: repository.blob(commit, name).read_bytes() for name in commit.files}


def check_whole(hub, run, name=NAME, revision="main"):
    """The Hub has each save once, in order, with just its files; and its refs."""
    assert hub.saves(name, revision) == history(run)
    saves = [commit for commit in hub.repositories[name].history(revision) if "Polyana-Commit" in commit.message]
    for there, here in zip(saves, run.commits(), strict=True):
        assert set(there.tree) == {*here.files, "commit.json", ".gitattributes"}
        for path, digest in here.files.items():
            content = hub.content(name, there.id, path)
            assert digest in (f"blake3-{blake3(content).hexdigest()}", hashlib.sha256(content).hexdigest())
            about = json.loads(hub.content(name, there.id, "commit.json"))
            assert about["sha256"][path] == hashlib.sha256(content).hexdigest()
            assert (about["id"], about["files"]) == (here.id, here.files)
    own = {here.id: there.id for there, here in zip(saves, run.commits(), strict=True)}
    assert hub.repositories[name].tags == {ref: own[at] for ref, at in run.refs().items() if ref != "main"}


def test_a_save_is_a_commit_and_a_ref_is_a_tag(hub, worker, run):
    done = worker.push(run, TARGET)
    assert (done["error"], done["new"]) == (None, [100, 200, 300])
    assert done["refs"] == ["best", "step-100", "step-200", "step-300"]
    check_whole(hub, run)
    assert hub.repositories[NAME].private
    text = hub.repositories[NAME].history()[2].message
    assert text.startswith("step 200, 2,000 tokens, epoch 2; eval/loss 1")
    same = blake3(b'{"same": "in every save"}').hexdigest()
    assert [commit.files["tokenizer.json"] for commit in run.commits()] == [f"blake3-{same}"] * 3
    assert len(hub.uploads) == 3  # of three weights; what did not change is not sent again
    pinned = run.pins()
    assert all("pushed:hub:org/demo" in pinned[commit.id] for commit in run.commits())


def test_saves_of_earlier_versions_and_later_ones_are_one_history(hub, worker, tmp_path):
    """Their files are known by SHA-256."""
    run = make_run(tmp_path / "hub", sha256=(100, 200))
    assert len(run.commits()[0].files["model.safetensors"]) == 64
    assert worker.push(run, TARGET)["error"] is None
    check_whole(hub, run)
    assert worker.pull(tmp_path / "other", TARGET, history=True)["error"] is None
    there = Repository(tmp_path / "other", run.run)
    assert there.commits() == run.commits()
    assert not list(verify(there))


def test_evaluations_are_in_the_commit_of_their_save(hub, worker, run, tmp_path):
    commit = run.resolve("step-200")
    run.record_evaluation(commit, "lm-eval:arc/50%", {"metrics": {"acc": {"value": 0.5}}}, [{"acc": 1}, {"acc": 0}])
    assert worker.push(run, TARGET)["error"] is None
    trees = [set(each.tree) for each in hub.repositories[NAME].history() if "Polyana-Commit" in each.message]
    kept = {"evaluations/lm-eval%3Aarc%2F50%25.json", "evaluations/lm-eval%3Aarc%2F50%25.items.gz"}
    assert [tree & kept for tree in sorted(trees, key=len)] == [set(), set(), kept]
    assert worker.pull(tmp_path / "other", TARGET, history=True)["error"] is None
    there = Repository(tmp_path / "other", run.run)
    assert there.commits() == run.commits()
    assert there.evaluations(commit) == run.evaluations(commit) != {}
    assert there.evaluation_items(commit, "lm-eval:arc/50%") == [{"acc": 1}, {"acc": 0}]
    assert worker.push(run, TARGET)["new"] == []


def test_pushed_again_nothing_is_sent_and_only_what_is_missing_later(hub, worker, run):
    worker.push(run, TARGET, "step-200")
    assert [title for _, title in hub.saves(NAME)] == ["step 100 of 900", "step 200 of 900"]
    before = dict(hub.repositories[NAME].commits)
    hub.asked.clear()
    again = worker.push(run, TARGET, "step-200")
    assert (again["new"], again["refs"], again["error"]) == ([], [], None)
    assert not [line for line in hub.asked if line.startswith(("POST", "PUT", "DELETE"))]
    assert hub.repositories[NAME].commits == before
    make_save(run, 400, eval_loss=0.5)
    run.set_ref("best", run.resolve("step-400").id)
    later = worker.push(run, TARGET)
    assert later["new"] == [300, 400]
    assert later["refs"] == ["best", "step-300", "step-400"]
    check_whole(hub, run)


def test_what_a_save_no_longer_has_goes_and_a_history_of_many_pages_is_read(hub, worker, tmp_path):
    run = make_run(tmp_path / "hub", steps=range(100, 900, 100))
    files = run.arriving(900)
    (files / "adapter_model.safetensors").write_bytes(b"of another form")
    run.commit(files, step=900, tokens=1, epoch=9, message="another form\n\nwith a reason", metrics={}, recipe="0123")
    for _ in range(2):
        assert worker.push(run, TARGET)["error"] is None
        check_whole(hub, run)
    assert hub.repositories[NAME].history()[-1].title == "another form"
    assert "with a reason" in hub.repositories[NAME].history()[-1].message


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(COMMIT, status=429, headers={"Retry-After": "1"}, times=2)],
        [Fault(COMMIT, status=429, headers={"ratelimit": '"api";r=0;t=1'})],
        [Fault(COMMIT, status=503, times=2), Fault(COMMIT, status=500)],
        [Fault(COMMIT, before=True), Fault("POST /api/repos/create", before=True)],
        [Fault(COMMIT, after=True), Fault(COMMIT, after=True)],
        [Fault("POST /api/repos/create", after=True), Fault("POST .*/tag/", after=True, times=2)],
        [Fault("PUT /lfs/", before=True), Fault("PUT /lfs/", status=403)],
        [Fault("GET .*/commits/", status=502), Fault("GET .*/refs", before=True), Fault("GET .*/tree/", status=503)],
        [Fault(COMMIT, slow=1.0), Fault("DELETE .*/tag/", after=True)],
    ],
    ids=["429", "ratelimit", "5xx", "dropped", "answer lost", "other answers lost", "uploads", "reading", "slow"],
)
def test_whatever_goes_wrong_each_save_is_there_once(hub, worker, run, faults):
    if any("DELETE" in fault.where for fault in faults):
        run.set_ref("best", run.resolve("step-100").id)
        worker.push(run, TARGET, "step-100")
        run.set_ref("best", run.resolve("step-200").id)
    hub.faults = faults
    done = worker.push(run, TARGET)
    assert done["error"] is None
    assert hub.faults == []
    check_whole(hub, run)
    assert len(done["said"]) <= 3


def test_the_server_says_how_long_to_wait(hub, worker, run):
    hub.faults = [Fault(COMMIT, status=429, headers={"Retry-After": "2"})]
    began = time.monotonic()
    assert worker.push(run, TARGET, patience=0.5)["error"] is None
    assert time.monotonic() - began >= 2
    check_whole(hub, run)


def test_a_hub_that_stays_away_is_a_letter_and_the_next_push_goes_on(hub, worker, run):
    worker.push(run, TARGET, "step-100")
    hub.faults = [Fault(COMMIT, status=503, times=10**6)]
    done = worker.push(run, TARGET, patience=0.5)
    assert done["error"].startswith("Unreachable: pushing to hub:org/demo: ")
    assert "503" in done["error"]
    assert len(hub.uploads) == 2
    hub.faults.clear()
    assert worker.push(run, TARGET)["new"] == [200, 300]
    assert len(hub.uploads) == 3  # what had arrived is not sent again
    check_whole(hub, run)


def test_somebody_elses_commit_is_never_written_over(hub, worker, run):
    worker.push(run, TARGET, "step-100")
    theirs = hub.repositories[NAME].add("main", {"README.md": b"# better words"}, "Update README.md", author="anna")
    done = worker.push(run, TARGET)
    assert done["error"].startswith(
        "UserError: hub:org/demo: on top of this run's commits lies one that is not of this run: `Update README.md`, "
        "by anna on 2026-11-29"
    )
    assert hub.repositories[NAME].branches == {"main": theirs}
    assert hub.content(NAME, "main", "README.md") == b"# better words"
    where = done["error"].rpartition("as `")[2].rstrip("`")
    assert where.startswith("hub:org/demo@demo-pretrain")
    assert worker.push(run, where)["new"] == [200, 300]  # a branch from the last of ours on
    assert hub.saves(NAME, where.partition("@")[2]) == history(run)
    assert hub.repositories[NAME].branches["main"] == theirs


def test_a_commit_between_two_of_ours_is_seen(hub, worker, run):
    """The Hub refuses our commit, for its parent is no longer the head."""
    worker.push(run, TARGET, "step-100")
    intrude = lambda: hub.repositories[NAME].add("main", {"LICENSE": b"mine"}, "Add a licence", author="anna")  # noqa: E731
    hub.faults = [Fault("POST .*/preupload/", then=intrude)]
    done = worker.push(run, TARGET)
    assert "that is not of this run: `Add a licence`, by anna" in done["error"]
    assert hub.repositories[NAME].history()[-1].title == "Add a licence"


@pytest.mark.parametrize(
    ("prepare", "letter"),
    [
        (lambda hub: hub.add("main", {"README.md": b"#", "a.csv": b""}, "x"), "files that are not of this run (RE"),
        (lambda hub: setattr(hub, "private", False), "is public, and runs are pushed to private repositories"),
        (
            lambda hub: hub.add("main", {}, "x", f"Polyana-Run: other-run\nPolyana-Commit: {'0' * 40}"),
            "holds the run other-run; push to another repository",
        ),
    ],
)  # fmt: skip
def test_a_repository_that_is_something_else_is_left_alone(hub, worker, run, prepare, letter):
    worker.push(run, "hub:org/template")
    repository = hub.repositories[NAME] = HubRepository(private=True)
    repository.add("main", {".gitattributes": b""}, "initial commit")
    prepare(repository)
    before = repository.branches["main"]
    done = worker.push(run, TARGET)
    assert letter in done["error"]
    assert repository.branches == {"main": before}


def test_public_is_asked_for(hub, worker, run):
    assert worker.push(run, TARGET, private=False)["error"] is None
    assert not hub.repositories[NAME].private
    assert worker.push(run, TARGET)["error"] is not None
    assert worker.push(run, TARGET, private=False)["new"] == []


def test_two_who_push_at_once_make_one_history(hub, worker, run, hub_server, tmp_path):
    other = Worker(hub_server.address, tmp_path)
    settings = {"hub": run.path.parent, "run": run.run, "target": TARGET}
    answers = [each.order("push", **settings) for each in (worker, other)]
    answers = [each.answer() for each in answers]
    other.close()
    assert [answer["error"] for answer in answers] == [None, None]
    check_whole(hub, run)


def test_a_history_that_was_squashed_is_known_by_its_file(hub, worker, run):
    worker.push(run, TARGET)
    repository = hub.repositories[NAME]
    tree = repository.commits[repository.branches["main"]].tree
    repository.branches.clear()
    repository.add("main", tree, "Super-squash branch 'main'")
    make_save(run, 400)
    done = worker.push(run, TARGET, "step-400")
    assert (done["error"], done["new"]) == (None, [400])
    assert [commit.title for commit in repository.history()] == ["Super-squash branch 'main'", "step 400 of 900"]
    repository.add("main", {"README.md": b"# better words"}, "Update README.md")
    repository.add("main", repository.commits[repository.branches["main"]].tree, "Super-squash branch 'main'")
    assert "not of this run" in worker.push(run, TARGET)["error"]  # what was squashed had been changed before


def test_a_damaged_blob_is_not_pushed(hub, worker, run):
    commit = run.resolve("step-200")
    run.blob(commit, "model.safetensors").write_bytes(b"flipped")
    assert (
        "model.safetensors of demo-pretrain-2026-11-22_01.02.03@step-200 is damaged"
        in worker.push(run, TARGET)["error"]
    )
    assert [title for _, title in hub.saves(NAME)] == ["step 100 of 900"]
    assert run.pins() == {run.resolve("step-100").id: {"pushed:hub:org/demo"}}


def test_no_token_no_push_and_no_token_in_any_word(hub, run, hub_server, tmp_path):
    stranger = Worker(hub_server.address, tmp_path, HF_TOKEN="hf_thisOneMayNotWriteAnything")
    done = stranger.push(run, TARGET)
    assert "it wants a token that may write to org/demo; set HF_TOKEN" in done["error"]
    assert run.pins() == {}
    stranger.close()
    knowing = Worker(hub_server.address, tmp_path)
    hub.faults = [Fault("PUT /lfs/", status=400, times=10**6), Fault(COMMIT, status=503, times=10**6)]
    done = knowing.push(run, TARGET, patience=0.3)
    assert "org/demo" in done["error"]
    knowing.close()
    words = "".join(
        path.read_text(errors="replace") for path in tmp_path.rglob("*.*") if path.suffix in (".log", ".json")
    )
    for secret in (TOKEN, "hf_thisOneMayNotWriteAnything", SIGNATURE):
        assert secret not in words + json.dumps(done)


# ---- pulling


def test_what_was_pushed_comes_back_as_the_same_commit(hub, worker, run, tmp_path):
    worker.push(run, TARGET)
    done = worker.pull(tmp_path / "other", f"{TARGET}@best")
    assert (done["error"], done["run"], done["new"]) == (None, run.run, [200])
    there = Repository(tmp_path / "other", run.run)
    assert there.commits() == [run.resolve("best")]
    assert there.refs() == dict.fromkeys(("best", "main", "step-200"), run.resolve("best").id)
    assert files_of(there, "best") == files_of(run, "best")
    there.snapshot(there.resolve("best"))
    more = worker.pull(tmp_path / "other", TARGET, history=True)
    assert more["new"] == [100, 300]
    assert there.refs() == run.refs()
    assert worker.pull(tmp_path / "other", f"{TARGET}@{run.resolve('step-100').id[:9]}")["new"] == []
    assert worker.push(there, TARGET)["new"] == []  # and it knows itself again


def test_what_best_was_picked_by_comes_with_a_save(hub, worker, run, tmp_path):
    worker.push(run, TARGET, "step-100")
    run.rank_by(Ranking("gold/reward", lowest=False))
    worker.push(run, TARGET)
    worker.pull(tmp_path / "other", f"{TARGET}@step-100")
    there = Repository(tmp_path / "other", run.run)
    assert there.ranking() == Ranking()  # as it was then
    worker.pull(tmp_path / "other", TARGET, history=True)
    assert there.ranking() == run.ranking()


def test_a_tag_of_an_earlier_save_comes_with_the_history(hub, worker, run, tmp_path):
    run.set_ref("for-the-paper", run.resolve("step-100").id)
    worker.push(run, TARGET)
    assert worker.pull(tmp_path / "other", f"{TARGET}@best")["error"] is None
    there = Repository(tmp_path / "other", run.run)
    assert "for-the-paper" not in there.refs()
    assert worker.pull(tmp_path / "other", f"{TARGET}@best", history=True)["new"] == [100]
    assert there.refs()["for-the-paper"] == run.resolve("step-100").id


def test_a_foreign_model_gets_the_hubs_own_id(hub, worker, run, tmp_path):
    worker.push(run, TARGET)
    theirs = hub.repositories[NAME].add("main", {"README.md": b"# better words", "notes.py": b"1"}, "Update README.md")
    done = worker.pull(tmp_path / "other", TARGET, name="mine")
    assert (done["run"], done["commit"]) == ("mine", theirs)
    there = Repository(tmp_path / "other", "mine")
    changed = {"README.md": b"# better words", "notes.py": b"1"}
    assert files_of(there, "main") == files_of(run, "main") | changed
    assert there.commits()[0].message == "Update README.md"


def test_a_damaged_download_is_a_letter(hub, worker, run, tmp_path):
    worker.push(run, TARGET)
    digest = sha256_of(run.blob(run.resolve("best"), "model.safetensors"))
    hub.objects[digest] = b"x" + hub.objects[digest][1:]
    done = worker.pull(tmp_path / "other", f"{TARGET}@best")
    assert "model.safetensors came from hub:org/demo damaged" in done["error"]
    assert Repository(tmp_path / "other", run.run).commits() == []
    hub.repositories[NAME].commits[hub.repositories[NAME].branches["main"]].tree["config.json"] = b"{}"
    assert worker.pull(tmp_path / "third", TARGET)["commit"] == hub.repositories[NAME].branches["main"]  # not ours then


def test_letters_of_a_pull(hub, worker, run, tmp_path):
    worker.push(run, TARGET)
    done = worker.pull(tmp_path / "other", f"{TARGET}@step-7")
    assert done["error"] == (
        "UserError: hub:org/demo has no revision `step-7`; it has: main, best, step-100, step-200, step-300"
    )
    assert "the Hub has no such model, or it is private" in worker.pull(tmp_path / "other", "hub:org/none")["error"]
    assert "names no repository of the Hub" in worker.pull(tmp_path / "other", "hub:demo")["error"]
    assert "names no revision after the @" in worker.pull(tmp_path / "other", f"{TARGET}@")["error"]


def test_a_commit_from_elsewhere_cannot_write_outside(hub, worker, run, tmp_path):
    worker.push(run, TARGET)
    repository = hub.repositories[NAME]
    head = repository.commits[repository.branches["main"]]
    about = json.loads(head.tree["commit.json"])
    outside = b"# from outside"
    for names in (about["files"], about["sha256"]):
        names["../../../../evil.txt"] = hashlib.sha256(outside).hexdigest()
    head.tree |= {"commit.json": json.dumps(about).encode(), "../../../../evil.txt": outside}
    head.message = head.message.replace(run.run, "../../elsewhere")
    done = worker.pull(tmp_path / "a" / "b" / "other", TARGET)
    assert "cannot be the name of a run" in done["error"]
    worker.pull(tmp_path / "a" / "b" / "other", TARGET, name="mine")
    assert not list(tmp_path.rglob("evil.txt"))
    assert not (tmp_path / "a" / "elsewhere").exists()


# ---- killed


PUSH = """
import sys
from pathlib import Path
from polyana.registry import Repository, parse_target, push
push(Repository(Path(sys.argv[1]), sys.argv[2]), parse_target(sys.argv[3]))
"""


def killed_pushes(hub, run, moments, tmp_path):
    """Begin to push and kill it, at each of the moments: when it has asked the Hub for so many things."""
    for moment in moments:
        asked = len(hub.asked)
        process = subprocess.Popen(
            [sys.executable, "-c", PUSH, str(run.path.parent), run.run, TARGET],
            env=environment(hub.address, tmp_path), stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while len(hub.asked) < asked + moment and process.poll() is None:
            time.sleep(0.0005)
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("rounds", [6, pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_killed_at_any_moment_a_push_goes_on(hub, worker, tmp_path, rounds):
    run = make_run(tmp_path / "hub", steps=range(100, 700, 100))
    killed_pushes(hub, run, [4 + 3 * number % 23 for number in range(rounds)], tmp_path)
    assert worker.push(run, TARGET)["error"] is None
    check_whole(hub, run)
    assert all(
        has_checksum(run.blob(commit, name), digest)
        for commit in run.commits()
        for name, digest in commit.files.items()
    )
    assert git_hash(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"  # the stand-in's git is git
