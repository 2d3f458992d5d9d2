"""Saves on their way to the Hub while training goes on: the command line, a stand-in for the Hub, other machines."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from conftest import metrics_of, newest_run
from exchanging import environment
from hub_stand_in import SIGNATURE, TOKEN, Fault, HubRepository
from saves import make_run, make_save

from polyana.config import Quantity
from polyana.registry import PushConfig, PushQueue, Repository, parse_target, pushing

NAME = "org/tiny"
COMMIT = f"POST /api/models/{NAME}/commit/"
PUSH = "stages.pretrain.save.push={to: hub:org/tiny, wait: 60 seconds}"


@pytest.fixture
def hub(hub_server, tmp_path, monkeypatch):
    hub_server.reset()
    for name, value in environment(hub_server.address, tmp_path).items():
        monkeypatch.setenv(name, value)
    return hub_server


def registry(home):
    return Repository(home / "hub", newest_run(home).name)


def queued(repository):
    return [by for names in repository.pins().values() for by in names if by.startswith("queued:")]


FOREIGN = """
import sys, json
from transformers import AutoModelForCausalLM, AutoTokenizer
found, (name, *revisions) = [], sys.argv[1:]
for revision in revisions:
    model = AutoModelForCausalLM.from_pretrained(name, revision=revision)
    ids = AutoTokenizer.from_pretrained(name, revision=revision)("The people of the State", return_tensors="pt")
    found.append(model(**ids, labels=ids["input_ids"]).loss.item())
assert not any(module.startswith("polyana") for module in sys.modules)
print(json.dumps(found))
"""


def foreign_losses(name, *revisions, **variables):
    """The loss of a sentence at each revision, by transformers alone."""
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FOREIGN, name, *revisions], capture_output=True, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | variables, cwd="/",
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_every_save_reaches_the_hub_and_another_machine(
    hub, tiny, home, polyana, polyana_process, tmp_path, monkeypatch
):
    said = polyana("run", tiny, "--set", PUSH.replace("}", ", stays: false}")).stderr
    assert "not sent" not in said
    here = registry(home)
    assert [title for _, title in hub.saves(NAME)] == ["step 4 of 12", "step 8 of 12", "the end"]
    assert [commit.step for commit in here.commits()] == [8, 12]  # what was sent, `keep` takes
    assert queued(here) == []
    assert hub.repositories[NAME].private
    best = here.resolve("best")
    there = hub.repositories[NAME]
    assert there.commits[there.tags["best"]].message.rstrip().endswith(best.id)
    assert set(there.tags) == {"best", "step-4", "step-8", "step-12"}
    wrote = [polyana("generate", f"{here.run}@best", "The people", "--max-tokens", "8", "--temperature", "0").stdout]

    monkeypatch.setenv("POLYANA_HOME", str(tmp_path / "elsewhere"))
    done = polyana_process("models", "pull", "hub:org/tiny@best", "--history").stdout
    assert done.startswith(f"{here.run}@{best.id[:10]}: ")
    wrote += [polyana("generate", f"{here.run}@best", "The people", "--max-tokens", "8", "--temperature", "0").stdout]
    assert wrote[0] == wrote[1]
    offline = {"HF_HUB_CACHE": str(tmp_path / "elsewhere" / "hub"), "HF_HUB_OFFLINE": "1"}
    losses = foreign_losses(f"polyana/{here.run}", "best", "step-4", **offline)
    losses += foreign_losses(NAME, "best", "step-4")  # from the Hub, as anybody would
    assert losses[:2] == losses[2:]
    assert losses[0] != losses[1]

    (tmp_path / "chat.jsonl").write_text('{"prompt": "The", "completion": "people."}\n' * 30)
    (tmp_path / "chat.yaml").write_text(f"""\
name: other
stages:
  chat:
    kind: sft
    base: run:{here.run}@best
    data: [{{path: chat.jsonl}}]
    template: raw
    context: 32
    adapter: {{rank: 2}}
    train: {{duration: 1 step, batch: 2 sequences, precision: fp32}}
