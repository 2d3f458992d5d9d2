import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polyana.evaluate import GenerationConfig, generate, load_for_generation, trigram_bits_per_byte

UNICODE = 0x110000 - 2048


class SlowTrigram:
    """The same formula, one character at a time and with dictionaries."""

    def __init__(self, train: list[str]) -> None:
        text = "".join(part + "\0" for part in train)
        self.characters = set(text)
        self.counts = Counter(text[i : i + order] for order in (1, 2, 3) for i in range(len(text) - order + 1))
        self.contexts, self.kinds = Counter(), Counter()
        for gram, count in self.counts.items():
            self.contexts[len(gram), gram[:-1]] += count
            self.kinds[len(gram), gram[:-1]] += 1

    def probability(self, gram: str) -> float:
        if not gram:
            return 1 / UNICODE
        lower, context = self.probability(gram[1:]), (len(gram), gram[:-1])
        n, t = self.contexts[context], self.kinds[context]
        return (self.counts[gram] + t * lower) / (n + t) if n else lower

    def bits_per_byte(self, held_out: list[str]) -> float:
        test = "".join(part + "\0" for part in held_out)
        bits = -sum(math.log2(self.probability(test[max(0, i - 2) : i + 1])) for i in range(len(test)))
        return bits / len(test.encode())


texts = st.lists(st.text(st.sampled_from("abc дя\n😀"), min_size=1, max_size=30), min_size=1, max_size=4)


@settings(max_examples=100, deadline=None)
@given(texts, texts)
def test_the_trigram_is_the_formula_it_says(train, held_out):
    assert trigram_bits_per_byte(train, held_out) == pytest.approx(SlowTrigram(train).bits_per_byte(held_out))


@pytest.mark.parametrize("context", ["", "a", "ab", "zz", "\0"])
def test_the_trigrams_probabilities_sum_to_one(context):
    model = SlowTrigram(["abracadabra", "barbara"])
    seen = sum(model.probability(context + character) for character in model.characters)
    unseen = (UNICODE - len(model.characters)) * model.probability(context + "q")
    assert seen + unseen == pytest.approx(1.0)


@pytest.fixture(scope="module")
def stories():
    from conftest import SHARED

    directory = SHARED / "stories260k" / "hf"
    if not directory.is_dir():
        pytest.skip("../shared/data is not beside the checkout")
    return load_for_generation(directory)


def test_writing_is_repeatable_streams_and_leaves_random_numbers_alone(stories):
    model, tokenizer = stories
    settings = GenerationConfig(max_tokens=30, temperature=1.0, seed=5)
    before = torch.get_rng_state()
    pieces: list[str] = []
    text = generate(model, tokenizer, "Once upon a time", settings, pieces.append)
    assert torch.equal(before, torch.get_rng_state())
    assert "".join(pieces).strip() == text.strip()
    assert len(pieces) > 10
    assert text == generate(model, tokenizer, "Once upon a time", settings)
    other = GenerationConfig(max_tokens=30, temperature=1.0, seed=6)
    assert text != generate(model, tokenizer, "Once upon a time", other)


def test_greedy_writing_is_transformers_own(stories):
    model, tokenizer = stories
    ids = tokenizer("Once upon a time", return_tensors="pt")
    theirs = model.generate(**ids, max_new_tokens=20, do_sample=False, pad_token_id=tokenizer.eos_token_id)
    expected = tokenizer.decode(theirs[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
    assert generate(model, tokenizer, "Once upon a time", GenerationConfig(max_tokens=20, temperature=0)) == expected


def test_each_setting_changes_what_is_written(stories):
    model, tokenizer = stories
    base = {"max_tokens": 40, "temperature": 1.5, "top_k": None, "top_p": None, "seed": 1}
    texts = {generate(model, tokenizer, "Once", GenerationConfig(**base))}
    for change in ({"temperature": 0.3}, {"top_k": 3}, {"top_p": 0.3}, {"seed": 2}, {"max_tokens": 9}):
        texts.add(generate(model, tokenizer, "Once", GenerationConfig(**base | change)))
    assert len(texts) == 6


def test_the_prompt_counts_even_when_more_is_asked_for_than_fits(stories):
    model, tokenizer = stories
    settings = GenerationConfig(max_tokens=100_000, temperature=0)
    texts = {generate(model, tokenizer, f"{name} went to the", settings) for name in ("Tom and the old dog", "Anna")}
    assert len(texts) == 2


def test_a_prompt_longer_than_the_context_keeps_its_end(stories):
    model, tokenizer = stories
    longest = model.config.max_position_embeddings
    assert isinstance(generate(model, tokenizer, "a cat " * longest, GenerationConfig(max_tokens=5)), str)
    assert isinstance(generate(model, tokenizer, "", GenerationConfig(max_tokens=5)), str)
