"""Files of every format become the documents that are in them."""

import csv
import gzip
import io
import json
import os
import random
import struct

import pyarrow as pa
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from polyana.corpus import Document, SourceConfig
from polyana.corpus.document import Dropped
from polyana.corpus.readers import files_of, format_of, read_source
from polyana.errors import UserError

RUSSIAN = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему."
POEM = "First line.\nIts second line.\n\n  \nSecond paragraph.\n\n\n\nThird,\nof two lines.\n"


def read(base, path, **settings):
    """What a source gives, however many of its files are damaged."""
    return list(read_source(SourceConfig(path=path, **{"max_damaged": 1.0} | settings), base))


def texts(base, path, **settings):
    items = read(base, path, **settings)
    assert all(isinstance(item, Document) for item in items), items
    return [item.text for item in items]


def ids(base, path, **settings):
    return [item.id for item in read(base, path, **settings)]


def rows(count):
    """Different rows that do not compress well, so that a cut file still holds many of them."""
    noise = random.Random(0)
    return [{"text": f"Row {number}: {noise.randbytes(200).hex()}", "name": f"n{number}"} for number in range(count)]


def as_jsonl(count):
    return "".join(json.dumps(row) + "\n" for row in rows(count)).encode()


def as_csv(count):
    stream = io.StringIO()
    writer = csv.DictWriter(stream, ["name", "text"])
    writer.writeheader()
    writer.writerows(rows(count))
    return stream.getvalue().encode()


def as_lines(count):
    return "".join(row["text"] + "\n" for row in rows(count)).encode()


def as_parquet(path, table, **settings):
    parquet.write_table(pa.table(table), path, **settings)


# ---- which files


