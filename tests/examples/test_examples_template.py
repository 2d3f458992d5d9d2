"""What is learnt of a conversation, held to trl's own labels and to transformers' masks of marked templates."""

import datetime
import json
from pathlib import Path

import numpy as np
import pytest
from byte_tokenizer import byte_tokenizer
from transformers import AutoTokenizer
from transformers.utils import chat_template_utils

from polyana.errors import UserError
from polyana.examples import BadRow, ChatTemplate, Conversation, ExampleSource, PlainText, conversation_of

TRL = json.loads((Path(__file__).parent / "trl_masks.json").read_text(encoding="utf-8"))

# What trl learns beyond what the assistant says and its end-of-turn token: line ends and the document's end behind it,
# and what stands in front of it that the generation prompt writes.
BEYOND = {
    "llama3": set(),
    "qwen2_5": {"\n"},
    "qwen3": {"\n"},
    "gemma": {"\n"},
    "phi3": {"\n", "\n</s>"},
    "cohere2": set(),
    "deepseekv3": {"<｜Assistant｜>"},
    "lfm2_v2": {"\n"},
    "gptoss": {"<|start|>assistant"},
}
# trl's marked variants write these otherwise than the model's own template: with the thoughts of earlier turns
REWRITTEN = {"qwen3": {"the same said twice", "system", "tools"}}

CASES = [(family, row) for family, made in TRL["families"].items() for row in made["rows"]]


def learnt(template, conversation):
    """(ids, which of them are learnt) of a conversation."""
    ((ids, weights),) = template.encode([template.write(conversation)])
    return ids.tolist(), np.flatnonzero(weights).tolist()


def runs(numbers):
    """Numbers that follow each other, put together."""
    found = []
    for number in numbers:
        if found and found[-1][-1] == number - 1:
            found[-1].append(number)
        else:
            found.append([number])
    return found


class RecordedDay(datetime.datetime):
    """The day on which trl's answers were recorded."""

    @classmethod
    def now(cls):
        return cls(2026, 11, 22)


@pytest.mark.parametrize(("family", "row"), [case for case in CASES if case[1] != "text prompt"])
def test_what_is_learnt_is_what_trl_learns(tmp_path, monkeypatch, family, row):
    monkeypatch.setattr(chat_template_utils, "datetime", RecordedDay)  # some templates write today's date
    made = TRL["families"][family]
    template = ChatTemplate(byte_tokenizer(tmp_path, tuple(made["special"]), made["template"]))
    given, theirs = dict(TRL["rows"][row]), made["rows"][row]
    if row == "tools" and family in ("llama3", "phi3"):
        with pytest.raises(BadRow, match="does not write tools"):  # trl leaves the tools out and says nothing
            template.write(conversation_of(given, ExampleSource(path="x")))
        return
    if row == "tools" and family == "deepseekv3":  # wants arguments as text; trl has them so
        with pytest.raises(BadRow, match="refuses it"):
            template.write(conversation_of(given, ExampleSource(path="x")))
        return
    ids, ours = learnt(template, conversation_of(given, ExampleSource(path="x")))
    if row in REWRITTEN.get(family, ()):
        assert ids != theirs["ids"]
        return
    assert ids == theirs["ids"]
    assert set(ours) <= set(theirs["learnt"])
    beyond = sorted(set(theirs["learnt"]) - set(ours))
    assert {template.tokenizer.decode([ids[at] for at in run]) for run in runs(beyond)} <= BEYOND[family]
    ends = {ids[run[-1]] for run in runs(ours)}
    assert template.end_of_turn[-1] in ends  # or generation would never stop
    assert template.write(conversation_of(given, ExampleSource(path="x"))).complete


def test_a_text_prompt_is_continued_as_in_trl(tmp_path):
    template = ChatTemplate(byte_tokenizer(tmp_path), "raw")
    ids, ours = learnt(template, conversation_of(TRL["rows"]["text prompt"], ExampleSource(path="x")))
    theirs = TRL["families"]["llama3"]["rows"]["text prompt"]
    assert (ids, ours) == (theirs["ids"], theirs["learnt"])


