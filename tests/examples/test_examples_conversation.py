"""Every form becomes the same conversation; what cannot be learnt from says why."""

import json

import pytest

from polyana.examples import BadRow, Conversation, ExampleSource, PlainText, conversation_of


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def conversation(row, turns="all", **settings):
    return conversation_of(row, ExampleSource(path="x", **settings), turns)


SAID = [{"role": "system", "content": "Be kind."}, user("Sum 2, 3"), assistant("5"), user("And 1?"), assistant("6")]
SHAREGPT = [{"from": "human", "value": "Sum 2, 3"}, {"from": "gpt", "value": "5"}, {"from": "human", "value": "And 1?"},
            {"from": "gpt", "value": "6"}]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "settings"),
    [
        ({"messages": SAID, "prompt": "And 1?"}, {}),
        ({"messages": json.dumps(SAID)}, {}),  # as in CSV
        ({"messages": SAID[1:], "system": "Be kind."}, {}),
        ({"talk": SAID}, {"columns": {"messages": "talk"}}),
        ({"messages": [{**one, "content": [{"type": "text", "text": one["content"]}]} for one in SAID]}, {}),
        ({"conversations": SHAREGPT, "system": "Be kind."}, {}),
        ({"conversations": [{"from": "system", "value": "Be kind."}, *SHAREGPT]}, {}),
        (
            {"instruction": "And 1?", "input": "", "output": "6", "history": [["Sum 2, 3", "5"]], "system": "Be kind."},
            {},
        ),
        ({"prompt": SAID[:-1], "completion": SAID[-1:]}, {}),
    ],
)
def test_every_form_is_the_same_conversation(row, settings):
    found = conversation(row, **settings)
    assert found.messages == SAID
    assert found.weights == [0.0, 0.0, 1.0 if not isinstance(row.get("prompt"), list) else 0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("row", "settings", "asked"),
    [
        ({"instruction": "Sum", "input": "2, 3", "output": "5"}, {}, "Sum\n\n2, 3"),
        ({"prompt": "Sum", "completion": "5", "other": 1}, {}, "Sum"),
        ({"question": "Sum", "answer": "5"}, {"columns": {"prompt": "question", "completion": "answer"}}, "Sum"),
        ({"prompt": "Sum", "answer": "5", "text": "x"}, {"columns": {"completion": "answer"}}, "Sum"),
        ({"text": "x", "prompt": "Sum", "completion": "5"}, {"form": "prompt_completion"}, "Sum"),
    ],
)
def test_a_question_and_its_answer(row, settings, asked):
    assert conversation(row, **settings) == Conversation([user(asked), assistant("5")], [0.0, 1.0])


def test_texts_are_texts():
    assert conversation({"text": "Hi", "other": "x"}, weight=2.0) == PlainText("Hi", 2.0)
    assert conversation({"body": "Hi", "text": "x"}, columns={"text": "body"}) == PlainText("Hi")


def test_weights_of_source_row_and_message_are_multiplied():
    row = {"messages": [user("a"), assistant("b", weight=0), user("c"), assistant("d", weight=0.5), user("e"),
                        assistant("f", train=False), user("g"), assistant("h")], "quality": "3"}  # fmt: skip
    found = conversation(row, weight=2.0, columns={"weight": "quality"})
    assert found.weights == [0, 0, 0, 3.0, 0, 0, 0, 6.0]
    assert not any({"weight", "train"} & set(message) for message in found.messages)
    assert conversation(row, turns="last").weights == [0, 0, 0, 0, 0, 0, 0, 1.0]
    with pytest.raises(BadRow, match="every weight is 0"):
        conversation({"messages": row["messages"][:2]})


CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Paris"}}}


