"""OpenAI's own client against a real server: what it answers, and what it refuses."""

import http.client
import json
from functools import cache

import pytest
import torch

openai = pytest.importorskip("openai")

from answering import serving, trained_place  # noqa: E402

from polyana.generation import GenerationConfig, as_question, continue_ids, generate, load_for_generation  # noqa: E402
from polyana.revisions import held_revision  # noqa: E402
from polyana.tracking import Console  # noqa: E402

CAT = [{"role": "user", "content": "Tell me of a cat."}]
GREEDY = {"temperature": 0, "max_tokens": 24}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return trained_place(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def server(place):
    with serving(place, "stories-chat@step-4", "stories-chat", "stories-plain") as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with server.client() as client:
        yield client


def test_logprobs_are_the_models_own_distribution(client, models):
    """Against a forward pass over the whole text, in fp32; whatever temperature and top_k drew by."""
    model, tokenizer = models("stories-chat")
    found = client.chat.completions.create(
        model="stories-chat", messages=CAT, temperature=1.7, seed=5, max_tokens=20, logprobs=True, top_logprobs=3,
        extra_body={"top_k": 20},
    )  # fmt: skip
    content = found.choices[0].logprobs.content
    assert len(content) == found.usage.completion_tokens
    text = b"".join(bytes(each.bytes) for each in content).decode()
    assert text.strip() == found.choices[0].message.content.strip()
    asked = as_question(tokenizer, CAT[0]["content"])
    settings = GenerationConfig(temperature=1.7, seed=5, max_tokens=20, top_k=20)
    written = continue_ids(model, tokenizer, asked, settings)
    with torch.no_grad():
        logits = model(torch.tensor([asked + written])).logits[0].float()
    expected = torch.log_softmax(logits, -1)[len(asked) - 1 :]
    for each, token, row in zip(content, written, expected, strict=False):
        assert each.logprob == pytest.approx(float(row[token]), abs=1e-4)
        assert [other.logprob for other in each.top_logprobs] == pytest.approx(row.topk(3).values.tolist(), abs=1e-4)
        assert each.token.encode() == bytes(each.bytes) or "\ufffd" in each.token
    streamed = client.chat.completions.create(
        model="stories-chat", messages=CAT, temperature=1.7, seed=5, max_tokens=20, logprobs=True, top_logprobs=3,
        stream=True, extra_body={"top_k": 20},
    )  # fmt: skip
    chunks = [chunk.choices[0] for chunk in streamed]
    assert [each for chunk in chunks if chunk.logprobs for each in chunk.logprobs.content or []] == content


def test_a_completions_logprobs_stand_at_their_places(client):
    asked = {"model": "stories-plain", "prompt": "Once", "temperature": 0, "max_tokens": 12, "logprobs": 2}
    found = client.completions.create(**asked).choices[0]
    told = found.logprobs
    assert "".join(told.tokens) == found.text
    assert [found.text[at:].startswith(token) for at, token in zip(told.text_offset, told.tokens, strict=True)] == (
        [True] * 12
    )
    for token, logprob, likeliest in zip(told.tokens, told.token_logprobs, told.top_logprobs, strict=True):
        assert next(iter(likeliest.items())) == (token, logprob), "greedy takes the likeliest"
        assert len(likeliest) == 2
    chunks = [chunk.choices[0].logprobs for chunk in client.completions.create(stream=True, **asked)]
    for name in ("tokens", "token_logprobs", "text_offset"):
        assert [each for chunk in chunks for each in getattr(chunk, name)] == getattr(told, name)
    none = client.completions.create(**asked | {"logprobs": None}).choices[0]
    assert (none.text, none.logprobs) == (found.text, None)


@pytest.fixture(scope="module")
def models(place):
    """models(name): (model, tokenizer) as the commands load them."""

    @cache
    def load(name):
        with held_revision(name, place.home) as revision:
            return load_for_generation(revision.directory, revision.base(Console()))

    return load


@pytest.fixture(scope="module")
def write_alone(models):
    """write_alone(name, prompt, **settings): what `polyana generate` writes, without a process of its own."""

    def write(name, prompt, raw=False, **settings):
        model, tokenizer = models(name)
        asked = prompt if raw else as_question(tokenizer, prompt)
        return generate(model, tokenizer, asked, GenerationConfig(**settings))

    return write


def post(server, body, path="/v1/chat/completions", **headers):
    """(status, JSON) of a request as curl would send it."""
    connection = http.client.HTTPConnection(server.address, timeout=120)
    try:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("POST", path, content, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def streamed(client, **settings):
    """(text of each choice, how each ended, usage) of a stream of chat."""
    texts, ends, usage = {}, {}, None
    for chunk in client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **settings):
        for choice in chunk.choices:
            assert choice.delta.role == ("assistant" if choice.index not in texts else None)
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
            if choice.finish_reason:
                ends[choice.index] = choice.finish_reason
        usage = chunk.usage or usage
    return texts, ends, usage


def test_models_are_listed_with_their_commits(place, client):
    listed = client.models.list().data
    assert [each.id for each in listed] == ["stories-chat@step-4", "stories-chat", "stories-plain"]
    repository = place.repository()
    assert [each.commit for each in listed[:2]] == [repository.resolve(each).id for each in ("step-4", "main")]
    assert client.models.retrieve("stories-chat@step-4").step == 4
    whole = f"{repository.run}@{repository.resolve('step-4').id}"
    for name in ("stories-chat@step-4", f"{repository.run}@step-4", whole):
        assert client.models.retrieve(name).id == "stories-chat@step-4"
    with pytest.raises(openai.NotFoundError, match="there is: stories-chat@step-4, stories-chat, stories-plain"):
        client.models.retrieve("stories-chat@step-2")


def test_greedy_answers_are_those_of_generate_whole_and_in_pieces(place, client, write_alone):
    for name in ("stories-chat@step-4", "stories-chat"):
        alone = write_alone(name, CAT[0]["content"], temperature=0, max_tokens=24)
        whole = client.chat.completions.create(model=name, messages=CAT, **GREEDY)
        assert whole.choices[0].message.content == alone
        assert whole.choices[0].finish_reason == "length"
        assert whole.system_fingerprint == place.repository().resolve(name.partition("@")[2] or "main").id
        assert (whole.object, whole.model) == ("chat.completion", name)
        assert whole.usage.completion_tokens == 24
        assert whole.usage.total_tokens == whole.usage.prompt_tokens + 24
        texts, ends, usage = streamed(client, model=name, messages=CAT, **GREEDY)
        assert (texts, ends) == ({0: whole.choices[0].message.content}, {0: "length"})
        assert usage == whole.usage
    command = place.call("generate", name, CAT[0]["content"], "--temperature", "0", "--max-tokens", "24")
    assert command.stdout == alone + "\n"


def test_sampled_answers_are_those_of_generate_with_the_same_seed(client, write_alone):
    sampled = {"temperature": 1.3, "top_p": 0.9, "max_tokens": 16}
    question = CAT[0]["content"]
    alone = [write_alone("stories-chat", question, seed=seed, top_k=None, **sampled) for seed in (7, 8)]
    assert alone[0] != alone[1]
    found = client.chat.completions.create(model="stories-chat", messages=CAT, seed=7, n=2, **sampled)
    assert [choice.message.content for choice in found.choices] == alone
    texts, ends, usage = streamed(client, model="stories-chat", messages=CAT, seed=7, n=2, **sampled)
    assert [texts[0], texts[1]] == alone
    assert set(ends) == {0, 1}
    assert usage == found.usage
    others = {
        client.chat.completions.create(model="stories-chat", messages=CAT, **sampled).choices[0].message.content
        for _ in range(3)
    }
    assert len(others) > 1, "without a seed each answer is another"


def test_each_setting_changes_what_is_written(client):
    usual = {"temperature": 1.5, "max_tokens": 30, "seed": 1}
    changes = [{}, {"temperature": 0.7}, {"top_p": 0.3}, {"extra_body": {"top_k": 3}}, {"seed": 2}, {"max_tokens": 9}]
    asked = [usual | change for change in changes]
    texts = [client.completions.create(model="stories-plain", prompt="Once", **each).choices[0].text for each in asked]
    assert len(set(texts)) == len(asked)
    greedy = {"temperature": 0, "max_tokens": 30}
    likeliest = client.completions.create(model="stories-plain", prompt="Once", **usual | {"top_p": 0.0})
    assert likeliest.choices[0].text == client.completions.create(
        model="stories-plain", prompt="Once", **greedy
    ).choices[0].text  # fmt: skip


def test_a_dialog_goes_on_as_in_chat(place, client):
    lines = place.call(
        "chat", "stories-chat", "--json", "--temperature", "0", "--max-tokens", "12", "--system", "Be kind.",
        input="Tell me of a cat.\nAnd a dog?\n",
    ).stdout  # fmt: skip
    expected = [json.loads(line)["content"] for line in lines.splitlines()]
    said = [{"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "kind."}]}]
    answers = []
    for question in ("Tell me of a cat.", "And a dog?"):
        said.append({"role": "user", "content": question})
        found = client.chat.completions.create(
            model="stories-chat", messages=said, temperature=0, max_completion_tokens=12
        )
        answers.append(found.choices[0].message.content)
        found.choices[0].message.content = answers[-1].strip()  # as `chat` remembers it
        said.append(found.choices[0].message)  # all that the client has of it
    assert answers == expected


def test_a_text_is_gone_on_with_as_generate_does(client, server, write_alone):
    alone = write_alone("stories-chat", "Once upon", raw=True, temperature=0, max_tokens=16)
    found = client.completions.create(model="stories-chat", prompt="Once upon", temperature=0)
    assert found.choices[0].text == alone, "16 tokens are OpenAI's default"
    stream = client.completions.create(model="stories-chat", prompt="Once upon", temperature=0, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == found.choices[0].text
    several = client.completions.create(
        model="stories-chat", prompt=["Once upon", "The dog"], temperature=0, n=2, max_tokens=5
    )
    assert [choice.index for choice in several.choices] == [0, 1, 2, 3]
    assert several.choices[0].text == several.choices[1].text != several.choices[2].text
    one = client.completions.create(model="stories-chat", prompt="The dog", temperature=0, max_tokens=5)
    assert several.usage.prompt_tokens == found.usage.prompt_tokens + one.usage.prompt_tokens
    assert several.usage.completion_tokens == 20
    ids = [1, 403, 407, 261]
    by_ids = client.completions.create(model="stories-chat", prompt=ids, temperature=0)
    assert by_ids.usage.prompt_tokens == 4
    assert post(server, {"model": "stories-chat", "prompt": "", "max_tokens": 2}, "/v1/completions")[0] == 200


def test_writing_stops_before_the_first_of_some_texts(client):
    asked = {"model": "stories-chat", "prompt": "Once upon", "temperature": 0, "max_tokens": 60}
    whole = client.completions.create(**asked).choices[0].text
    words = whole.split()
    for stops in (words[5], [words[9], words[5] + " " + words[6]], ["nothing of this", whole[20:33]]):
        first = min(whole.find(stop) for stop in ([stops] if isinstance(stops, str) else stops) if stop in whole)
        found = client.completions.create(stop=stops, **asked)
        assert (found.choices[0].text, found.choices[0].finish_reason) == (whole[:first], "stop")
        assert found.usage.completion_tokens < 60
        stream = list(client.completions.create(stop=stops, stream=True, **asked))
        assert "".join(chunk.choices[0].text for chunk in stream) == whole[:first]
        assert stream[-1].choices[0].finish_reason == "stop"
    assert client.completions.create(stop=["never there"], **asked).choices[0].text == whole


def test_the_models_own_end_is_a_stop_and_the_contexts_a_length(client, place):
    ended = client.chat.completions.create(model="stories-chat", messages=CAT, temperature=1, seed=3)
    context = client.models.retrieve("stories-chat").context
    assert ended.choices[0].finish_reason in ("stop", "length")
    full = ended.usage.total_tokens == context
    assert (ended.choices[0].finish_reason == "length") == full
    long = client.completions.create(model="stories-plain", prompt=[5] * (context - 3), max_tokens=100, temperature=0)
    assert (long.choices[0].finish_reason, long.usage.completion_tokens) == ("length", 3)


CHAT = {"model": "stories-chat", "messages": CAT}
TEXT = {"model": "stories-chat", "prompt": "Once"}
WRONG = [
    ({"messages": CAT}, 400, "model", "`model` is missing"),
    (CHAT | {"model": "gpt-5"}, 404, "model", "`gpt-5` is not served here; there is: stories-chat@step-4"),
    (CHAT | {"model": None}, 400, "model", "should be a valid string"),
    (CHAT | {"messages": []}, 400, "messages", "at least 1 item"),
    (CHAT | {"messages": "hello"}, 400, "messages", "valid list"),
    (CHAT | {"messages": [{"role": "cat", "content": "a"}]}, 400, "messages.0.role", "'system', 'developer'"),
    (CHAT | {"messages": [{"role": "user"}]}, 400, "messages.0.content", "`messages.0.content` is missing"),
    (CHAT | {"messages": [CAT[0] | {"tool_calls": [1]}]}, 400, "messages.0.tool_calls", "not supported"),
    (CHAT | {"messages": [CAT[0] | {"colour": 1}]}, 400, "messages.0.colour", "`messages.0.colour` is not known"),
    (CHAT | {"temperature": 3}, 400, "temperature", "less than or equal to 2"),
    (CHAT | {"temperature": "0"}, 400, "temperature", "valid number"),
    (CHAT | {"n": 0}, 400, "n", "greater than or equal to 1"),
    (CHAT | {"max_tokens": 0}, 400, "max_tokens", "greater than or equal to 1"),
    (CHAT | {"max_tokens": 3, "max_completion_tokens": 4}, 400, "max_tokens", "two names of one thing"),
    (CHAT | {"stop": ""}, 400, "stop", "empty text"),
    (CHAT | {"stream_options": {"include_usage": True}}, 400, "stream_options", "`stream: true`"),
    (
        CHAT | {"tools": [{}], "frequency_penalty": 1},
        400,
        "tools",
        "`tools` is not supported here; leave it out; `freq",
    ),
    (CHAT | {"response_format": {"type": "json_object"}}, 400, "response_format", "not supported"),
    (CHAT | {"temprature": 1}, 400, "temprature", "`temprature` is not known; known are: model, stream"),
    (CHAT | {"max_tokens": 1, "prompt": "a"}, 400, "prompt", "`prompt` is not known"),
    (CHAT | {"model": "stories-plain"}, 400, "model", "no chat template, so it knows no turns; POST /v1/completions"),
    (CHAT | {"messages": [{"role": "user", "content": "a cat " * 400}]}, 400, "messages", "context is 512 tokens"),
    (TEXT | {"prompt": [1] * 512}, 400, "prompt", "the request has 512 before"),
    (TEXT | {"prompt": [1, 512]}, 400, "prompt", "512 is no token of the model, which has 512"),
    (TEXT | {"prompt": [-1]}, 400, "prompt", "-1 is no token"),
    (TEXT | {"prompt": []}, 400, "prompt", "`prompt` is empty"),
    (CHAT | {"top_logprobs": 3}, 400, "top_logprobs", "is for `logprobs: true`"),
    (CHAT | {"logprobs": True, "top_logprobs": 21}, 400, "top_logprobs", "less than or equal to 20"),
    (TEXT | {"logprobs": True}, 400, "logprobs", "valid integer"),
    (TEXT | {"echo": True}, 400, "echo", "not supported"),
    (b"{", 400, None, "the body is not JSON"),
    (b"[1]", 400, None, "an object of JSON"),
    (b'{"temperature": NaN}', 400, None, "the body is not JSON"),
    (b"[" * 100_000, 400, None, "the body is not JSON"),
    (b'{"model": "\\ud800"}', 400, None, "the body is not JSON"),
    (b"\xff\xfe", 400, None, "the body is not JSON"),
    (b"x" * (16 * 2**20 + 1), 413, None, "longer than"),
]


@pytest.mark.parametrize(("body", "status", "param", "what"), WRONG)
def test_what_is_wrong_is_told_as_openai_tells_it(server, body, status, param, what):
    path = "/v1/completions" if isinstance(body, dict) and "messages" not in body and "prompt" in body else None
    found, answer = post(server, body, *([path] if path else []))
    error = answer["error"]
    assert (found, error["param"], error["type"]) == (status, param, "invalid_request_error"), error
    assert what in error["message"]
    assert set(error) == {"message", "type", "param", "code"}


def test_what_asks_for_nothing_is_taken(client):
    neutral = {
        "frequency_penalty": 0.0, "presence_penalty": 0, "logit_bias": {}, "tools": [], "tool_choice": "none",
        "response_format": {"type": "text"}, "user": "me", "metadata": {"a": "b"}, "store": False, "logprobs": False,
        "stop": None, "service_tier": "auto", "seed": None,
    }  # fmt: skip
    client.chat.completions.create(model="stories-chat", messages=CAT, max_tokens=1, **neutral)


def test_errors_are_those_of_the_client(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="stories-plain", messages=CAT)
    assert caught.value.code == "no_chat_template"
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="stories-plain", prompt="a " * 2000)
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="stories-plain", input="a")


def test_another_site_and_another_name_are_refused(server):
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Sec_Fetch_Site": "cross-site"}):
        assert post(server, CHAT, **headers)[0] == 403
    status, answer = post(server, CHAT | {"max_tokens": 1}, Host="localhost:9")  # ssh -L 9:localhost:PORT
    assert status == 200, answer