""")
    polyana("run", "chat.yaml")
    chat = newest_run(tmp_path / "elsewhere").name
    assert "is an adapter whose base lies on this machine alone" in polyana("models", "push", chat, "./shared").stderr
    monkeypatch.setenv("POLYANA_HOME", str(tmp_path / "third"))
    polyana("models", "pull", f"./shared/{chat}")
    assert polyana("generate", chat, "The people", "--max-tokens", "3").stdout  # its base is still where it says
    letter = polyana("run", "chat.yaml", "--set", f"stages.chat.base=run:{chat}", check=2).stderr
    assert f"`base: run:{chat}` is an adapter, and the base that it stands on is not here any more" in letter


def test_an_outage_is_not_felt_and_the_next_run_sends_what_was_missed(hub, tiny, home, polyana, tmp_path, monkeypatch):
    monkeypatch.setenv("POLYANA_HOME", str(tmp_path / "undisturbed"))
    polyana("run", tiny)
    monkeypatch.setenv("POLYANA_HOME", str(home))
    hub.faults = [Fault(".", status=503, times=10**6)]
    said = polyana("run", tiny, "--set", PUSH.replace("60 seconds", "1 second")).stderr
    here = registry(home)
    assert (
        f"3 saves of {here.run} were not sent to hub:org/tiny; nothing is lost. `polyana models push {here.run} "
        in said
    )
    assert [commit.step for commit in here.commits()] == [4, 8, 12]  # `keep` would have taken the first
    assert len(queued(here)) == 3
    alone = Repository(tmp_path / "undisturbed" / "hub", newest_run(tmp_path / "undisturbed").name)
    assert here.resolve("main").files["model.safetensors"] == alone.resolve("main").files["model.safetensors"]
    for name in ("train/loss", "eval/loss"):
        assert metrics_of(newest_run(home))[name] == metrics_of(newest_run(tmp_path / "undisturbed"))[name]
    for secret in (TOKEN, SIGNATURE):
        assert not [path for path in home.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    hub.faults.clear()
    said = polyana("run", tiny, "--set", PUSH).stderr
    assert "unchanged, kept" in said
    assert "not sent" not in said
    assert [title for _, title in hub.saves(NAME)] == ["step 4 of 12", "step 8 of 12", "the end"]
    assert queued(here) == []
    assert [commit.step for commit in here.commits()] == [4, 8, 12]  # what was pushed stays
    assert all(names == {"pushed:hub:org/tiny"} for names in here.pins().values())
    hub.asked.clear()
    polyana("run", tiny, "--set", PUSH)
    assert hub.asked == []  # nothing waits, so nobody is asked


def start_training(tiny, *settings, script=("-m", "polyana")):
    arguments = ["run", str(tiny), "--set", PUSH, *(word for setting in settings for word in ("--set", setting))]
    return subprocess.Popen(
        [sys.executable, *script, *arguments], env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL
    )


def test_a_training_that_is_killed_leaves_what_it_had_not_sent_to_the_next(hub, tiny, home, polyana_process):
    hub.faults = [Fault(COMMIT, before=True, times=10**6)]
    process = start_training(tiny, "stages.pretrain.train.duration=1000k steps")
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not [line for line in hub.asked if "/commit/" in line]:
        time.sleep(0.05)
    for killed in [*psutil.Process(process.pid).children(), process]:  # all of it, as when the machine fails
        killed.kill()
    process.wait()
    here = registry(home)
    waiting = [commit.message for commit in here.commits() if "queued:hub:org/tiny" in here.pins().get(commit.id, ())]
    assert len(waiting) >= 1
    assert hub.saves(NAME) == []
    hub.faults.clear()
    done = polyana_process("models", "push", here.run, "hub:org/tiny").stdout
    assert "commits of" in done
    assert hub.saves(NAME) == [(commit.id, commit.message) for commit in here.commits()]
    assert queued(here) == []


CUT_OFF = """
import psutil
from polyana.cli import main
from polyana.registry import Repository
set_refs = Repository._set_refs
def cut_off(repository, *names, to):
    if "step-8" in names:
        for process in (*psutil.Process().children(), psutil.Process()):
            process.kill()
    set_refs(repository, *names, to=to)
