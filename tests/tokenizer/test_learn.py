"""BPE gone on with: what is new is used, what is old stays."""

import json

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from polyana.errors import UserError
from polyana.tokenizer import learn_bpe, learn_more

ENGLISH = ["The table stands in the house by the river.", "A cloud is over the garden and the table."] * 20
RUSSIAN = ["Стол стоит в доме у реки.", "Туча над садом и над столом, стол у дома."] * 20


@pytest.fixture(scope="module")
def english():
    return learn_bpe(ENGLISH, 330, 2, ["<|end|>"])


@pytest.fixture(scope="module")
def prose(shared_data):
    """Lines of English and of Russian prose; their counts are seldom alike, so that it is clear what comes next."""
    english = (shared_data / "eng_tinyshakespeare" / "input.txt").read_text()[:300_000]
    russian = (shared_data / "rus_prose" / "Tolstoy" / "Анна Каренина.txt").read_text()[:300_000]
    return english.splitlines(), russian.splitlines()


def ids(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False).ids


def test_new_pieces_are_used_and_old_text_stays_as_it_was(prose):
    english, russian = prose
    old = learn_bpe(english, 2000, 2, ["<|end|>"])
    more, made_of = learn_more(old, lambda: russian, 500)
    assert len(made_of) == 500
    assert more.get_vocab_size() == old.get_vocab_size() + 500
    assert [ids(more, text) for text in english] == [ids(old, text) for text in english]
    assert [more.decode(ids(more, text)) for text in russian[:300]] == russian[:300]
    assert sum(len(ids(more, text)) for text in russian) < 0.4 * sum(len(ids(old, text)) for text in russian)
    used = {token for text in russian for token in ids(more, text)}
    assert len(used & set(made_of)) > 0.85 * len(made_of)  # the others are only steps to longer ones
    letters = set(pre_tokenizers.ByteLevel.alphabet())
    for token, parts in made_of.items():
        assert set(more.id_to_token(token)) <= letters
        assert more.id_to_token(token) == "".join(old.id_to_token(part) for part in parts)
        assert old.id_to_token(token) is None


def test_to_go_on_is_as_good_as_to_learn_all_at_once(prose):
    """The oracle: the trainer, which learned 600 merges, and one that learned 200 and was gone on with."""
    texts = prose[0] + prose[1]
    whole = learn_bpe(texts, 257 + 600, 2, ["<|end|>"])
    more, made_of = learn_more(learn_bpe(texts, 257 + 200, 2, ["<|end|>"]), lambda: texts, 400)
    merges = [{tuple(pair) for pair in json.loads(each.to_str())["model"]["merges"]} for each in (more, whole)]
    assert len(made_of) == 400
    assert len(merges[0] & merges[1]) > 0.98 * 600  # of pairs as frequent, the one or the other comes first
    assert sum(len(ids(more, text)) for text in texts) == pytest.approx(
        sum(len(ids(whole, text)) for text in texts), rel=1e-3
    )


def test_added_tokens_keep_their_ids(english):
    from tokenizers import AddedToken

    added = Tokenizer.from_str(english.to_str())
    added.add_tokens([AddedToken("<ru>", normalized=False)])
    added.add_special_tokens([AddedToken("<|turn|>", normalized=False)])
    before = {token: added.token_to_id(token) for token in ("<|end|>", "<ru>", "<|turn|>")}
    more, made_of = learn_more(added, lambda: ["<ru> " + text for text in RUSSIAN], 30)
    assert {token: more.token_to_id(token) for token in before} == before
    assert not set(made_of) & set(before.values())
    assert ids(more, "<ru><|turn|>") == [before["<ru>"], before["<|turn|>"]]
    assert not any("<ru>" in more.id_to_token(token) for token in made_of)
    again = Tokenizer.from_str(more.to_str())
    assert ids(again, RUSSIAN[0]) == ids(more, RUSSIAN[0])


def sentencepiece_like(texts):
    """BPE that knows no words before merging and writes unknown letters as bytes, as Llama 2's."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0),
    ])  # fmt: skip
    special = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([word for text in texts for word in text.split()], trainer)
    saved = json.loads(tokenizer.to_str())
    saved["added_tokens"] = [each for each in saved["added_tokens"] if each["content"] == "<unk>"]
    saved["model"]["byte_fallback"] = True
    return Tokenizer.from_str(json.dumps(saved))


def test_letters_that_were_bytes_become_letters_and_then_words():
    old, text = sentencepiece_like(ENGLISH), "The garden by the house. Стол у дома"
    more, made_of = learn_more(old, lambda: ENGLISH + RUSSIAN, 60)
    assert more.decode(ids(more, text)) == old.decode(ids(old, text)) == text
    names = {more.id_to_token(token) for token in made_of}
    assert {"С", "т", "о", "л"} <= names
    assert any(len(name) > 3 and name[-1] in "аол" for name in names)
    assert len(ids(more, text)) < 0.5 * len(ids(old, text))
    bytes_of = [f"<0x{byte:02X}>" for byte in "т".encode()]
    assert made_of[more.token_to_id("т")] == [old.token_to_id(each) for each in bytes_of]
    for token, parts in made_of.items():
        assert all(part < old.get_vocab_size() for part in parts)
        assert "<0x" not in more.id_to_token(token)
        assert "▁" not in more.id_to_token(token)[1:]  # no token reaches into the next word


def test_only_bpe_can_be_gone_on_with():
    unigram = Tokenizer(models.Unigram([("a", -1.0), ("b", -2.0)], 0))
    with pytest.raises(UserError, match="its tokenizer is Unigram, and only BPE can be gone on with"):
        learn_more(unigram, lambda: RUSSIAN, 5)
