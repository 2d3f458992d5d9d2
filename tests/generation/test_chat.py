"""`polyana chat` as users meet it: through pipes, and in a terminal."""

import json
import os
import pty
import subprocess
import sys

import pytest
from answering import trained_place


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return trained_place(tmp_path_factory.mktemp("chats"))


GREEDY = ("--temperature", "0", "--max-tokens", "12")


def test_through_pipes_a_line_is_a_question(trained, polyana, monkeypatch):
    asked = "Tell me of a cat.\n\n/nothing\n/undo\nTell me of a cat.\nAnd\\\nthen?\n/save kept.jsonl\n/retry\n"
    found = trained.call("chat", "stories-chat", "--json", *GREEDY, input=asked)
    answers = [json.loads(line) for line in found.stdout.splitlines()]
    assert [each["role"] for each in answers] == ["assistant"] * 4
    assert answers[0] == answers[1]
    assert answers[2] == answers[3]
    assert found.stderr.splitlines() == [
        "there is no /nothing; /help says what there is", "taken back: Tell me of a cat.", "added to kept.jsonl",
    ]  # fmt: skip
    (row,) = map(json.loads, (trained.path / "kept.jsonl").read_text().splitlines())
    assert [message["content"] for message in row["messages"][::2]] == ["Tell me of a cat.", "And\nthen?"]
    monkeypatch.setenv("POLYANA_HOME", str(trained.path / "home"))
    one = polyana("generate", "stories-chat", "Tell me of a cat.", *GREEDY).stdout
    assert one == answers[0]["content"] + "\n"


def test_in_a_terminal_it_answers_as_it_writes(trained):
    host, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "polyana", "chat", "stories-chat", "--system", "Be kind.", *GREEDY],
        cwd=trained.path, env=trained.environment, stdin=terminal, stdout=terminal, stderr=terminal,
    )  # fmt: skip
    os.close(terminal)

    def until(mark):
        shown = ""
        while mark not in shown:
            shown += os.read(host, 4096).decode()
        return shown.replace("\r\n", "\n")

    try:
        talk(host, until)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(host)


def talk(host, until):
    greeting = until("> ")
    assert "stories-chat-" in greeting
    assert "@step-6. /help says what can be done; Ctrl-D ends.\n" in greeting
    os.write(host, b"Tell me of a cat.\n")
    said = until("\r\n> ")
    assert said.startswith("Tell me of a cat.\n")
    assert said.removeprefix("Tell me of a cat.\n").removesuffix("\n> ").strip()
    os.write(host, b"/system\n")
    assert "Be kind.\n" in until("\r\n> ")
    os.write(host, b"\x04")
