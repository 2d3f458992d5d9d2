"""Decisions and reasons equal datatrove's on real and on spoiled text; the recipe's rules, guard and letters."""

import io
import json
import random

import numpy as np
import pytest

pytest.importorskip("numba")
pytest.importorskip("spacy")

from spoiled import texts

from polyana.corpus import Corpus, CorpusConfig, build_corpus
from polyana.corpus.native_measures import METRICS
from polyana.corpus.steps.rules import PUBLISHED, FineWebRule, GopherQualityRule, GopherRepetitionRule
from polyana.corpus.words import WordTable
from polyana.errors import PolyanaError, UserError
from polyana.recipe import load_recipe
from polyana.tracking import Console

QUIET = Console(io.StringIO())
REASONS = {
    "gopher_quality": [
        "gopher_short_doc", "gopher_long_doc", "gopher_below_avg_threshold", "gopher_above_avg_threshold",
        "gopher_too_many_hashes", "gopher_too_many_ellipsis", "gopher_too_many_bullets", "gopher_too_many_end_ellipsis",
        "gopher_below_alpha_threshold", "gopher_enough_stop_words",
    ],
    "gopher_repetition": [
        "dup_para_frac", "dup_para_char_frac", "dup_line_frac", "dup_line_char_frac", "top_2_gram", "top_3_gram",
        "top_4_gram", *(f"duplicated_{n}_n_grams" for n in range(5, 11)),
    ],
    "fineweb_quality": ["empty", "line_punct_ratio", "short_line_ratio", "char_dup_ratio", "list_ratio"],
}  # fmt: skip
"""datatrove's names of our reasons, in our order."""


def theirs(language):
    from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter

    known = {name: 0 if value == float("inf") else value for name, value in PUBLISHED[language].items()}
    return {
        "gopher_quality": GopherQualityFilter(
            max_avg_word_length=known["max_mean_length"], max_non_alpha_words_ratio=known["min_alphabetic"],
            stop_words=list(known["stop_words"]), language=language,
        ),
        "gopher_repetition": GopherRepetitionFilter(
            dup_line_frac=known["max_duplicate_lines"], dup_para_frac=known["max_duplicate_paragraphs"],
            dup_line_char_frac=known["max_duplicate_line_characters"],
            dup_para_char_frac=known["max_duplicate_paragraph_characters"],
            top_n_grams=tuple(zip((2, 3, 4), known["max_top_grams"], strict=True)),
            dup_n_grams=tuple(zip(range(5, 11), known["max_duplicate_grams"], strict=True)), language=language,
        ),
        "fineweb_quality": FineWebQualityFilter(
            line_punct_thr=known["min_ended_lines"], short_line_thr=known["max_short_lines"] or 999,
            char_duplicates_ratio=known["max_repeated_characters"], new_line_ratio=known["max_newlines"],
            language=language,
        ),
    }  # fmt: skip


@pytest.mark.parametrize("language", ["en", "ru"])
def test_decisions_and_reasons_are_datatroves(language, shared_data):
    pytest.importorskip("datatrove")
    from datatrove.data import Document

    documents = texts(shared_data, language)
    table = WordTable(language, PUBLISHED[language]["stop_words"])
    columns = table.measure(table.batch(documents)).T
    found = dict(zip(METRICS, columns, strict=True))
    for rule in (GopherQualityRule(), GopherRepetitionRule(), FineWebRule()):
        verdicts = list(rule.verdicts(found, language))
        assert len(verdicts) == len(REASONS[rule.kind])
        thrown = np.stack([verdict.thrown for verdict in verdicts])
        chosen = np.where(thrown.any(0), thrown.argmax(0), -1)
        judge, seen = theirs(language)[rule.kind], set()
        for text, ours in zip(documents, chosen, strict=True):
            try:
                verdict = judge.filter(Document(text=text, id=""))
            except ZeroDivisionError:
                continue  # which theirs does for a document without a word or a line
            expected = (
                -1 if verdict is True else REASONS[rule.kind].index(verdict[1]) if verdict[1] != "empty" else None
            )
            if expected is None:
                assert not text.strip()
                continue
            assert ours == expected, (rule.kind, text[:100])
            seen.add(expected)
        assert -1 in seen
        assert len(seen) >= 4


def test_a_table_that_has_grown_measures_the_same():
    draws = random.Random(1)
    documents = [" ".join(f"w{draws.randint(0, 90_000)}" for _ in range(500)) for _ in range(150)]
    grown, fresh = WordTable("en"), WordTable("en")
    first = [grown.measure(grown.batch([document]))[0].tolist() for document in documents]  # beyond its first places
    assert fresh.measure(fresh.batch(documents)).tolist() == first
    assert grown.measure(grown.batch(documents)).tolist() == first


