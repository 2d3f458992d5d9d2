"""Files that lie elsewhere: the real s3fs client at moto's S3, fsspec's memory, the real hub client at a stand-in."""

import gzip
import hashlib
import json
import os
import pickle
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pyarrow as pa
import pytest
import zstandard
from pyarrow import parquet

from polyana.corpus import CorpusConfig, Document, SourceConfig, corpus_inputs, files_of, read_source
from polyana.corpus.document import Dropped
from polyana.corpus.readers import parts, parts_of
from polyana.errors import PolyanaError, UserError
from polyana.storage import ContentDigests

ROWS = [{"text": f"Строка {number}"} for number in range(300)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
FILES = {
    "texts/a.jsonl.zst": zstandard.ZstdCompressor().compress(LINES),
    "texts/b.jsonl.gz": gzip.compress(LINES),
    "texts/c.txt": "Просто текст".encode(),
    "texts/deep/d.jsonl": LINES,
    "texts/.hidden.txt": b"hidden",
    "texts/photo.jpg": b"photo",
}


def table(path):
    parquet.write_table(pa.table({"text": [row["text"] for row in ROWS], "n": range(300)}), path, row_group_size=100)
    return path.read_bytes()


def read(path, base=None, **settings):
    return list(read_source(SourceConfig(path=path, **{"max_damaged": 1.0} | settings), base))


def inputs(path, tmp_path):
    config = CorpusConfig(kind="corpus", sources=[SourceConfig(path=path)])
    return corpus_inputs(
        config, tmp_path, ContentDigests(tmp_path / "digests.json"), lambda *path: ".".join(map(str, path))
    )


# ---- S3


@pytest.fixture
def bucket(s3_server, tmp_path):
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    store = s3fs.S3FileSystem()
    if store.exists("corpus"):
        store.rm("corpus", recursive=True)
    store.mkdir("corpus")
    for name, content in (FILES | {"tables/t.parquet": table(tmp_path / "t.parquet")}).items():
        store.pipe(f"corpus/{name}", content)
    yield store
    s3fs.S3FileSystem.clear_instance_cache()


def test_objects_are_read_as_files_are(bucket, tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    here = read("texts", tmp_path)
    assert len(here) == 902
    assert read("s3://corpus/texts", tmp_path) == here
    assert read("s3://corpus/texts/", tmp_path) == here
    assert read("s3://corpus/texts/*.jsonl.*", tmp_path) == [item for item in here if ".jsonl." in item.id]
    assert read("s3://corpus/texts/c.txt", tmp_path, name="texts") == read("texts/c.txt", tmp_path, name="texts")
    rows = read("s3://corpus/tables/*.parquet", tmp_path, name="s")
    assert rows == [Document(f"s/t.parquet#{n}", row["text"]) for n, row in enumerate(ROWS, 1)]


def test_an_object_is_known_by_what_its_store_says_of_it(bucket, tmp_path):
    first = inputs("s3://corpus/texts/c*.txt", tmp_path)
    assert list(first) == ["texts"]
    assert first["texts"] == {"c.txt": f'{len(FILES["texts/c.txt"])} "{hashlib.md5(FILES["texts/c.txt"]).hexdigest()}"'}
    bucket.pipe("corpus/texts/c.txt", "Просто иное".encode())
    bucket.invalidate_cache()
    assert inputs("s3://corpus/texts/c*.txt", tmp_path) != first
    bucket.pipe("corpus/texts/c.txt", FILES["texts/c.txt"])
    bucket.invalidate_cache()
    assert inputs("s3://corpus/texts/c*.txt", tmp_path) == first


def test_a_part_of_a_remote_source_is_read_by_another_process(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "_PART", 1000)
    cut = parts_of(SourceConfig(path="s3://corpus/tables/t.parquet", name="s"), tmp_path)
    assert len(cut) == 3  # its row groups; lines would have to be fetched to be counted
    (tmp_path / "parts").write_bytes(pickle.dumps(cut))
    code = (
        "import pickle, sys, pathlib\n"
        "for part in pickle.loads(pathlib.Path(sys.argv[1]).read_bytes()): print(len(list(part.read())))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "parts"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["100", "100", "100"]


def test_a_large_object_is_fetched_by_what_is_read_of_it(bucket, tmp_path, monkeypatch):
    from polyana.corpus import remote

    monkeypatch.setattr(remote, "_BLOCK", 1 << 16)
    bucket.pipe("corpus/large.txt", b"a line of text\n" * 1_000_000)
    asked = []
    real = type(bucket)._cat_file
    monkeypatch.setattr("s3fs.core.S3FileSystem._cat_file", lambda *a, **k: asked.append(k) or real(*a, **k))
    fetched = []
    from s3fs.core import S3File

    fetch = S3File._fetch_range
    monkeypatch.setattr(S3File, "_fetch_range", lambda self, a, b: fetched.append(b - a) or fetch(self, a, b))
    items = read_source(SourceConfig(path="s3://corpus/large.txt", document="line"), tmp_path)
    assert next(items).text == "a line of text"
    items.close()
    assert 0 < sum(fetched) < 4 << 20
    assert not asked


def test_a_store_that_fails_stops_the_run_and_is_no_damaged_file(bucket, tmp_path, monkeypatch):
    from s3fs.core import S3File

    cut = parts_of(SourceConfig(path="s3://corpus/texts/deep/d.jsonl"), tmp_path)

    def fail(*_):
        raise OSError("connection reset by peer")

    monkeypatch.setattr(S3File, "_fetch_range", fail)
    with pytest.raises(PolyanaError, match=r"s3://corpus/texts/deep/d.jsonl cannot be read: connection reset by peer"):
        list(cut[0].read())


def test_an_object_that_is_gone_is_dropped(bucket, tmp_path):
    cut = parts_of(SourceConfig(path="s3://corpus/texts/c*.txt"), tmp_path)
    bucket.rm("corpus/texts/c.txt")
    bucket.invalidate_cache()
    found = [item for part in cut for item in part.read()]
    assert found == [Dropped("texts/c.txt", "gone since it was listed", len(FILES["texts/c.txt"]))]


def test_what_is_not_there_is_a_letter(bucket, tmp_path):
    for address in ("s3://corpus/nothing/*.txt", "s3://corpus/nothing", "s3://no-such-bucket/a"):
        with pytest.raises(UserError, match=f"`{address.replace('*', '.')}` (matches nothing|cannot be read)"):
            read(address, tmp_path)
    with pytest.raises(UserError, match=r"`nope://a/b` is no address that can be read: .*nope"):
        read("nope://a/b", tmp_path)
    with pytest.raises(UserError, match=r"`s3://corpus/texts` lies elsewhere; only a corpus is read from there"):
        files_of(SourceConfig(path="s3://corpus/texts"), tmp_path)
    with pytest.raises(UserError, match=r"`gs://a/b` cannot be read: .*install gcsfs"):
        read("gs://a/b", tmp_path)
    without = (
        "import sys; sys.modules['s3fs'] = None; from polyana.corpus.remote import files_at; list(files_at('s3://a'))"
    )
    done = subprocess.run([sys.executable, "-c", without], capture_output=True, text=True, check=False)
    assert "Install s3fs to access S3; run: pip install 'polyana[remote]'" in done.stderr


# ---- any other address


@pytest.fixture
def memory():
    store = fsspec.filesystem("memory")
    for name, content in FILES.items():
        store.pipe(f"/{name}", content)
    yield store
    store.rm("/texts", recursive=True)


def test_any_address_that_fsspec_knows(memory, tmp_path):
    found = read("memory://texts", tmp_path)
    assert [item for item in found if isinstance(item, Dropped)] == [
        Dropped("texts/photo.jpg", "no reader for .jpg", len(b"photo"))
    ]
    assert [item.text for item in found[1:]] == [row["text"] for row in ROWS] * 2 + ["Просто текст"] + [
        row["text"] for row in ROWS
    ]
    (tmp_path / "a.txt").write_text("here")
    assert [item.text for item in read(f"file://{tmp_path}/a.txt")] == ["here"]
    first = inputs("memory://texts/c*.txt", tmp_path)
    memory.pipe("/texts/c.txt", b"other")
    assert inputs("memory://texts/c*.txt", tmp_path) != first


def test_damage_of_a_remote_file_is_its_own(memory, tmp_path):
    memory.pipe("/texts/cut.jsonl.gz", gzip.compress(LINES)[:-20])
    *kept, damage = read("memory://texts/cut.jsonl.gz", tmp_path, name="s")
    assert damage == Dropped("s/cut.jsonl.gz", "damaged file", len(gzip.compress(LINES)) - 20)
    assert all(isinstance(item, Document) for item in kept)


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("s3://bucket/texts/*.jsonl.zst", "texts"),
        ("s3://bucket/texts", "texts"),
        ("s3://bucket/*.txt", "bucket"),
        ("hub:org/name", "name"),
        ("hub:org/name@v2:data/*.parquet", "name"),
    ],
)
def test_an_address_stays_what_it_is(tmp_path, path, label):
    source = SourceConfig(path=path)
    assert source.label == label
    assert source.resolved(tmp_path)["path"] == path
    assert list(source.problems()) == []


def test_an_address_of_the_hub_that_cannot_be():
    ((where, what),) = SourceConfig(path="hub:org/name/more").problems()
    assert (where, "is no data set of the hub: write hub:NAME" in what) == (("path",), True)


# ---- the hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"

CLIENT = """
import json, sys
from pathlib import Path
from polyana.corpus import CorpusConfig, SourceConfig, corpus_inputs, read_source
from polyana.errors import PolyanaError
from polyana.storage import ContentDigests

found = {}
for path in sys.argv[1:]:
    source = SourceConfig(path=path)
    try:
        config = CorpusConfig(kind="corpus", sources=[source])
        inputs = corpus_inputs(config, Path(), ContentDigests(Path("digests.json")), lambda *_: "recipe.yaml:7")
        found[path] = [inputs, [[item.id, item.text] for item in read_source(source, Path())]]
    except PolyanaError as error:
        found[path] = str(error)
print(json.dumps(found))
"""


class Hub(ThreadingHTTPServer):
    """`org/rows` and `org/closed`; `asked`: every path."""

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked = files, []


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split("?")[0]
        self.server.asked.append(path)
        words = path.removeprefix("/api").removeprefix("/datasets").strip("/").split("/")
        name, what, revision, file = "/".join(words[:2]), *([*words[2:4], "", ""][:2]), "/".join(words[4:])
        if name == "org/closed":
            return self.refuse(401, "GatedRepo")
        if name != "org/rows":
            return self.refuse(404, "RepoNotFound")
        if what and revision not in ("main", "v2", COMMIT):
            return self.refuse(404, "RevisionNotFound")
        files = self.server.files
        if what in ("", "revision"):
            return self.answer({"id": name, "sha": COMMIT, "siblings": [{"rfilename": each} for each in files]})
        if what == "tree":
            return self.answer(
                [{"type": "directory", "path": "data", "oid": "0"}]
                + [{"type": "file", "path": each, "size": len(body), "oid": etag(body)} for each, body in files.items()]
            )
        if what == "resolve" and file in files:
            return self.answer(files[file], {"ETag": f'"{etag(files[file])}"', "X-Repo-Commit": COMMIT})
        return self.refuse(404, "EntryNotFound")

    def answer(self, content, headers=None, status=200):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def refuse(self, status, code):
        self.answer({"error": code}, {"X-Error-Code": code, "X-Error-Message": code}, status)

    def log_message(self, *_):
        """Say nothing."""


def etag(content):
    return hashlib.sha1(content).hexdigest()


@pytest.fixture
def hub(tmp_path):
    server = Hub(
        {
            "README.md": b"# About the rows",
            "data/train-1.parquet": table(tmp_path / "t.parquet"),
            "data/train-2.jsonl": LINES,
            "data/test-1.jsonl": b'{"text": "held out"}\n',
        }
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_data_set_of_the_hub(hub, tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip
    paths = [
        "hub:org/rows@v2:data/train*", "hub:org/rows:*.md", "hub:org/rows", "hub:org/rows:*.csv", "hub:org/rows@v9:*",
        "hub:org/none", "hub:org/closed",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, *paths], env=environment, cwd=tmp_path, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    identity, documents = found["hub:org/rows@v2:data/train*"]
    assert identity == {"rows": {"data/train-1.parquet": COMMIT, "data/train-2.jsonl": COMMIT}}
    assert documents == [
        [f"rows/data/{name}#{number}", row["text"]]
        for name in ("train-1.parquet", "train-2.jsonl")
        for number, row in enumerate(ROWS, 1)
    ]
    assert found["hub:org/rows:*.md"][1] == [["rows/README.md", "# About the rows"]]
    assert (
        "it holds several splits (test, train); choose among its files, as `hub:org/rows:*train*`"
        in found["hub:org/rows"]
    )
    assert "none of its 4 files is chosen, as README.md" in found["hub:org/rows:*.csv"]
    assert "the data set has no revision `v9`; write a branch, a tag or a commit" in found["hub:org/rows@v9:*"]
    assert "the hub has no such data set" in found["hub:org/none"]
    assert "ask on its page, then set HF_TOKEN" in found["hub:org/closed"]
    assert not [path for path in hub.asked if "resolve" in path and "test-1" in path]
    assert [path for path in hub.asked if "resolve" in path and COMMIT not in path] == []