Repository._set_refs = cut_off
main()
"""


@pytest.mark.parametrize("by", ["hand", "the next run"])
def test_a_save_whose_process_was_killed_before_it_was_named_is_sent(by, hub, tiny, home, polyana_process):
    assert start_training(tiny, script=("-c", CUT_OFF)).wait(300) == -signal.SIGKILL
    here = registry(home)
    four, eight = here.commits()
    assert here.refs() == {"main": four.id, "best": four.id, "step-4": four.id}  # the head is the old one
    assert eight.parent == four.id
    if by == "hand":
        polyana_process("models", "push", here.run, "hub:org/tiny")
        assert here.refs() == {"main": eight.id, "best": four.id, "step-4": four.id, "step-8": eight.id}
        assert "step-8" in hub.repositories[NAME].tags
    else:
        polyana_process("run", tiny, "--set", PUSH)
        assert [commit.step for commit in here.commits()] == [4, 8, 12]
    assert hub.saves(NAME) == [(commit.id, commit.message) for commit in here.commits()]
    assert queued(here) == []


def test_a_refusal_is_said_at_once_and_no_wait_helps(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_thisOneMayNotWriteAnything")
    run, said = make_run(tmp_path / "hub"), []
    with pushing(run, PushConfig(to="hub:org/tiny"), tmp_path / "push.log", said.append):
        deadline = time.monotonic() + 60
        while not said and time.monotonic() < deadline:  # nothing has been saved meanwhile
            time.sleep(0.05)
        assert "the Hub refuses (401): it wants a token that may write to org/tiny; set HF_TOKEN" in said[0]
        hub.repositories["org/tiny"] = HubRepository(private=False)
        hub.repositories["org/tiny"].add("main", {".gitattributes": b""}, "initial commit")
    assert "hub:org/tiny is public, and runs are pushed to private repositories" in said[1]
    assert said[-1].startswith(f"  3 saves of {run.run} were not sent to hub:org/tiny; nothing is lost.")
    log = (tmp_path / "push.log").read_text()
    assert "UserError" in log
    assert "Warning" not in log
    assert "hf_this" not in log


def test_letters_of_a_recipe(hub, tiny, polyana):
    for value, letter in (
        ("org/tiny", "write `hub:org/tiny` for the Hub, or `./org/tiny` for a directory"),
        ("{to: hub:tiny}", "names no repository of the Hub: write `hub:org/name`"),
        ("{to: nope://a/b}", "`nope://a/b` is no address that can be reached"),
        ("{to: hub:org/tiny, every: 3 epochs}", "the unit `epochs` does not fit here; write `5 saves` or `500 steps`"),
    ):
        assert letter in polyana("run", tiny, "--set", f"stages.pretrain.save.push={value}", check=2).stderr


def test_steps_and_saves_say_when(tmp_path):
    for every, due in (
        (Quantity(1, "saves"), [10, 20, 30, 40, 50]),
        (Quantity(2, "saves"), [20, 40]),
        (Quantity(25, "steps"), [30, 50]),
    ):
        repository = Repository(tmp_path / str(every), "demo-pretrain-2026-11-22_01.02.03")
        found = []
        for step in range(10, 60, 10):
            make_save(repository, step)
            queue = PushQueue(repository, parse_target("hub:org/name"))  # a new one, as after a restart
            queue.saved(step, every)
            queue.saved(step, every)
            if waiting := queue.waiting():
                found.append(step)
                before = found[-2] if len(found) > 1 else 0
                assert [commit.step for commit in waiting] == list(range(before // 10 * 10 + 10, step + 1, 10))
            for commit in waiting:
                queue.sent(commit, stays=False)
        assert found == due
        queue.everything()
        assert [commit.step for commit in queue.waiting()] == [s for s in range(10, 60, 10) if s > due[-1]]