MARKED = """\
{%- for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}
{%- if message.role == 'assistant' %}{% generation %}{{ message.content }}END{% endgeneration %}AFTER
{%- else %}{{ message.content + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
TURNS = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "🌍 Hello"},
    {"role": "user", "content": "And?"},
    {"role": "assistant", "content": "Yes"},
]


@pytest.mark.parametrize(("end", "after"), [("<|im_end|>", ""), ("", "<|im_end|>")])
def test_marks_are_obeyed_and_the_end_of_a_turn_is_learnt_with_them(tmp_path, end, after):
    text = MARKED.replace("END", end).replace("AFTER", after)
    directory = byte_tokenizer(tmp_path, ("<|im_start|>", "<|im_end|>"), text)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    theirs = tokenizer.apply_chat_template(TURNS, return_assistant_tokens_mask=True, return_dict=True)
    template = ChatTemplate(directory)
    ids, ours = learnt(template, Conversation(TURNS, [0.0, 1.0, 0.0, 1.0]))
    expected = set(np.flatnonzero(theirs["assistant_masks"]).tolist())
    ends = [at for at, token in enumerate(ids) if token == tokenizer.convert_tokens_to_ids("<|im_end|>")]
    assert ids == theirs["input_ids"]
    assert set(ours) == expected | {ends[1], ends[3]}


def test_marks_and_comparing_texts_find_the_same(tmp_path):
    text = MARKED.replace("END", "<|im_end|>").replace("AFTER", "")
    special = ("<|im_start|>", "<|im_end|>")
    marked = ChatTemplate(byte_tokenizer(tmp_path / "marked", special, text))
    bare = text.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    plain = ChatTemplate(byte_tokenizer(tmp_path / "plain", special, bare))
    conversation = Conversation(TURNS, [0.0, 2.0, 0.0, 0.5])
    assert marked.write(conversation) == plain.write(conversation)
    assert [weight for _, _, weight in plain.write(conversation).spans] == [2.0, 0.5]


THOUGHTS = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHello"},
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "4", "reasoning_content": "two and two"},
]


def test_a_template_that_takes_thoughts_out_of_earlier_turns(tmp_path):
    made = TRL["families"]["qwen3"]
    template = ChatTemplate(byte_tokenizer(tmp_path, tuple(made["special"]), made["template"]))
    written = template.write(Conversation(THOUGHTS, [0.0, 1.0, 0.0, 1.0]))
    said = [written.text[start:end] for start, end, _ in written.spans]
    assert said == ["Hello<|im_end|>", "<think>\ntwo and two\n</think>\n\n4<|im_end|>"]


def test_tools_that_are_asked_again_after_their_answers(tmp_path):
    made = TRL["families"]["gptoss"]
    template = ChatTemplate(byte_tokenizer(tmp_path, tuple(made["special"]), made["template"]))
    given = TRL["rows"]["tools"]
    messages = [*given["messages"], {"role": "user", "content": "Thanks"}, {"role": "assistant", "content": "Welcome"}]
    written = template.write(conversation_of({**given, "messages": messages}, ExampleSource(path="x")))
    assert [written.text[start:end] for start, end, _ in written.spans] == [
        ' to=functions.weather<|channel|>commentary json<|message|>{"city": "Paris"}<|call|>',
        "<|channel|>final<|message|>Sunny.<|end|>",
        "<|channel|>final<|message|>Welcome<|return|>",
    ]


MISTRAL = """\
{{- bos_token }}{% set ns = namespace(system='') %}
{%- for message in messages %}
    {%- if message.role == 'system' %}{% set ns.system = message.content + '\n\n' %}
    {%- elif message.role == 'user' %}{{- '[INST] ' + (ns.system if loop.index0 >= messages | length - 2 else '') }}
        {{- message.content + ' [/INST]' }}
    {%- else %}{{ ' ' + message.content | trim + eos_token }}{% endif %}
{%- endfor %}"""
"""As Mistral's: the system message stands in the last question, so that no turn's text is the beginning of the next."""


def test_a_template_whose_system_message_moves(tmp_path):
    template = ChatTemplate(byte_tokenizer(tmp_path, ("[INST]", "[/INST]"), MISTRAL))
    written = template.write(Conversation([{"role": "system", "content": "Short"}, *TURNS], [0.0, 0.0, 1.0, 0.0, 1.0]))
    assert written.text == "<s>[INST] Hi [/INST] 🌍 Hello</s>[INST] Short\n\nAnd? [/INST] Yes</s>"
    assert [written.text[start:end] for start, end, _ in written.spans] == [" 🌍 Hello</s>", " Yes</s>"]


@pytest.mark.parametrize("name", ["chatml", "zephyr", "alpaca", "raw"])
def test_named_templates_end_turns_and_are_saved_with_their_tokens(tmp_path, name):
    template = ChatTemplate(byte_tokenizer(tmp_path / "bare"), name)
    written = template.write(Conversation(TURNS, [0.0, 1.0, 0.0, 1.0]))
    end = "<|im_end|>" if name == "chatml" else "</s>"
    assert [written.text[start:end] for start, end, _ in written.spans] == [f"🌍 Hello{end}", f"Yes{end}"]
    assert template.new_tokens == (["<|im_start|>", "<|im_end|>"] if name == "chatml" else [])
    template.save(tmp_path / "saved")
    loaded = AutoTokenizer.from_pretrained(tmp_path / "saved")
    (ours, _), = template.encode([written])  # fmt: skip
    assert loaded.apply_chat_template(TURNS)["input_ids"] == ours.tolist()
    assert ChatTemplate(tmp_path / "saved").end_of_turn == template.end_of_turn


def test_a_tokenizer_that_begins_texts_with_a_token_does_so_in_named_templates(shared_data):
    template = ChatTemplate(shared_data / "stories260k" / "hf", "zephyr")
    begins = template.tokenizer("a")["input_ids"][0] == template.tokenizer.bos_token_id
    ids, ours = learnt(template, Conversation(TURNS, [0.0, 1.0, 0.0, 1.0]))
    assert (ids[0] == template.tokenizer.bos_token_id) == begins
    said = [template.tokenizer.decode([ids[at] for at in run]) for run in runs(ours)]
    assert [text.strip() for text in said] == ["🌍 Hello</s>", "Yes</s>"]


def test_a_base_without_a_template_or_an_end_of_turn_is_refused(tmp_path):
    with pytest.raises(UserError, match="no chat template; write `template: zephyr`"):
        ChatTemplate(byte_tokenizer(tmp_path / "none")).write(Conversation(TURNS, [0.0, 1.0, 0.0, 1.0]))
    endless = "{% for message in messages %}{{ message.role + ': ' + message.content + '\n' }}{% endfor %}"
    with pytest.raises(UserError, match="generation would never stop"):
        ChatTemplate(byte_tokenizer(tmp_path / "endless", (), endless)).write(Conversation(TURNS, [0.0, 1.0, 0.0, 1.0]))


def test_a_broken_template_and_one_that_leaves_words_out(tmp_path):
    with pytest.raises(UserError, match=r"too much for the chat template: .*Encountered unknown tag"):
        ChatTemplate(byte_tokenizer(tmp_path / "broken", (), "{% fro x in y %}")).write(
            Conversation(TURNS, [0, 1, 0, 1])
        )
    first = "{% for message in messages %}{{ message.content.split()[0] }}</s>{% endfor %}"
    template = ChatTemplate(byte_tokenizer(tmp_path / "first", (), first))
    assert not template.write(Conversation(TURNS, [0.0, 1.0, 0.0, 1.0])).complete
    assert template.write(Conversation(TURNS[2:], [0.0, 1.0])).complete


def test_a_text_is_learnt_whole_and_does_not_end_where_it_says_so(tmp_path):
    template = ChatTemplate(byte_tokenizer(tmp_path))
    tokens, weights = template.encode_text(PlainText("a</s>b", 0.5))
    assert (tokens == template.tokenizer.eos_token_id).tolist() == [False] * 6 + [True]
    assert weights.tolist() == [0.0] + [0.5] * 6
    assert template.has_special("a</s>b")
