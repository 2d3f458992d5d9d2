"""Several at once: in turn, each as if alone; and what nobody waits for any more is not written."""

import asyncio
import threading
import time
from types import SimpleNamespace

import pytest
from answering import apart
from conftest import SHARED

from polyana.generation import GenerationConfig, continue_ids, load_for_generation
from polyana.serve.engine import Engine, Order
from polyana.serve.pace import Pace
from polyana.serve.queue import Line, Turns
from polyana.serve.refused import Refused


@pytest.fixture(scope="module")
def loaded():
    directory = SHARED / "stories260k" / "hf"
    if not directory.is_dir():
        pytest.skip("../shared/data is not beside the checkout")
    model, tokenizer = load_for_generation(directory)
    return SimpleNamespace(model=model, tokenizer=tokenizer, ends={model.generation_config.eos_token_id})


@pytest.fixture
def engine():
    engine = Engine()
    yield engine
    engine.close()


def settings(seed, tokens=40):
    return GenerationConfig(max_tokens=tokens, temperature=1.0, top_k=None, seed=seed)


def order(loaded, prompt, *each, client="a"):
    ids = loaded.tokenizer.encode(prompt)
    return Order(loaded, [(ids, one) for one in each], (), client)


async def text_of(engine, asked):
    writing = engine.begin(asked)
    text = "".join(piece.text for piece in await rest_of(writing))
    engine.end(writing)
    return text


async def rest_of(writing):
    return [piece async for piece in writing]


def test_each_text_is_what_it_would_be_alone(loaded, engine):
    prompts = ["Once upon a time", "The dog", "Tom and Anna", "A cat", "One day", "He"]
    alone = []
    for seed, prompt in enumerate(prompts):
        ids = loaded.tokenizer.encode(prompt)
        written = continue_ids(loaded.model, loaded.tokenizer, ids, settings(seed))
        alone.append(loaded.tokenizer.decode(written, skip_special_tokens=True))

    async def ask_all():
        asked = [order(loaded, prompt, settings(seed)) for seed, prompt in enumerate(prompts)]
        return await asyncio.gather(*(text_of(engine, each) for each in asked))

    assert apart(ask_all()) == alone


def test_a_short_answer_does_not_wait_for_a_long_one(loaded, engine):
    async def race():
        long = engine.begin(order(loaded, "Once", settings(1, 400)))
        await anext(long)
        short = await text_of(engine, order(loaded, "The", settings(2, 3)))
        left = await rest_of(long)
        engine.end(long)
        return short, sum(len(piece.text) for piece in left[1:])

    short, left = apart(race())
    assert short
    assert left > 100, "the long one had been written to its end"


def test_what_nobody_waits_for_is_not_written(loaded, engine):
    async def leave():
        many = [engine.begin(order(loaded, "Once", *(settings(seed, 400) for seed in range(100)))) for _ in range(6)]
        for writing in many[:4]:
            await anext(writing)
        for writing in many:
            engine.end(writing)
        return await text_of(engine, order(loaded, "The", settings(2, 3)))

    assert apart(leave())
    end = time.monotonic() + 60
    while engine.is_busy and time.monotonic() < end:
        time.sleep(0.01)
    assert not engine.is_busy


def test_an_engine_that_closes_tells_those_who_wait(loaded):
    engine = Engine()

    async def close():
        asked = [engine.begin(order(loaded, "Once", *(settings(seed, 400) for seed in range(9)))) for _ in range(6)]
        await anext(asked[0])
        await asyncio.to_thread(engine.close)
        for writing in asked:
            with pytest.raises(Refused, match="the server is ending"):
                await rest_of(writing)
        with pytest.raises(Refused, match="the server is ending"):
            engine.begin(order(loaded, "Once", settings(1)))

    apart(close())
    assert not engine.is_busy


def test_what_fails_is_told_and_the_next_one_is_written(loaded, engine, capsys):
    async def ask():
        broken = SimpleNamespace(model=None, tokenizer=loaded.tokenizer, ends=set())
        with pytest.raises(Refused, match="writing has failed: AttributeError"):
            await text_of(engine, order(broken, "Once", settings(1)))
        return await text_of(engine, order(loaded, "Once", settings(1, 3)))

    assert apart(ask())
    assert "Traceback" in capsys.readouterr().err


def test_the_number_of_threads_may_change_between_two_tokens(loaded):
    import torch

    seen = []
    engine = Engine(1)
    spied = SimpleNamespace(model=loaded.model, tokenizer=loaded.tokenizer, ends=loaded.ends)
    hook = loaded.model.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))

    async def ask():
        writing = engine.begin(order(spied, "Once", settings(1, 200)))
        await anext(writing)
        engine.threads = 2
        await rest_of(writing)
        engine.end(writing)

    try:
        apart(ask())
    finally:
        hook.remove()
        engine.close()
    assert seen[0] == 1
    assert seen[-1] == 2
    assert torch.get_num_threads() == 1, "this thread's own stays"


def test_the_pace_follows_a_training():
    trains = [False]
    pace, engine = Pace(lambda: trains[0], 2), SimpleNamespace(threads=None)

    async def watch():
        keeping = asyncio.create_task(pace.keep(engine))
        for what, threads in ((False, 2), (True, 1), (False, 2)):
            trains[0] = what
            async with asyncio.timeout(60):
                while engine.threads != threads:
                    await asyncio.sleep(0.01)
        keeping.cancel()

    apart(watch())
    assert Pace(None, 2).threads() == 2


def test_of_each_client_one_is_taken_in_turn():
    line = Line(10)
    for client, job in (("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5), ("b", 6)):
        assert line.put(client, job)
    line.drop("a", 2)
    line.drop("a", 2)
    assert [line.take() for _ in range(5)] == [1, 4, 5, 3, 6]
    assert line.put("a", 7)
    assert line.close() == [7]
    assert line.take() is None
    assert not line.put("a", 8)


def test_a_line_is_full_at_some_time():
    line = Line(2)
    assert [line.put("a", number) for number in range(3)] == [True, True, False]


def test_turns_go_round():
    turns, order, ready = Turns(), [], threading.Barrier(4)

    def work(name):
        ready.wait()
        turns.take()
        for _ in range(50):
            order.append(name)
            turns.give()
            turns.take()
        turns.give()

    turns.take()
    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    ready.wait()
    while len(turns._waiting) < 3:
        time.sleep(0.001)
    turns.give()
    for thread in threads:
        thread.join(60)
    first = order[:3]
    assert sorted(first) == ["a", "b", "c"]
    assert order == first * 50