def test_a_directory_gives_its_files_in_the_order_of_their_names(tmp_path):
    for name in (
        "b.txt",
        "a.txt",
        "deep/er/c.md",
        "d.JSONL",
        "e.txt.gz",
        ".hidden.txt",
        ".git/f.txt",
        "photo.jpg",
        "README",
    ):
        (tmp_path / "texts" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "texts" / name).write_bytes(b"")
    found = [name for name, _ in files_of(SourceConfig(path="texts"), tmp_path)]
    assert found == ["a.txt", "b.txt", "d.JSONL", "deep/er/c.md", "e.txt.gz"]
    named = [name for name, _ in files_of(SourceConfig(path=str(tmp_path / "texts"), format="text"), tmp_path)]
    assert named == ["README", "a.txt", "b.txt", "d.JSONL", "deep/er/c.md", "e.txt.gz"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("data/*.txt", ["a.txt"]),
        ("data/**/*.txt", ["a.txt", "one/b.txt", "two/b.txt"]),
        ("data/*/b.txt", ["one/b.txt", "two/b.txt"]),
        ("data/[ot]*/b.???", ["one/b.txt", "two/b.txt"]),
        ("*/one", []),
    ],
)
def test_a_glob_gives_what_matches(tmp_path, pattern, names):
    base = tmp_path / "odd [name]"
    for name in ("a.txt", "one/b.txt", "two/b.txt", "two/c.md"):
        (base / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (base / "data" / name).write_text(name)
    if not names:
        with pytest.raises(UserError, match="matches no file"):
            read(base, pattern)
        return
    assert texts(base, pattern) == names
    assert ids(base, pattern) == [f"data/{name}" for name in names]


def test_a_file_whose_name_has_a_bracket_is_not_a_glob(tmp_path):
    (tmp_path / "a[1].txt").write_text("text")
    assert ids(tmp_path, "a[1].txt") == ["files/a[1].txt"]


def test_a_name_that_is_no_utf_8_becomes_text_that_can_be_written(tmp_path):
    (tmp_path / "texts").mkdir()
    for name in ("Война", "Пьеса"):
        (tmp_path / "texts" / os.fsdecode(f"{name}.txt".encode("cp1251"))).write_text(name)
    found = read(tmp_path, "texts")
    assert [item.text for item in found] == ["Война", "Пьеса"]
    assert [item.id for item in found] == [r"texts/\xc2\xee\xe9\xed\xe0.txt", r"texts/\xcf\xfc\xe5\xf1\xe0.txt"]


def test_what_is_not_there_is_a_letter_to_the_user(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"`nowhere` does not exist \(looked for .*/nowhere\)"):
        read(tmp_path, "nowhere")
    with pytest.raises(UserError, match=r"`empty` holds no file that can be read .*\.jsonl.*\.gz, .* or \.xz"):
        read(tmp_path, "empty")
    with pytest.raises(UserError, match=r"`empty/\*.txt` matches no file"):
        read(tmp_path, "empty/*.txt")


def test_the_ending_tells_the_format_and_the_recipe_overrules_it(tmp_path):
    for name, format_ in (
        ("a.txt", "text"), ("a.MD", "text"), ("a", "text"), ("a.jsonl.zst", "jsonl"), ("a.ndjson", "jsonl"),
        ("a.csv.gz", "csv"), ("a.tsv", "tsv"), ("a.HTM", "html"), ("a.parquet", "parquet"), ("a.log", "text"),
    ):  # fmt: skip
        assert format_of(tmp_path / name, SourceConfig(path="x")) == format_
        assert format_of(tmp_path / name, SourceConfig(path="x", format="jsonl")) == "jsonl"


# ---- text


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_what_a_document_of_a_text_file_is(tmp_path, line_end):
    (tmp_path / "poem.txt").write_bytes(POEM.replace("\n", line_end).encode())
    paragraphs = ["First line.\nIts second line.", "Second paragraph.", "Third,\nof two lines."]
    assert texts(tmp_path, "poem.txt") == [POEM.replace("\n", line_end)]
    assert texts(tmp_path, "poem.txt", document="line") == [line for line in POEM.split("\n") if line.strip()]
    assert texts(tmp_path, "poem.txt", document="paragraph") == paragraphs
    assert texts(tmp_path, "poem.txt", document="100 KB") == ["\n\n".join(paragraphs)]
    assert texts(tmp_path, "poem.txt", document="48 bytes") == ["\n\n".join(paragraphs[:2]), paragraphs[2]]


def test_a_part_is_named_by_its_number_and_a_line_by_its_place(tmp_path):
    (tmp_path / "poem.txt").write_text(POEM)
    assert ids(tmp_path, "poem.txt", name="poems") == ["poems/poem.txt"]
    assert ids(tmp_path, "poem.txt", name="poems", document="line") == [f"poems/poem.txt#{n}" for n in (1, 2, 5, 9, 10)]
    assert ids(tmp_path, "poem.txt", name="poems", document="paragraph") == [f"poems/poem.txt#{n}" for n in (1, 2, 3)]


@given(
    st.lists(st.text("ab я\n", max_size=60), min_size=1, max_size=8).map("\n\n".join),
    st.integers(1, 40),
)
def test_chunks_keep_every_letter_and_the_limit(tmp_path_factory, text, limit):
    base = tmp_path_factory.mktemp("chunks")
    (base / "a.txt").write_text(text)
    chunks = texts(base, "a.txt", document=f"{limit} bytes")
    assert "".join("".join(chunks).split()) == "".join(text.split())
    assert all(len(chunk.encode()) <= max(limit, 2) for chunk in chunks)  # one Russian letter is two bytes


@pytest.mark.parametrize("letter", ["a", "я", "中", "𝒳"])
def test_a_paragraph_longer_than_the_size_is_cut(tmp_path, letter):
    (tmp_path / "a.txt").write_text(" ".join([letter * 9] * 5000))
    chunks = texts(tmp_path, "a.txt", document="10 KB")
    assert " ".join(chunk.strip() for chunk in chunks) == " ".join([letter * 9] * 5000)
    assert all(9_900 < len(chunk.encode()) <= 10_000 for chunk in chunks[:-1])


def test_a_carriage_return_cut_off_by_the_border_of_two_chunks_is_still_a_line_end(tmp_path):
    line = "x" * ((1 << 20) - 1)
    (tmp_path / "a.txt").write_bytes(f"{line}\r\n\r\nb".encode())
    assert [text.strip() for text in texts(tmp_path, "a.txt", document="paragraph")] == [line, "b"]


def test_an_empty_file_is_an_empty_document(tmp_path):
    for name in ("a.txt", "b.txt.gz", "c.txt.zst"):
        (tmp_path / name).write_bytes(b"")
    assert texts(tmp_path, "*.txt*") == ["", "", ""]
    assert texts(tmp_path, "a.txt", document="line") == []


# ---- tables


def test_json_lines(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(
        b'\xef\xbb\xbf{"text": "one"}\r\n\n{"text": "\\ud800 two\\u2028lines"}\n{"text": ' + f'"{RUSSIAN}"}}'.encode()
    )
    found = read(tmp_path, "a.jsonl")
    assert [item.text for item in found] == ["one", "\ud800 two\u2028lines", RUSSIAN]
    assert [item.id for item in found] == ["a.jsonl/a.jsonl#1", "a.jsonl/a.jsonl#3", "a.jsonl/a.jsonl#4"]


def test_a_broken_json_line_is_dropped_under_file_and_line(tmp_path):
    lines = [
        '{"text": "good"}',
        '{"text": "cut',
        "[1, 2]",
        '{"body": "elsewhere"}',
        '{"text": 5}',
        "[" * 100_000,
        "1" * 5000,
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    found = read(tmp_path, "a.jsonl", name="s")
    assert found[0] == Document("s/a.jsonl#1", "good")
    assert found[1] == Dropped("s/a.jsonl#2", "broken JSON", len(lines[1]))
    reasons = [(item.id, item.reason) for item in found[2:]]
    assert reasons == [
        ("s/a.jsonl#3", "no text under `text`"),
        ("s/a.jsonl#4", "no text under `text`"),
        ("s/a.jsonl#5", "no text under `text`"),
        ("s/a.jsonl#6", "broken JSON"),
        ("s/a.jsonl#7", "broken JSON"),
    ]


@pytest.mark.parametrize("encoding", ["cp1251", "utf-16"])
def test_json_lines_in_an_encoding_that_the_recipe_names(tmp_path, encoding):
    lines = [json.dumps({"text": f"{RUSSIAN}{number}"}, ensure_ascii=False) for number in range(3)]
    (tmp_path / "a.jsonl").write_bytes("\n".join(lines).encode(encoding))
    assert texts(tmp_path, "a.jsonl", encoding=encoding) == [f"{RUSSIAN}{number}" for number in range(3)]


def test_the_recipe_names_the_columns_of_text_and_id(tmp_path):
    table = {"body": ["one", RUSSIAN, "three"], "key": ["x", None, 3]}
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"body": body, "key": key}) + "\n" for body, key in zip(*table.values(), strict=True))
    )
    as_parquet(tmp_path / "a.parquet", {"body": table["body"], "key": ["x", None, "3"]})
    (tmp_path / "a.csv").write_text(f"key,body\nx,one\n2,{RUSSIAN.replace(',', ';')}\n3,three\n")
    for name in ("a.jsonl", "a.parquet", "a.csv"):
        assert ids(tmp_path, name, text="body", id="key", name="s") == [f"s/{name}#x", f"s/{name}#2", f"s/{name}#3"]


