import math
import random

import pytest
import torch

from polyana.errors import UserError
from polyana.evaluate import BeamConfig, GreedyConfig, MbrConfig, translate_documents
from polyana.evaluate.decoding import least_risk
from polyana.generation import GenerationConfig, generate, load_for_generation

SENTENCES = ["Tom had a dog.", "The big red ball", "Once upon a time there was a little girl who liked to", "Mom said"]


def translate(model, tokenizer, documents, prompt, decoding, context=0) -> list[list[str]]:
    return translate_documents(model, tokenizer, documents, prompt, decoding, context).texts


@pytest.fixture(scope="module")
def stories():
    from conftest import SHARED

    directory = SHARED / "stories260k" / "hf"
    if not directory.is_dir():
        pytest.skip("../shared/data is not beside the checkout")
    return load_for_generation(directory)


@pytest.fixture(scope="module")
def learned_positions(stories):
    """A model whose positions end at 64: a token further is an error, not a worse answer."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=512, n_positions=64, n_embd=32, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2)
    return GPT2LMHeadModel(config).eval(), stories[1]


class Spy:
    """A prompt that remembers what it was asked for: earlier pairs, then the text."""

    def __init__(self, tokenizer, frame: str = "") -> None:
        self.tokenizer, self.frame = tokenizer, frame
        self.asked: list[tuple[list[tuple[str, str]], str]] = []

    def __call__(self, earlier, source):
        self.asked.append((list(earlier), source))
        told = "".join(f"{one} = {other}\n" for one, other in earlier)
        return self.tokenizer.encode(f"{self.frame}{told}{source}")


@pytest.mark.parametrize("name", ["stories", "learned_positions"])
def test_what_is_written_does_not_depend_on_the_batch(name, request):
    model, tokenizer = request.getfixturevalue(name)
    rows = SENTENCES + [sentence[:7].strip() for sentence in SENTENCES]
    prompt = Spy(tokenizer)
    together = translate(model, tokenizer, [rows], prompt, GreedyConfig(max_ratio=1.5))
    single = translate(model, tokenizer, [rows], prompt, GreedyConfig(max_ratio=1.5, batch=1))
    assert together == single
    for row, written in zip(rows, together[0], strict=True):
        limit = max(16, math.ceil(1.5 * len(tokenizer.encode(row, add_special_tokens=False))))
        settings = GenerationConfig(max_tokens=limit, temperature=0)
        assert written == generate(model, tokenizer, row, settings).strip()


def test_beam_search_is_transformers_own_one_by_one(stories):
    model, tokenizer = stories
    beam = BeamConfig(beams=3, length_penalty=0.5, max_ratio=0.1)  # 16 tokens each
    written = translate(model, tokenizer, [SENTENCES], Spy(tokenizer), beam)[0]
    for sentence, text in zip(SENTENCES, written, strict=True):
        ids = tokenizer(sentence, return_tensors="pt")
        theirs = model.generate(**ids, max_new_tokens=16, num_beams=3, length_penalty=0.5, do_sample=False)
        assert text == tokenizer.decode(theirs[0, ids["input_ids"].shape[1] :], skip_special_tokens=True).strip()
    assert written != translate(model, tokenizer, [SENTENCES], Spy(tokenizer), GreedyConfig(max_ratio=0.1))[0]


def test_an_answer_ends_where_the_model_says(stories, monkeypatch):
    model, tokenizer = stories
    full = translate(model, tokenizer, [SENTENCES], Spy(tokenizer), GreedyConfig())[0]
    (stop,) = tokenizer.encode(".", add_special_tokens=False)[-1:]
    monkeypatch.setattr(model.generation_config, "eos_token_id", [2, stop])
    ended = translate_documents(model, tokenizer, [SENTENCES], Spy(tokenizer), GreedyConfig())
    assert ended.texts == [[text.split(".")[0] for text in full]]
    assert ended.texts != [full]
    assert ended.answers == 4
    assert ended.unfinished == sum("." not in text for text in full)


def test_answers_that_never_end_are_counted(stories):
    model, tokenizer = stories
    done = translate_documents(model, tokenizer, [SENTENCES, [""]], Spy(tokenizer), GreedyConfig(max_ratio=0.1))
    assert (done.answers, done.unfinished) == (4, 4)


def test_least_risk_is_the_text_most_like_the_others():
    pytest.importorskip("sacrebleu")
    from test_translation import chrf

    candidates = ["the cat sat on a mat", "the cat sat on the mat", "a dog ran far away", "the cat is on the mat"]
    risks = [sum(chrf([(one, other)], words=0) for other in candidates) for one in candidates]
    assert least_risk(candidates) == candidates[risks.index(max(risks))] == "the cat sat on the mat"
    assert least_risk(["one way", "other", "other"]) == "other"  # drawn twice counts twice
    assert least_risk(["", ""]) == ""


def test_mbr_is_repeatable_and_leaves_random_numbers_alone(stories):
    pytest.importorskip("sacrebleu")
    model, tokenizer = stories
    before = torch.get_rng_state()

    def draw(**settings):
        config = MbrConfig(**{"samples": 4, "max_ratio": 0.1, "epsilon": 0.0} | settings)
        return translate(model, tokenizer, [SENTENCES], Spy(tokenizer), config)[0]

    first = draw()
    assert first == draw()
    assert torch.equal(before, torch.get_rng_state())
    assert len({tuple(first), *(tuple(draw(**change)) for change in (
        {"seed": 1}, {"samples": 6}, {"temperature": 0.5}, {"epsilon": 0.3},
    ))}) == 5  # fmt: skip


def test_context_slides_over_a_document_longer_than_the_models(stories):
    model, tokenizer = stories
    generator = random.Random(0)
    document = [f"{' '.join(generator.choices(SENTENCES, k=3))} {number}" for number in range(24)]
    assert len(tokenizer.encode(" ".join(document))) > 512
    prompt = Spy(tokenizer)
    config = GreedyConfig(max_ratio=2.0)
    long, short = translate(model, tokenizer, [document, document[:3]], prompt, config, context=8)
    assert long[:3] == short  # documents side by side do not disturb each other
    asked = [each for each in prompt.asked if each[1] == document[-1] and each[0]]
    pairs = list(zip(document, long, strict=True))
    assert asked[0][0] == pairs[15:23]  # the eight before, with the model's own translations
    used = asked[-1][0]
    assert used == pairs[23 - len(used) : 23]  # the newest of them
    assert 0 < len(used) < 8
    for earlier, source in prompt.asked:
        assert source in document
        assert len(earlier) <= 8


def test_what_is_asked_and_answered_fits(learned_positions):
    """With learned positions a token too far raises."""
    model, tokenizer = learned_positions
    document = ["Tom ran.", "A dog", "Lily saw a cat and it was big", "Yes"] * 3
    written = translate(model, tokenizer, [document, document[:5]], Spy(tokenizer), GreedyConfig(), context=3)
    assert [len(each) for each in written] == [12, 5]
    assert all(all(each) for each in written)


def test_a_segment_too_long_is_cut_at_sentence_ends_and_nothing_is_lost(learned_positions):
    model, tokenizer = learned_positions
    text = " ".join(["Tom ran far away.", "He saw a cat!", "Was it big? It was.", " ".join(map(str, range(40))) + "."])
    prompt = Spy(tokenizer)
    (written,) = translate(model, tokenizer, [[text, "Yes"]], prompt, GreedyConfig(max_ratio=1.0))
    assert len(written) == 2
    parts, rest = [], text  # a part that was not cut further is the shortest asked for
    while rest:
        part = min((source for _, source in prompt.asked if rest.startswith(source)), key=len)
        parts.append(part)
        rest = rest[len(part) :].strip()
    assert len(parts) > 4
    alone = translate(model, tokenizer, [parts], Spy(tokenizer), GreedyConfig(max_ratio=1.0))[0]
    assert written[0] == " ".join(alone)
    assert any(part.endswith(("!", "away.", "was.")) for part in parts)


def test_a_prompt_that_leaves_no_room_is_named(learned_positions):
    model, tokenizer = learned_positions
    with pytest.raises(UserError, match="context of 64 tokens is too short"):
        translate(model, tokenizer, [["Yes"]], Spy(tokenizer, frame="word " * 60), GreedyConfig())


def test_what_is_blank_stays_blank(stories):
    model, tokenizer = stories
    prompt = Spy(tokenizer)
    written = translate(model, tokenizer, [["", "Tom", "  "], []], prompt, GreedyConfig(), context=1)
    assert written[0][0] == written[0][2] == ""
    assert written[0][1]
    assert written[1] == []
    assert {source for _, source in prompt.asked} == {"Tom"}
    assert translate(model, tokenizer, [], prompt, GreedyConfig(), context=1) == []
