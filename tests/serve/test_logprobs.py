"""What a token is in a text, in bytes, against what the tokenizer makes of the whole text."""

import pytest
from conftest import SHARED
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from polyana.serve.logprobs import TokenTexts

TEXTS = ["Once upon a time, there was a dog.\n\n  Two  spaces", "Ясная Поляна 🌲🦊", "\x00\x7f\xa0\xad\u00ff"]


def byte_level():
    """Some merges, and every byte."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=["<end>"], show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


def sentencepiece():
    directory = SHARED / "stories260k" / "hf"
    if not directory.is_dir():
        pytest.skip("../shared/data is not beside the checkout")
    return AutoTokenizer.from_pretrained(directory)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("make", [byte_level, sentencepiece])
def test_the_bytes_of_the_tokens_are_those_of_the_text(make, text):
    tokenizer = make()
    texts = TokenTexts(tokenizer)
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert b"".join(map(texts, ids)).decode().removeprefix(" ") == text, "SentencePiece's texts begin with a space"
    if text == TEXTS[1] and make is byte_level:
        assert any(texts(token).decode("utf-8", "ignore") == "" for token in ids), "no token is a part of a character"


def test_a_special_token_is_its_name_and_what_is_none_is_nothing():
    texts = TokenTexts(byte_level())
    assert texts(0) == b"<end>"
    assert texts(10**6) == b""