def test_an_id_of_half_a_character_can_be_written(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one", "key": "\\ud83d"}')
    assert ids(tmp_path, "a.jsonl", id="key") == ["a.jsonl/a.jsonl#?"]


def test_csv_with_quotes_line_ends_and_long_fields(tmp_path):
    long = "word " * 60_000  # more than csv's default limit of 128 KiB
    (tmp_path / "a.csv").write_bytes(
        f'text,n\r\n"one, ""two""\r\nthree",1\r\n{RUSSIAN.split(",", maxsplit=1)[0]},2\r\n{long},3'.encode()
    )
    assert texts(tmp_path, "a.csv") == ['one, "two"\r\nthree', RUSSIAN.split(",", maxsplit=1)[0], long]


def test_csv_and_tsv_in_other_encodings(tmp_path):
    content = f"n\ttext\n1\t{RUSSIAN}\n2\t{RUSSIAN}\n"
    for encoding in ("utf-8-sig", "utf-16", "cp1251", "koi8-r"):
        (tmp_path / "a.tsv").write_bytes(content.encode(encoding))
        (tmp_path / "a.csv").write_bytes(content.replace(",", ";").replace("\t", ",").encode(encoding))
        assert texts(tmp_path, "a.tsv") == [RUSSIAN, RUSSIAN]
        assert texts(tmp_path, "a.csv") == [RUSSIAN.replace(",", ";")] * 2


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    (tmp_path / "a.csv").write_bytes("text\none\n".encode("utf-8-sig"))
    assert texts(tmp_path, "a.csv", encoding="utf-8") == texts(tmp_path, "a.csv") == ["one"]


def test_csv_rows_without_text_are_dropped_one_by_one(tmp_path):
    (tmp_path / "a.csv").write_text("n,text\n1\n2,two,more,cells\n")
    assert read(tmp_path, "a.csv") == [
        Dropped("a.csv/a.csv#1", "no text under `text`", len("1None")),
        Document("a.csv/a.csv#2", "two"),
    ]


def test_parquet_in_several_row_groups_and_batches(tmp_path):
    table = {"text": [row["text"] for row in rows(3000)], "other": list(range(3000))}
    as_parquet(tmp_path / "a.parquet", table, row_group_size=700)
    assert texts(tmp_path, "a.parquet") == table["text"]
    assert ids(tmp_path, "a.parquet")[-1] == "a.parquet/a.parquet#3000"


def test_a_row_of_parquet_without_text_is_dropped(tmp_path):
    (tmp_path / "rows").mkdir()
    as_parquet(tmp_path / "rows" / "a.parquet", {"body": ["one", "two"]})
    as_parquet(tmp_path / "rows" / "b.parquet", {"text": ["one", None], "n": [1, 2]})
    assert [getattr(item, "reason", "kept") for item in read(tmp_path, "rows")] == [
        "no text under `text`", "no text under `text`", "kept", "no text under `text`",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet"])
def test_a_column_that_no_row_has_is_a_letter_with_those_that_are_there(tmp_path, kind):
    if kind == "parquet":
        as_parquet(tmp_path / "a.parquet", {"body": ["one", "two"], "title": ["1", "2"]})
    elif kind == "jsonl":
        (tmp_path / "a.jsonl").write_text('{"body": "one"}\n{"title": "2"}\n')
    else:
        (tmp_path / f"a.{kind}").write_text("body,title\none,1\n".replace(",", "," if kind == "csv" else "\t"))
    with pytest.raises(UserError, match=r"no row of `a\..*` has the column `text`; there are `body`, `title`; write"):
        read(tmp_path, f"a.{kind}")
    with pytest.raises(UserError, match=r"has the column `titel`; there are `body`, `title`; did you mean `title`\?"):
        read(tmp_path, f"a.{kind}", text="titel")
    (tmp_path / "b.txt").write_text("beside other text a table of something else may lie")
    assert len(read(tmp_path, "*", text="text")) > 1
    with pytest.raises(UserError, match="no row of"):
        read(tmp_path, "*", text="titel")


def test_a_wrong_column_is_a_letter_with_the_recipes_line(tmp_path, home, polyana):
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n')
    recipe = "name: a\nstages:\n  corpus:\n    kind: corpus\n    sources: [{path: a.jsonl, text: body}]\n"
    (tmp_path / "recipe.yaml").write_text(recipe)
    found = polyana("run", "recipe.yaml", check=2)
    assert "recipe.yaml:3  no row of `a.jsonl` has the column `body`; there are `text`" in found.stderr


def test_parquet_whose_strings_are_no_utf_8_is_a_damaged_file(tmp_path):
    broken = pa.StringArray.from_buffers(1, pa.py_buffer(struct.pack("<ii", 0, 2)), pa.py_buffer(b"\xff\xfe"))
    as_parquet(tmp_path / "a.parquet", {"text": broken})
    assert [item.reason for item in read(tmp_path, "a.parquet")] == ["damaged file"]


# ---- compressed and damaged


@pytest.mark.parametrize(
    ("ending", "make", "settings"),
    [("txt", as_lines, {"document": "line"}), ("jsonl", as_jsonl, {}), ("csv", as_csv, {})],
)
@pytest.mark.parametrize("compress", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_compressed_files_hold_what_plain_ones_do(tmp_path, ending, make, settings, compress):
    packed = ".gz" if compress is gzip.compress else ".zst"
    (tmp_path / f"a.{ending}").write_bytes(make(500))
    (tmp_path / f"a.{ending}{packed}").write_bytes(compress(make(300)) + compress(make(500)[len(make(300)) :]))
    assert texts(tmp_path, f"a.{ending}{packed}", **settings) == texts(tmp_path, f"a.{ending}", **settings)


def test_a_zst_frame_that_holds_no_text_is_skipped(tmp_path):
    skippable = struct.pack("<II", 0x184D2A50, 4) + b"abcd"  # pzstd writes these
    packed = zstandard.ZstdCompressor().compress
    (tmp_path / "a.txt.zst").write_bytes(skippable + packed(b"one ") + skippable + packed(b"two"))
    assert texts(tmp_path, "a.txt.zst") == ["one two"]


def test_parquet_in_gz(tmp_path):
    as_parquet(tmp_path / "plain.parquet", {"text": ["one", "two"]})
    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress((tmp_path / "plain.parquet").read_bytes()))
    assert texts(tmp_path, "a.parquet.gz") == ["one", "two"]


@pytest.mark.parametrize(
    ("ending", "make", "settings"),
    [("txt", as_lines, {"document": "line"}), ("jsonl", as_jsonl, {}), ("csv", as_csv, {})],
)
@pytest.mark.parametrize(("packed", "count"), [("gz", 1000), ("gz", 6000), ("zst", 6000)])
def test_a_truncated_file_keeps_what_came_before_the_damage(tmp_path, ending, make, settings, packed, count):
    compress = gzip.compress if packed == "gz" else zstandard.ZstdCompressor().compress
    content = compress(make(count))
    path = tmp_path / f"a.{ending}.{packed}"
    path.write_bytes(content)
    whole = texts(tmp_path, path.name, **settings)
    path.write_bytes(content[: len(content) * 3 // 4])
    *kept, damage = read(tmp_path, path.name, **settings)
    assert [item.text for item in kept] == whole[: len(kept)]
    assert len(kept) > 0.6 * count
    assert damage == Dropped(f"{path.name}/{path.name}", "damaged file", path.stat().st_size)


def test_a_truncated_file_that_is_one_document_is_dropped(tmp_path):
    for packed, compress in (("gz", gzip.compress), ("zst", zstandard.ZstdCompressor().compress)):
        (tmp_path / f"a.txt.{packed}").write_bytes(compress(as_lines(100))[:-10])
        (tmp_path / f"a.html.{packed}").write_bytes(compress(b"<p>text</p>" * 1000)[:-10])
    assert [(item.id, item.reason) for item in read(tmp_path, "*.*.*", name="s")] == [
        (f"s/a.{name}", "damaged file") for name in ("html.gz", "html.zst", "txt.gz", "txt.zst")
    ]


def test_a_damage_in_the_middle_of_a_gz_ends_that_file_and_not_the_run(tmp_path):
    content = bytearray(gzip.compress(as_jsonl(4000)))
    content[len(content) // 2 : len(content) // 2 + 100] = bytes(100)
    (tmp_path / "a.jsonl.gz").write_bytes(content)
    (tmp_path / "b.jsonl.gz").write_bytes(b"this is no gzip")
    (tmp_path / "c.jsonl").write_text('{"text": "after"}')
    items = read(tmp_path, "*.jsonl*", name="s")
    damaged = [item.id for item in items if isinstance(item, Dropped) and item.reason == "damaged file"]
    assert damaged == ["s/a.jsonl.gz", "s/b.jsonl.gz"]
    assert items[-1] == Document("s/c.jsonl#1", "after")
    assert len(items) > 1000


def test_a_damaged_parquet_is_dropped_whole_or_from_the_damage_on(tmp_path):
    table = {"text": [row["text"] for row in rows(4000)]}
    as_parquet(tmp_path / "whole.parquet", table, row_group_size=1000)
    content = (tmp_path / "whole.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.parquet").write_bytes(b"")
    (tmp_path / "text.parquet").write_text("no parquet")
    (tmp_path / "hole.parquet").write_bytes(
        content[: len(content) // 2] + bytes(3000) + content[len(content) // 2 + 3000 :]
    )
    for name in ("cut", "empty", "text"):
        size = (tmp_path / f"{name}.parquet").stat().st_size
        assert read(tmp_path, f"{name}.parquet", name="s") == [Dropped(f"s/{name}.parquet", "damaged file", size)]
    *kept, damage = read(tmp_path, "hole.parquet")
    assert damage.reason == "damaged file"
    assert [item.text for item in kept] == table["text"][: len(kept)]
    assert len(kept) >= 1000
