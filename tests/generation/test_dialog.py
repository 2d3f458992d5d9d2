"""A dialog: each answer is what the model writes for the whole conversation, however much of it was read before."""

import json

import pytest
import torch

from polyana.errors import UserError
from polyana.examples import question
from polyana.examples.named_templates import NAMED
from polyana.generation import Dialog, GenerationConfig, generate

GREEDY = GenerationConfig(max_tokens=24, temperature=0, top_k=None)


@pytest.fixture(scope="module")
def stories():
    """A real small model, asked in zephyr's template."""
    from conftest import SHARED
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not SHARED.is_dir():
        pytest.skip("../shared/data is not beside the checkout")
    place = SHARED / "stories260k" / "hf"
    tokenizer = AutoTokenizer.from_pretrained(place)
    tokenizer.chat_template = NAMED["zephyr"].text
    return AutoModelForCausalLM.from_pretrained(place).eval(), tokenizer


def test_answers_are_those_without_a_cache_and_only_what_is_new_is_computed(stories, monkeypatch):
    model, tokenizer = stories
    read = []
    forward = type(model).forward

    def counted(self, *arguments, **named):
        read.append(named["input_ids"].shape[1])
        return forward(self, *arguments, **named)

    dialog, history = Dialog(model, tokenizer, GREEDY), []
    for turn, text in enumerate(["Once upon a time", "And then?", "Why was Lily sad?"]):
        history.append({"role": "user", "content": text})
        expected = generate(model, tokenizer, question(tokenizer, history), GREEDY)
        whole = len(question(tokenizer, history))
        pieces = []
        with monkeypatch.context() as patch:
            patch.setattr(type(model), "forward", counted)
            assert dialog.say(text, pieces.append) == expected == "".join(pieces)
        assert read[0] == whole if turn == 0 else read[0] < 0.7 * whole
        assert read[1:] == [1] * (len(read) - 1)
        read.clear()
        history.append({"role": "assistant", "content": expected.strip()})
    assert dialog.messages == history
    assert dialog.undo() == "Why was Lily sad?"
    again = dialog.say("Why was Lily sad?")
    assert again == expected
    dialog.reset()
    assert dialog.messages == []
    assert dialog.say("Once upon a time") == generate(
        model, tokenizer, question(tokenizer, [{"role": "user", "content": "Once upon a time"}]), GREEDY
    )


def test_seeds_give_the_same_answers_and_each_turn_another(stories):
    settings = GenerationConfig(max_tokens=16, temperature=1.0, seed=5)

    def talk():
        dialog = Dialog(*stories, settings)
        first = dialog.say("Once upon a time")
        dialog.undo()
        return first, dialog.say("Once upon a time")

    first, second = talk()
    assert talk() == (first, second)
    assert first != second


def test_a_long_conversation_loses_its_oldest_turns_and_a_question_too_long_is_a_letter(stories):
    model, tokenizer = stories
    dialog = Dialog(model, tokenizer, GREEDY.model_copy(update={"max_tokens": 100}), "Be kind.")
    for number in range(8):
        dialog.say(f"Once upon a time there was a girl number {number}")
    assert len(dialog.messages) == 17
    with pytest.raises(UserError, match=r"that takes [\d,]+ tokens, and the model's context has room for 412 and an"):
        dialog.say("word " * 600)
    assert len(dialog.messages) == 17
    assert dialog.say("Hi")


def test_a_system_message_that_the_template_refuses_and_a_model_without_one(stories):
    import copy

    model, tokenizer = stories
    plain = copy.deepcopy(tokenizer)
    plain.chat_template = None
    with pytest.raises(UserError, match="it has no chat template, so it knows no turns; `polyana generate` goes on"):
        Dialog(model, plain, GREEDY)
    plain.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system message') }}{% endif %}"
        "{{ messages[-1].content }}"
    )
    dialog = Dialog(model, plain, GREEDY)
    with pytest.raises(UserError, match="the model's chat template refuses it: no system message"):
        dialog.system = "Be kind."
    assert dialog.system is None
    assert dialog.say("Once upon a time")


def test_an_answer_that_is_stopped_stays_as_far_as_it_came(stories, tmp_path):
    dialog = Dialog(*stories, GREEDY)
    pieces = []

    def write(piece):
        pieces.append(piece)
        if len(pieces) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dialog.say("Once upon a time", write)
    first = dialog.messages
    assert first[1] == {"role": "assistant", "content": "".join(pieces).strip()}
    said = dialog.say("And then?")
    model, tokenizer = stories
    again = [*first, {"role": "user", "content": "And then?"}]
    assert said == generate(model, tokenizer, question(tokenizer, again), GREEDY)
    dialog.save(tmp_path / "kept.jsonl")
    dialog.save(tmp_path / "kept.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "kept.jsonl").read_text().splitlines()]
    assert rows == [{"messages": dialog.messages}] * 2


def test_a_model_whose_past_cannot_be_cut_is_read_anew_each_turn(stories):
    """Mistral with a window: the same answers as without a cache."""
    from transformers import MistralConfig, MistralForCausalLM

    _, tokenizer = stories
    torch.manual_seed(0)
    model = MistralForCausalLM(
        MistralConfig(
            vocab_size=512, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=256, sliding_window=8, initializer_range=0.3,
        )
    ).eval()  # fmt: skip
    dialog, history = Dialog(model, tokenizer, GREEDY), []
    for text in ("Once upon a time", "And then?"):
        history.append({"role": "user", "content": text})
        expected = generate(model, tokenizer, question(tokenizer, history), GREEDY)
        assert dialog.say(text) == expected
        history.append({"role": "assistant", "content": expected.strip()})