GOOD = (
    "The people of the town have walked to the river, and they have seen that it is full of ice. One of them said "
    "that the bridge would be gone by the morning, with all of its lamps. Nobody believed him then, but he was right: "
    "at dawn the water took the bridge, the lamps and the boat of the miller.\n"
    "Afterwards the council decided to build another bridge of stone. Everyone had to give a tenth of the harvest for "
    "it, and the masons came from far away. They worked for nine years, until the last stone lay in its place.\n"
)
BAD = {
    "short": "The people have spoken.",
    "spam": "Buy the best of cheap things to have and be with that. " * 40,
    "list": "\n".join(f"- item {number} of the list that we have" for number in range(60)),
}


@pytest.fixture
def rows(tmp_path):
    documents = {
        f"good{number}": f"{GOOD}It was the year {number} of the new calendar.\n" for number in range(12)
    } | BAD
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"name": name, "text": text}) + "\n" for name, text in documents.items()))
    return tmp_path


def build(place, **settings):
    config = {"kind": "corpus", "sources": [{"path": "rows.jsonl", "id": "name"}], "eval": 0.3, "language": "en"}
    directory = place / f"out{len(list(place.iterdir()))}"
    directory.mkdir()
    build_corpus(CorpusConfig.model_validate(config | settings), place, directory, QUIET)
    return directory


ALL = ["gopher_repetition", "gopher_quality", "fineweb_quality"]


def test_what_a_rule_throws_out_is_counted_with_its_reason(rows):
    directory = build(rows, steps=ALL)
    kept = [document.id for split in ("train", "eval") for document in Corpus(directory).documents(split)]
    assert sorted(name.rpartition("#")[2].rstrip("0123456789") for name in kept) == ["good"] * 12
    dropped = {}
    for line in (directory / "drops.jsonl").read_text().splitlines():
        row = json.loads(line)
        dropped[row["id"].rpartition("#")[2]] = row["reason"]
    assert dropped == {
        "short": "gopher_repetition: the same 2 words again and again",
        "spam": "gopher_repetition: the same 3 words again and again",
        "list": "gopher_repetition: the same 3 words again and again",
    }
    order = build(rows, steps=["fineweb_quality", *ALL[:2]])
    assert "fineweb_quality: few lines end a sentence" in Corpus(order).report["total"]["dropped"]
    without = build(rows, language=None, steps=[])
    assert Corpus(without).report["total"]["dropped"] == {}


def test_filters_that_take_all_of_a_source_ring(rows):
    with pytest.raises(PolyanaError) as caught:
        build(rows, steps=[{"kind": "gopher_quality", "min_words": 500}])
    letter = str(caught.value)
    assert "step `gopher_quality` takes 15 of the 15 documents of source `rows.jsonl`, more than `guard: 90%`" in letter
    assert "15 by fewer than 500 words (as rows.jsonl/rows.jsonl#good0)" in letter
    assert "Is it `language: en`?" in letter


LETTERS = {
    "stages.corpus.language=null": "`gopher_quality` counts words; say of which language: `language: en`",
    "stages.corpus.steps=[]": "`language` is for `steps`, and there are none; leave it out",
    "stages.corpus.steps=[gopher_quality, gopher_quality]": "`gopher_quality` stands here twice",
    "stages.corpus.language=de": "(they are for en, ru); give it max_mean_length, min_alphabetic, stop_words",
    "stages.corpus.steps=[gopher_qualty]": "did you mean `gopher_quality`?",
    "stages.corpus.steps=[{kind: gopher_repetition, max_top_grams: [0.1]}]": "needs 3 numbers, and has 1",
}


@pytest.mark.parametrize("change", LETTERS)
def test_a_wrong_setting_is_a_letter(change, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "name: a\nstages:\n  corpus: {kind: corpus, sources: [{path: rows.jsonl}], language: en, "
        "steps: [gopher_quality]}"
    )
    with pytest.raises(UserError) as caught:
        load_recipe(path, [change])
    assert LETTERS[change] in str(caught.value)


def test_what_filters_need_is_said_before_anything_is_read(monkeypatch):
    monkeypatch.setattr("polyana.corpus.stage.find_spec", lambda name: None if name == "numba" else name)
    config = CorpusConfig.model_validate(
        {"kind": "corpus", "sources": [{"path": "a"}], "language": "en", "steps": ["gopher_quality"]}
    )
    assert [what for _, what in config.problems()] == [
        "`gopher_quality` counts words with spaCy and numba; run: pip install 'polyana[mill]'"
    ]


def test_a_language_that_is_not_split_by_rules():
    with pytest.raises(UserError, match="words of `xx_none` are not known"):
        WordTable("xx_none")
