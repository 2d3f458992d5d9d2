"""JSON lines that are longer than the memory that one may take: the same documents as if they were held."""

from __future__ import annotations

import json
import random
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyana.corpus import compressed
from polyana.corpus.config import SourceConfig
from polyana.corpus.document import Document
from polyana.corpus.readers import Notes, long_rows, parts_of
from polyana.corpus.readers.plain import LONGEST
from polyana.errors import PolyanaError


def read(base, **settings):
    notes = Notes()
    source = SourceConfig(path="a.jsonl", name="s", **settings)
    items = [item for part in parts_of(source, base) for item in part.read(notes)]
    return [(item.id, item.text if isinstance(item, Document) else item.reason) for item in items], notes


@pytest.fixture
def tiny(monkeypatch):
    """A line of 200 bytes is long, and is read in pieces of 16."""
    monkeypatch.setattr(long_rows, "_LONG", 200)
    monkeypatch.setattr(long_rows, "_KEPT", 20)
    monkeypatch.setattr(long_rows, "CHUNK", 16)
    monkeypatch.setattr(compressed, "CHUNK", 50)


strings = st.text(st.sampled_from('ab "\\\n\u0000\u007fя€😀\ud83d\ude00\ud800/'), max_size=300)
rows = st.lists(st.fixed_dictionaries({"text": strings}, optional={"id": strings, "of": st.lists(strings, max_size=3)}))


@settings(max_examples=150, deadline=None)
@given(rows, st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_long_lines_are_read_as_short_ones(tmp_path_factory, rows, ascii_only, line_end):
    base = tmp_path_factory.mktemp("rows")
    lines = [json.dumps(row, ensure_ascii=ascii_only) + line_end for row in rows]
    (base / "a.jsonl").write_bytes("".join(lines).encode("utf-8", "replace"))
    held, _ = read(base)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"_LONG": 200, "_KEPT": 20, "CHUNK": 16}.items():
            patch.setattr(long_rows, name, value)
        patch.setattr(compressed, "CHUNK", 50)
        aside, _ = read(base)
        patch.setattr(long_rows, "_KEPT", 10**6)
        assert read(base)[0] == held
    assert aside == held


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"text": "' + "a b " * 100 + '"}', [("s/a.jsonl#1", "a b " * 100)]),
        ('{"text": "' + "\\\\" * 100 + '"}', [("s/a.jsonl#1", "\\" * 100)]),
        ('{"text": "' + "\\ud83d\\ude00" * 40 + '"}', [("s/a.jsonl#1", "\U0001f600" * 40)]),
        ('{"text": "' + "\\\\ud83d" * 40 + '"}', [("s/a.jsonl#1", "\\ud83d" * 40)]),
        ('{"text": "' + "\\ud83dx" * 40 + '"}', [("s/a.jsonl#1", "\ud83dx" * 40)]),
        ('{"text": "' + "a" * 300 + "\\x" + '"}', [("s/a.jsonl#1", "broken JSON")]),
        ('{"text": "' + "a" * 300 + "\t" + '"}', [("s/a.jsonl#1", "broken JSON")]),
        ('{"text": "' + "a" * 300, [("s/a.jsonl#1", "broken JSON")]),
        ('{"text": "' + "a" * 300 + "\\", [("s/a.jsonl#1", "broken JSON")]),
        ('{"text" "' + "a" * 300 + '"}', [("s/a.jsonl#1", "broken JSON")]),
        ('{"text": ' + "[" * 100_000, [("s/a.jsonl#1", "broken JSON")]),
        ('"' + "a" * 300 + '"', [("s/a.jsonl#1", "no text under `text`")]),
        ('{"other": "' + "a" * 300 + '"}', [("s/a.jsonl#1", "no text under `text`")]),
        ('{"text": 3, "other": "' + "a" * 300 + '"}', [("s/a.jsonl#1", "no text under `text`")]),
    ],
)
@pytest.mark.usefixtures("tiny")
def test_whatever_a_long_line_holds(tmp_path, line, expected):
    (tmp_path / "a.jsonl").write_text(line + '\n{"text": "behind"}\n')
    assert read(tmp_path)[0] == [*expected, ("s/a.jsonl#2", "behind")]


@pytest.mark.usefixtures("tiny")
def test_a_long_line_of_another_encoding_is_counted(tmp_path):
    text = "Мороз и солнце; день чудесный! Ещё ты дремлешь, друг прелестный. " * 20
    (tmp_path / "a.jsonl").write_bytes(json.dumps({"text": text}, ensure_ascii=False).encode("cp1251"))
    found, notes = read(tmp_path)
    assert found == [("s/a.jsonl#1", text)]
    assert dict(notes.lines) == {"cp1251": 1}


def test_a_row_takes_no_more_memory_the_longer_it_is(tmp_path):
    noise = random.Random(1)
    known = ["".join(noise.choices("abcdefgh\u0436", k=6)) for _ in range(500)]
    with (tmp_path / "a.jsonl").open("w", encoding="utf-8") as file:
        file.write('{"text": "')
        for _ in range(3000):
            file.write(" ".join(noise.choices(known, k=2000)) + "\\n")
        file.write('"}\n')
    size = (tmp_path / "a.jsonl").stat().st_size
    assert size > 40e6
    (part,) = parts_of(SourceConfig(path="a.jsonl", name="s"), tmp_path)
    tracemalloc.start()
    length, documents = 0, 0
    for item in part.read():
        assert isinstance(item, Document)
        length, documents = length + len(item.text), documents + 1
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert length > 30e6
    assert documents == 1 + length // LONGEST
    assert most < 60e6 < 1.5 * size  # 16 MB of a line twice, and a document as long as any


def test_no_room_to_lay_it_aside_is_a_letter(tmp_path, monkeypatch):
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "a" * 1000}))
    monkeypatch.setattr(long_rows, "_LONG", 200)
    monkeypatch.setattr(long_rows, "TemporaryFile", lambda: Path("/dev/full").open("wb"))  # noqa: SIM115
    with pytest.raises(PolyanaError, match="no room to lay aside a row"):
        read(tmp_path)
