"""Text that grows token by token, against decoding all of it anew each time."""

import random

import pytest
from conftest import SHARED
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from polyana.generation import GrowingText

CHINESE = "道可道，非常道。名可名，非常名。無名天地之始；有名萬物之母。\n故常無欲，以觀其妙；常有欲，以觀其徼。"
EMOJI = "Да 👩‍👩‍👧‍👦, нет 🇷🇺🏳️‍🌈! e\u0301 🤷🏽‍♀️  two  spaces\t\ttabs\n\n\nlines \ufffd and don't . stop ?  "
RUSSIAN = SHARED / "rus_prose" / "Tolstoy"


def russian():
    if not RUSSIAN.is_dir():
        return "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему.\n" * 20
    return min(RUSSIAN.rglob("*.txt"), key=lambda path: path.stat().st_size).read_text(encoding="utf-8")[:1500]


def trained(model, decoder, trainer, pre_tokenizer, normalizer=None):
    tokenizer = Tokenizer(model)
    tokenizer.decoder, tokenizer.pre_tokenizer = decoder, pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator([russian(), CHINESE, EMOJI] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


def byte_level():
    return trained(
        models.BPE(), decoders.ByteLevel(),
        trainers.BpeTrainer(vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                            special_tokens=["<end>"], show_progress=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    )  # fmt: skip


def sentencepiece():
    """Of a vocabulary of 512, so Russian and Chinese are bytes."""
    directory = SHARED / "stories260k" / "hf"
    if not directory.is_dir():
        pytest.skip("../shared/data is not beside the checkout")
    return AutoTokenizer.from_pretrained(directory)


def unigram():
    return trained(
        models.Unigram(), decoders.Metaspace(),
        trainers.UnigramTrainer(vocab_size=500, special_tokens=["<end>", "<?>"], unk_token="<?>", show_progress=False),
        pre_tokenizers.Metaspace(),
    )  # fmt: skip


def word_piece():
    return trained(
        models.WordPiece(unk_token="<?>"), decoders.WordPiece(),
        trainers.WordPieceTrainer(vocab_size=600, special_tokens=["<end>", "<?>"], show_progress=False),
        pre_tokenizers.BertPreTokenizer(), normalizers.BertNormalizer(lowercase=False),
    )  # fmt: skip


def words():
    """As `algorithm: whitespace_bpe` makes it."""
    return trained(
        models.BPE(unk_token="<?>", end_of_word_suffix="</w>"), decoders.BPEDecoder(suffix="</w>"),
        trainers.BpeTrainer(vocab_size=500, special_tokens=["<end>", "<?>"], end_of_word_suffix="</w>",
                            show_progress=False),
        pre_tokenizers.WhitespaceSplit(),
    )  # fmt: skip


class Whole:
    """All is decoded each time."""

    def __init__(self, tokenizer, after=()):
        self.tokenizer, self.ids = tokenizer, list(after[-1:])
        self.shown = tokenizer.decode(self.ids, skip_special_tokens=True)
        if self.shown.endswith("\ufffd"):
            self.ids, self.shown = [], ""

    def add(self, ids):
        self.ids += ids
        text = self.tokenizer.decode(self.ids, skip_special_tokens=True)
        if text.endswith("\ufffd"):
            return ""
        new, self.shown = text[len(self.shown) :], text
        return new

    def end(self):
        return self.tokenizer.decode(self.ids, skip_special_tokens=True)[len(self.shown) :]


@pytest.fixture(scope="module", params=[byte_level, sentencepiece, unigram, word_piece, words])
def tokenizer(request):
    return request.param()


def broken(tokenizer):
    """Tokens are missing, so characters begin and do not end; and any tokens, specials too, one behind another."""
    numbers = random.Random(7)
    ids = tokenizer.encode(CHINESE + EMOJI, add_special_tokens=False)
    missing = [token for token in ids if numbers.random() < 0.9]
    return missing + [numbers.randrange(len(tokenizer)) for _ in range(600)]


def check(tokenizer, ids, after=()):
    ours, theirs = GrowingText(tokenizer, after), Whole(tokenizer, after)
    for number, token in enumerate(ids):
        assert ours.add([token]) == theirs.add([token]), f"token {number}: {tokenizer.convert_ids_to_tokens(token)}"
    assert ours.end() == theirs.end()


@pytest.mark.parametrize("name", ["russian", "chinese", "emoji", "broken"])
def test_each_piece_is_what_decoding_all_of_it_adds(tokenizer, name):
    texts = {"russian": russian(), "chinese": CHINESE, "emoji": EMOJI * 3}
    ids = broken(tokenizer) if name == "broken" else tokenizer.encode(texts[name], add_special_tokens=False)
    check(tokenizer, ids)
    check(tokenizer, ids[5:], after=ids[:5])
    ours, numbers = GrowingText(tokenizer), random.Random(3)
    pieces, left = [], list(ids)
    while left:
        count = numbers.randrange(1, 9)
        pieces.append(ours.add(left[:count]))
        left = left[count:]
    if name != "broken":  # where what was shown may be taken back: bytes that turn out to be no character
        assert "".join(pieces) + ours.end() == tokenizer.decode(ids, skip_special_tokens=True)


def test_what_was_written_long_ago_is_not_decoded_again(tokenizer, monkeypatch):
    decoded, decode = [], type(tokenizer).decode

    def counting(self, ids, **settings):
        decoded.append(len(ids))
        return decode(self, ids, **settings)

    monkeypatch.setattr(type(tokenizer), "decode", counting)
    ids = tokenizer.encode(russian(), add_special_tokens=False)
    text = GrowingText(tokenizer)
    for token in ids:
        text.add([token])
    assert sum(decoded) < 30 * len(ids) < len(ids) ** 2 / 10