@pytest.mark.parametrize(
    "call",
    [
        CALL,
        {"name": "weather", "arguments": {"city": "Paris"}},
        {"type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}},
    ],
)
def test_tool_calls_are_written_in_one_way(call):
    said = [user("?"), assistant(None, tool_calls=[call]), {"role": "tool", "content": "sun"}, assistant("Sun")]
    row = {"messages": said, "tools": [json.dumps({"name": "weather"})]}
    found = conversation(row)
    assert found.messages[1] == assistant("", tool_calls=[CALL])
    assert found.tools == [{"name": "weather"}]
    assert found.weights == [0.0, 1.0, 0.0, 1.0]
    # the answer after a tool belongs to the last question as its call does
    assert conversation(row, turns="last").weights == [0.0, 1.0, 0.0, 1.0]


def test_tool_calls_of_sharegpt():
    value = json.dumps({"name": "weather", "arguments": {"city": "Paris"}})
    row = {"conversations": [{"from": "human", "value": "?"}, {"from": "function_call", "value": value},
                             {"from": "observation", "value": "sun"}, {"from": "gpt", "value": "Sun"}]}  # fmt: skip
    found = conversation(row)
    assert [message["role"] for message in found.messages] == ["user", "assistant", "tool", "assistant"]
    assert found.messages[1] == assistant("", tool_calls=[CALL])


def messages(*said):
    return {"messages": list(said)}


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"quesion": "a", "answer": "b"}, r"none of the forms: its columns are `quesion`, `answer`; write `columns:"),
        ({}, "its columns are none"),
        ({"messages": "hello"}, "`messages` is no JSON"),
        ({"messages": {"role": "user"}}, "`messages` is no list"),
        (messages(), "there are no messages"),
        (messages("hello"), r"a message is no object with `role` and `content` \(message 1\)"),
        (messages({"content": "a"}), "a message has no `role`"),
        (messages({"role": "asistant", "content": "a"}), "`asistant` is no role; did you mean `assistant`"),
        (messages(user("a"), assistant(" ")), r"the assistant says nothing \(message 2\)"),
        (messages(user(""), assistant("a")), r"the user says nothing \(message 1\)"),
        (messages(user("a"), assistant(5)), "content is no text"),
        (messages(user([{"type": "image", "url": "x"}]), assistant("a")), "holds more than text"),
        (messages(assistant("a")), "the assistant speaks first"),
        (messages(user("a"), user("b"), assistant("c")), r"two messages of the user in a row \(message 2\)"),
        (messages(user("a"), assistant("b"), assistant("c")), "two messages of the assistant in a row"),
        (messages(user("a"), {"role": "system", "content": "s"}, assistant("b")), "system message stands after"),
        (messages(user("a"), {"role": "tool", "content": "s"}, assistant("b")), "without having been called"),
        (messages(user("a"), assistant("b"), user("c")), "ends with the user; the assistant's answer is missing"),
        (messages(user("a"), assistant("b", weight=-1)), "a weight is no number from 0 on: `-1`"),
        (messages({**user("a"), "weight": 1}, assistant("b")), "a user's message has a weight"),
        (messages(user("a"), assistant("", tool_calls=[{"arguments": {}}])), "a call of a tool has no `name`"),
        (messages(user("a"), assistant("", tool_calls=[{"name": "f", "arguments": "{"}])), "arguments .* no JSON"),
        (messages(user("a"), assistant("", tool_calls=[{"name": "f", "arguments": [1]}])), "are no object"),
        ({"prompt": "a", "completion": 5}, "`completion` is no text"),
        ({"prompt": "a", "completion": " "}, "the assistant says nothing"),
        ({"text": " "}, "the text is empty"),
        ({"instruction": "a", "output": "b", "history": ["a"]}, "`history` is no list of pairs"),
    ],
)
def test_rows_that_cannot_be_learnt_from_say_why(row, what):
    with pytest.raises(BadRow, match=what):
        conversation(row)


def test_a_column_that_is_missing_is_named():
    with pytest.raises(BadRow, match="has no `answer`; its columns are `question`"):
        conversation(
            {"question": "a"}, form="prompt_completion", columns={"prompt": "question", "completion": "answer"}
        )
