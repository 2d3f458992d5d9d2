"""Likelihoods of packed texts against transformers' own, one text at a time, on a real model."""

import math

import pytest
import torch

from polyana.corpus import Document
from polyana.evaluate import Metric, Subject, Wanted, log_likelihoods, metrics_of
from polyana.evaluate.documents import DocumentsTest, PerplexityConfig, windows
from polyana.evaluate.likelihood import pair_of_ids

STORY = "Once upon a time, there was a little girl named Lily. She liked to play outside in the park with her dog."


@pytest.fixture(scope="module")
def subject(shared_data):
    directory = shared_data / "stories260k" / "hf"
    return Subject(directory, None, "fp32", directory, "", "")


@pytest.fixture(scope="module")
def theirs(shared_data):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(shared_data / "stories260k" / "hf", dtype=torch.float32).eval()


def log_p(model, ids, first):
    with torch.no_grad():
        logits = model(torch.tensor([ids]), use_cache=False).logits[0].double().log_softmax(-1)
    return sum(float(logits[at - 1, ids[at]]) for at in range(first, len(ids)))


def test_packed_likelihoods_are_those_of_texts_alone(subject, theirs):
    ids = subject.tokenizer.encode(STORY * 8)
    wanted = [
        Wanted(ids[:40], 1), Wanted(ids[3:200], 100), Wanted(ids[:40], 39), Wanted(ids[:41], 40),
        Wanted([*ids[:40], 7], 40), Wanted([*ids[:40], 300], 40), Wanted(ids[:9], 9), Wanted(ids[5:160], 1),
    ]  # fmt: skip
    expected = [log_p(theirs, each.ids, each.first) for each in wanted]
    assert log_likelihoods(subject, wanted).tolist() == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_texts_with_the_same_input_are_read_once(subject, monkeypatch):
    from polyana.evaluate import likelihood

    read = []
    ours = likelihood.hidden_states
    monkeypatch.setattr(
        likelihood, "hidden_states", lambda model, tokens, *rest: read.append(len(tokens)) or ours(model, tokens, *rest)
    )
    ids = subject.tokenizer.encode(STORY)
    log_likelihoods(subject, [Wanted([*ids, token], len(ids)) for token in range(100)])
    assert read == [len(ids)]


def test_a_question_is_read_once_for_all_of_its_answers(subject, theirs, monkeypatch):
    from polyana.evaluate import likelihood

    read = []
    ours = likelihood.hidden_states
    monkeypatch.setattr(
        likelihood, "hidden_states", lambda model, tokens, *rest: read.append(len(tokens)) or ours(model, tokens, *rest)
    )
    ids = subject.tokenizer.encode(STORY * 3)
    one, other = ids[:50], ids[20:60]
    wanted = [Wanted([*context, *answer], len(context)) for context in (one, other, ids[:5])
              for answer in ([7], [7, 8, 9], [300, 20], [9, 9, 9, 9], [8])]  # fmt: skip
    expected = [log_p(theirs, each.ids, each.first) for each in wanted]
    assert log_likelihoods(subject, wanted).tolist() == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert sum(read) == 50 + 40 + 2 * (2 + 1 + 3) + (5 + 7 + 6 + 8)  # of five words each answer is read with them


def test_short_documents_have_transformers_loss(subject, theirs):
    texts = [STORY, STORY[:30], "Tom had a red ball."]
    found = metrics_of(DocumentsTest(_config(), _documents(texts)).score(subject, lambda _: None))
    nats = tokens = 0.0
    for text in texts:
        ids = [subject.tokenizer.bos_token_id, *subject.tokenizer.encode(text, add_special_tokens=False)]
        with torch.no_grad():  # the loss that transformers computes itself from labels
            loss = float(theirs(torch.tensor([ids]), labels=torch.tensor([ids]), use_cache=False).loss)
        nats, tokens = nats + loss * (len(ids) - 1), tokens + len(ids) - 1
    assert found["loss"].value == pytest.approx(nats / tokens, rel=1e-5)
    assert found["perplexity"].value == pytest.approx(math.exp(nats / tokens), rel=1e-5)
    assert found["bits_per_byte"].value == pytest.approx(nats / math.log(2) / sum(map(len, texts)), rel=1e-5)
    assert isinstance(found["loss"], Metric)
    assert found["loss"].n == 3


def test_a_long_document_is_read_as_transformers_guide_says(subject, theirs):
    """https://huggingface.co/docs/transformers/perplexity, with targets of windows masked by -100."""
    text, context, stride = STORY * 20, 64, 24
    ids = [subject.tokenizer.bos_token_id, *subject.tokenizer.encode(text, add_special_tokens=False)]
    nats, before = 0.0, 1
    for end in range(context + 1, len(ids) + stride, stride):
        end = min(end, len(ids))  # noqa: PLW2901
        window = torch.tensor([ids[max(0, end - context - 1) : end]])
        labels = window.clone()
        labels[:, : -(end - before)] = -100
        with torch.no_grad():
            nats += float(theirs(window, labels=labels, use_cache=False).loss) * (end - before)
        before = end
        if end == len(ids):
            break
    scored = DocumentsTest(_config(context=context, stride=stride), _documents([text])).score(subject, lambda _: None)
    assert scored.items[0].scores["loss"] == pytest.approx((nats, len(ids) - 1), rel=1e-5)
    assert dict(scored.about) == {"context": context, "stride": stride}


@pytest.mark.parametrize("length", [2, 9, 10, 11, 12, 13, 14, 25, 100])
def test_windows_predict_each_token_once_with_enough_before_it(length):
    ids = list(range(length))
    found = list(windows(ids, 9, 3))
    assert [token for each in found for token in each.ids[each.first :]] == ids[1:]
    assert all(len(each.ids) - 1 <= 9 for each in found)
    assert all(each.first - 1 >= 9 - 3 for each in found[1:])


def test_a_document_does_not_see_another(subject):
    alone, beside = (
        DocumentsTest(_config(), _documents(texts)).score(subject, lambda _: None).items[0].scores
        for texts in ([STORY], [STORY, "Ben", STORY * 3])
    )
    assert alone["loss"] == pytest.approx(beside["loss"], rel=1e-6)


def test_a_space_at_the_end_of_a_question_belongs_to_the_answer(subject):
    one, other = (
        pair_of_ids(subject.tokenizer, "Tom had a ", "ball"),
        pair_of_ids(subject.tokenizer, "Tom had a", " ball"),
    )
    assert one == other
    assert pair_of_ids(subject.tokenizer, "", "ball").ids[0] == subject.tokenizer.bos_token_id


def _config(**settings):
    return PerplexityConfig(kind="perplexity", **settings)


def _documents(texts):
    return [Document(str(number), text) for number, text in enumerate(texts)]
