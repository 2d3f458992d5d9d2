"""Sentences to units: each sentence once, in order, within its document; and what a model is asked."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyana.parallel import (
    ChatPrompt,
    ParallelConfig,
    Segment,
    TagPrompt,
    Unit,
    UnitReport,
    chat,
    lesson,
    tagged,
    units,
)

BASE = {"data": [{"path": "x.tsv"}], "languages": {"source": "en", "target": "ru"}}


def document(name: str, sentences: int, *, paragraph: int | None = None) -> list[Segment]:
    """Sentences of a document; `paragraph` of them make a paragraph."""
    return [
        Segment(
            name,
            n,
            f"{name} source {n}.",
            f"{name} target {n}.",
            f"f:{n}",
            None if paragraph is None else n // paragraph,
        )
        for n in range(sentences)
    ]


def cut(segments, unit, *, seed=0, training=True, report=None, **others) -> list[Unit]:
    config = ParallelConfig.model_validate(BASE | {"unit": unit} | others)
    report = report or UnitReport()
    return list(units(segments, config, seed, lambda text: len(text.split()), report, training=training))


def test_a_sentence_after_those_before_it_in_its_document():
    found = cut([*document("a", 3), *document("b", 2)], {"kind": "sentence", "context": 2})
    a = [(f"a source {n}.", f"a target {n}.") for n in range(3)]
    b = [(f"b source {n}.", f"b target {n}.") for n in range(2)]
    assert [(unit.id, unit.context) for unit in found] == [
        ("a:0-0:en-ru", ()), ("a:1-1:en-ru", (a[0],)), ("a:2-2:en-ru", (a[0], a[1])),
        ("b:0-0:en-ru", ()), ("b:1-1:en-ru", (b[0],)),
    ]  # fmt: skip
    assert [(unit.source, unit.target) for unit in found] == a + b


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 90), st.sampled_from([None, 1, 4, 7])), min_size=1, max_size=3),
    st.lists(
        st.sampled_from([
            {"kind": "sentence", "context": 3}, {"kind": "chunk", "min_sentences": 3, "max_sentences": 5, "weight": 2},
            {"kind": "paragraph"}, {"kind": "document", "tokens": "40 tokens", "weight": 3},
        ]),
        min_size=1, max_size=4, unique_by=lambda unit: unit["kind"],
    ),
    st.integers(0, 5),
)  # fmt: skip
def test_every_sentence_is_in_one_unit_in_order(shapes, mix, seed):
    documents = [document(f"d{n}", size, paragraph=paragraph) for n, (size, paragraph) in enumerate(shapes)]
    segments = [segment for each in documents for segment in each]
    found = cut(segments, mix, seed=seed)
    assert [pair for unit in found for pair in unit.sentences] == [
        (segment.source, segment.target) for segment in segments
    ]
    assert len({unit.id for unit in found}) == len(found)
    by_document = {each[0].document: each for each in documents if each}
    for unit in found:
        assert unit.kind in {kind["kind"] for kind in mix}
        assert unit.source.replace("\n", " ") == " ".join(source for source, _ in unit.sentences)
        first = int(unit.id.rsplit(":", 2)[1].split("-")[0])
        before = [(segment.source, segment.target) for segment in by_document[unit.document][:first]]
        assert list(unit.context) == (before[-3:] if unit.kind == "sentence" else [])
    assert cut(segments, mix, seed=seed) == found
    # what is drawn in a document does not depend on the others
    alone = [unit for unit in found if unit.document == "d0"]
    assert cut(documents[0], mix, seed=seed) == alone


@given(st.integers(0, 400), st.integers(1, 12), st.integers(0, 9), st.integers(0, 9))
def test_chunks_are_of_the_length_asked_for(sentences, least, more, seed):
    unit = {"kind": "chunk", "min_sentences": least, "max_sentences": least + more}
    sizes = [len(unit.sentences) for unit in cut(document("a", sentences), unit, seed=seed)]
    assert sum(sizes) == sentences
    assert all(size <= least + more for size in sizes)
    assert all(size >= least for size in sizes[:-2])
    short = [size for size in sizes[-2:] if size < least]
    if short and len(sizes) > 1:  # only where the rest cannot be two long enough chunks, and then no crumb is left
        assert min(sizes[-2:]) >= max(sizes[-2:]) - 1


def test_chunk_lengths_are_drawn_and_depend_on_the_seed():
    sizes = [[len(unit.sentences) for unit in cut(document("a", 3000), "chunk", seed=seed)] for seed in (1, 2)]
    assert sizes[0] != sizes[1]
    counts = Counter(sizes[0])
    assert set(counts) == set(range(10, 16))
    assert min(counts.values()) > 20  # 40 of each of 240 expected


def test_paragraphs_and_their_lines():
    segments = document("a", 5, paragraph=2)
    assert [unit.source for unit in cut(segments, "paragraph")] == [
        "a source 0. a source 1.", "a source 2. a source 3.", "a source 4.",
    ]  # fmt: skip
    assert [unit.target for unit in cut(segments, "document")] == [
        "a target 0. a target 1.\na target 2. a target 3.\na target 4."
    ]
    chinese = [Segment("a", n, f"One {n}.", f"第{n}句。", "f:1", 0) for n in range(2)]
    (unit,) = cut(chinese, "paragraph", languages={"source": "en", "target": "zh"})
    assert (unit.source, unit.target) == ("One 0. One 1.", "第0句。第1句。")


def test_documents_up_to_a_budget():
    # three tokens a side: six a sentence, twelve a paragraph of two
    sizes = [
        len(unit.sentences) for unit in cut(document("a", 10, paragraph=2), {"kind": "document", "tokens": "30 tokens"})
    ]
    assert sizes == [4, 4, 2]
    # a paragraph of 60 tokens is parted between sentences
    sizes = [
        len(unit.sentences)
        for unit in cut(document("a", 12, paragraph=10), {"kind": "document", "tokens": "30 tokens"})
    ]
    assert sizes == [5, 5, 2]
    # a sentence over the budget goes alone
    sizes = [len(unit.sentences) for unit in cut(document("a", 3), {"kind": "document", "tokens": "5 tokens"})]
    assert sizes == [1, 1, 1]


@pytest.mark.parametrize("with_document", [False, True])
def test_a_mix_shares_the_text_by_weight(with_document):
    mix = [{"kind": "sentence", "weight": 3}, {"kind": "chunk", "weight": 1}]
    mix += [{"kind": "document", "weight": 4}] if with_document else []
    report = UnitReport()
    segments = [segment for n in range(400) for segment in document(f"d{n}", 120)]
    cut(segments, mix, report=report)
    total = sum(kind["weight"] for kind in mix)
    for kind in mix:  # at least 400 draws: standard deviation of a share at most 2.5 %
        assert report.sentences[kind["kind"]] / len(segments) == pytest.approx(kind["weight"] / total, abs=0.08)
    assert sum(report.sentences.values()) == len(segments)


def test_both_directions():
    found = cut(document("a", 2), {"kind": "sentence", "context": 1}, both_directions=True)
    assert [(unit.direction, unit.source, unit.context) for unit in found[2:]] == [
        (("en", "ru"), "a source 1.", (("a source 0.", "a target 0."),)),
        (("ru", "en"), "a target 1.", (("a target 0.", "a source 0."),)),
    ]
    assert found[3].id == "a:1-1:ru-en"
    assert found[3].sentences == (("a target 1.", "a source 1."),)
    report = UnitReport()
    assert len(cut(document("a", 2), "sentence", both_directions=True, report=report)) == 4
    assert report.sentences == {"sentence": 4}
    assert len(cut(document("a", 2), "sentence", both_directions=True, training=False)) == 2


def test_duplicates_are_left_out_where_the_whole_unit_is_one():
    twice = [Segment(name, n, f"s{n % 2}", f"t{n % 2}", "f:1") for name in "ab" for n in range(4)]
    report = UnitReport()
    assert len(cut(twice, "sentence", report=report)) == 2
    assert (report.duplicates, report.units) == (6, {"sentence": 2})
    assert "  dropped         6  duplicates" in report.lines()
    # what differs in context or in what stands beside it is another example
    assert len(cut(twice, {"kind": "sentence", "context": 1})) == 3
    assert len(cut(twice, {"kind": "chunk", "min_sentences": 4, "max_sentences": 4})) == 1
    assert len(cut(twice, "sentence", hygiene={"duplicates": False})) == 8
    assert len(cut(twice, "sentence", training=False)) == 8


def test_only_a_document_is_held_in_memory():
    """Units come before the source is read to its end."""
    read = []

    def segments():
        for n in range(100_000):
            read.append(n)
            yield Segment(f"d{n // 10}", n, f"s{n}", f"t{n}", "f:1")

    for unit in ("sentence", "chunk", "document", ["sentence", "chunk"]):
        read.clear()
        config = ParallelConfig.model_validate(BASE | {"unit": unit})
        next(units(segments(), config, 0, len, UnitReport()))
        assert len(read) <= 11


# What a model is asked


def test_chat():
    pytest.importorskip("babel")
    prompt = ChatPrompt(system="You translate.")
    assert chat(prompt, ("en", "ru"), [("One.", "Раз.")], "Two.") == [
        {"role": "system", "content": "You translate."},
        {"role": "user", "content": "Translate from English to Russian:\nOne."},
        {"role": "assistant", "content": "Раз."},
        {"role": "user", "content": "Translate from English to Russian:\nTwo."},
    ]
    braces = ChatPrompt(instruction="{text} -> {target_language}")
    assert chat(braces, ("ru", "pt_BR"), [], "{text} {0}")[0]["content"] == "{text} {0} -> Portuguese (Brazil)"


def test_only_the_translation_of_the_unit_is_learned():
    pytest.importorskip("babel")
    unit = cut(document("a", 3), {"kind": "sentence", "context": 2}, both_directions=True)[5]
    messages, weights = lesson(ChatPrompt(), unit)
    assert [message["role"] for message in messages] == ["user", "assistant"] * 3
    learned = [message["content"] for message, weight in zip(messages, weights, strict=True) if weight]
    assert learned == ["a source 2."]
    assert messages[0]["content"] == "Translate from Russian to English:\na target 0."


def test_tags():
    prompt = TagPrompt()
    assert tagged(prompt, ("en", "ru"), [("One.", "Раз.")], "Two.") == "<en> One.\n<ru> Раз.\n<en> Two.\n<ru> "
    assert tagged(TagPrompt(tag="[{language}]"), ("ru", "en"), [], "Два.") == "[ru] Два.\n[en] "


def test_chunks_are_the_same_on_every_machine():
    """Python's draws from a seed of text stay the same; a change here changes what everybody trains on."""
    assert [len(unit.sentences) for unit in cut(document("a", 100), "chunk")] == [12, 11, 10, 13, 12, 14, 10, 9, 9]
