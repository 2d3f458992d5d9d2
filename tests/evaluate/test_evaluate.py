import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyana.evaluate import trigram_bits_per_byte

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
