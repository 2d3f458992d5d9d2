"""For test_no_idle_option.py: a change of each of `translate`'s own settings, and what can be seen of it."""

from __future__ import annotations

import hashlib
import io
import json
import random
from pathlib import Path

import pytest
from conftest import CLOCKED, metrics_of
from examples.byte_tokenizer import byte_tokenizer

from polyana.errors import PolyanaError
from polyana.models import ModelConfig, build_model, save_model
from polyana.parallel import ParallelText
from polyana.pipeline import Pipeline
from polyana.recipe import load_recipe
from polyana.run import run_recipe
from polyana.storage import home_directory
from polyana.tracking import Console

RECIPE = """\
name: toy
stages:
  ru:
    kind: translate
    base: ./base
    data: [{source: a.en, target: a.ru, document: blank_line}]
    languages: {source: en, target: ru}
    held_out: 20%
    template: raw
    context: 500
    train: {duration: 1 step, batch: 1 sequences, precision: fp32}
    eval: {sentences: 4, decoding: {max_ratio: 0.1}}
"""


def _data(more: str = "", path: str = "") -> str:
    files = f"path: {path}" if path else "source: a.en, target: a.ru, document: blank_line"
    return f"stages.ru.data=[{{{files}{more}}}]"


def _rows(more: str = "") -> str:
    return _data(f", columns: {{document: doc{more}}}", "pairs.tsv")


def _unit(*kinds: str) -> str:
    return f"stages.ru.unit=[{', '.join(f'{{kind: {kind}}}' for kind in kinds)}]"


def _decoding(settings: str) -> str:
    return f"stages.ru.eval.decoding={{{settings}, max_ratio: 0.1}}"


WHOLE = "stages.ru.adapter=full"
BEAM, MBR = "kind: beam", "kind: mbr, samples: 3, epsilon: 0"
TAGS = "stages.ru.template=null", "stages.ru.prompt={kind: tags}"

# field -> (overrides both runs have, the one that differs)
CHANGES: dict[str, tuple[list[str], str]] = {
    "data.source": ([], "stages.ru.data=[{source: b.en, target: a.ru, name: a.en, document: blank_line}]"),
    "data.target": ([], "stages.ru.data=[{source: a.en, target: b.ru, document: blank_line}]"),
    "data.path": ([_rows()], _data(", columns: {document: doc}", "more.tsv")),
    "data.package": ([], "stages.ru.data=[{package: nowhere}]"),
    "data.name": ([], _data(", name: other")),
    "data.format": ([_rows()], _data(", columns: {document: doc}, format: csv", "pairs.tsv")),
    "data.encoding": ([], _data(", encoding: utf-16-le")),
    "data.document": ([], "stages.ru.data=[{source: a.en, target: a.ru, document: line}]"),
    "data.paragraph": ([], _data(", paragraph: line")),
    "data.columns.source": ([_rows()], _rows(", source: en2")),
    "data.columns.target": ([_rows()], _rows(", target: ru2")),
    "data.columns.document": ([_rows()], _data(", columns: {document: par}", "pairs.tsv")),
    "data.columns.paragraph": ([_rows()], _rows(", paragraph: par")),
    "data.check_alignment": (
        ["stages.ru.data=[{source: shifted.en, target: shifted.ru, document: line}]"],
        "stages.ru.data=[{source: shifted.en, target: shifted.ru, document: line, check_alignment: false}]",
    ),
    "languages.source": ([], "stages.ru.languages.source=de"),
    "languages.target": ([], "stages.ru.languages.target=uk"),
    "test.path": ([], "stages.ru.test=[{path: more.tsv, columns: {document: doc}}]"),
    "hygiene.max_ratio": ([], "stages.ru.hygiene.max_ratio=1.1"),
    "hygiene.identical": ([], "stages.ru.hygiene.identical=false"),
    "hygiene.wrong_language": ([], "stages.ru.hygiene.wrong_language=false"),
    "hygiene.duplicates": ([], "stages.ru.hygiene.duplicates=false"),
    "hygiene.overlap": ([], "stages.ru.hygiene.overlap=false"),
    "hygiene.overlap_words": ([], "stages.ru.hygiene.overlap_words=1"),
    "hygiene.max_bad": ([_data(", document: line", "broken.jsonl")], "stages.ru.hygiene.max_bad=90%"),
    "held_out": ([], "stages.ru.held_out=50%"),
    "unit.{sentence}.context": ([], _unit("sentence, context: 1")),
    "unit.{sentence}.weight": ([_unit("sentence", "chunk")], _unit("sentence, weight: 50", "chunk")),
    "unit.{chunk}.kind": ([], _unit("chunk")),
    "unit.{chunk}.weight": ([_unit("sentence", "chunk")], _unit("sentence", "chunk, weight: 50")),
    "unit.{chunk}.min_sentences": (
        [_unit("chunk, min_sentences: 1, max_sentences: 2")],
        _unit("chunk, min_sentences: 2, max_sentences: 2"),
    ),
    "unit.{chunk}.max_sentences": (
        [_unit("chunk, min_sentences: 1, max_sentences: 2")],
        _unit("chunk, min_sentences: 1, max_sentences: 1"),
    ),
    "unit.{paragraph}.kind": ([_rows(", paragraph: par")], _unit("paragraph")),
    "unit.{paragraph}.weight": (
        [_rows(", paragraph: par"), _unit("sentence", "paragraph")],
        _unit("sentence", "paragraph, weight: 50"),
    ),
    "unit.{document}.kind": ([], _unit("document")),
    "unit.{document}.weight": ([_unit("sentence", "document")], _unit("sentence", "document, weight: 50")),
    "unit.{document}.tokens": ([_unit("document")], _unit("document, tokens: 100 tokens")),
    "vocabulary.pieces": ([WHOLE], "stages.ru.vocabulary={pieces: 9}"),
    "vocabulary.tokens": ([WHOLE], "stages.ru.vocabulary={tokens: [river]}"),
    "vocabulary.special_tokens": ([WHOLE], "stages.ru.vocabulary={special_tokens: [river]}"),
    "both_directions": ([], "stages.ru.both_directions=true"),
    "prompt.{chat}.instruction": ([], "stages.ru.prompt={instruction: 'In {target_language}: {text}'}"),
    "prompt.{chat}.system": ([], "stages.ru.prompt={system: You translate.}"),
    "prompt.{tags}.kind": (["stages.ru.template=null"], TAGS[1]),
    "prompt.{tags}.tag": ([*TAGS], "stages.ru.prompt={kind: tags, tag: '[{language}]'}"),
    "template": ([], "stages.ru.template=zephyr"),
    "context": ([], "stages.ru.context=120"),
    "eval.sentences": ([], "stages.ru.eval.sentences=2"),
    "eval.decoding.{greedy}.max_ratio": ([], "stages.ru.eval.decoding.max_ratio=0.5"),
    "eval.decoding.{greedy}.batch": ([], "stages.ru.eval.decoding.batch=1"),
    "eval.decoding.{beam}.kind": ([], _decoding(BEAM)),
    "eval.decoding.{beam}.max_ratio": ([_decoding(BEAM)], "stages.ru.eval.decoding.max_ratio=0.5"),
    "eval.decoding.{beam}.batch": ([_decoding(BEAM)], "stages.ru.eval.decoding.batch=1"),
    "eval.decoding.{beam}.beams": ([_decoding(BEAM)], "stages.ru.eval.decoding.beams=2"),
    "eval.decoding.{beam}.length_penalty": ([_decoding(BEAM)], "stages.ru.eval.decoding.length_penalty=9.0"),
    "eval.decoding.{mbr}.kind": ([], _decoding(MBR)),
    "eval.decoding.{mbr}.max_ratio": ([_decoding(MBR)], "stages.ru.eval.decoding.max_ratio=0.5"),
    "eval.decoding.{mbr}.batch": ([_decoding(MBR)], "stages.ru.eval.decoding.batch=1"),
    "eval.decoding.{mbr}.samples": ([_decoding(MBR)], "stages.ru.eval.decoding.samples=2"),
    "eval.decoding.{mbr}.temperature": ([_decoding(MBR)], "stages.ru.eval.decoding.temperature=0.5"),
    "eval.decoding.{mbr}.epsilon": ([_decoding(MBR)], "stages.ru.eval.decoding.epsilon=0.5"),
    "eval.decoding.{mbr}.seed": ([_decoding(MBR)], "stages.ru.eval.decoding.seed=1"),
}


def _write_text(place: Path) -> None:
    """Thirty documents, with every fault that hygiene looks for."""
    draws, pairs = random.Random(0), list[tuple[int, str, str]]()
    english = ["table", "river", "house", "cloud", "paper", "garden"]
    russian = ["стол", "река", "дом", "туча", "бумага", "сад"]
    for document in range(30):
        for _ in range(6):
            chosen = draws.choices(range(6), k=draws.choice((2, 3, 12)))
            one, other = (" ".join(words[word] for word in chosen) for words in (english, russian))
            pairs.append((document, f"Here is {one}. Look.", f"Вот {other}. Да."))
        pairs.append((document, "It is here and there again.", "Он и там и здесь опять."))
        pairs.append((document, "Click OK.", "Нажмите ОК."))
    pairs += [
        (30, "LibreOffice Calc", "LibreOffice Calc"),
        (30, "A letter has come from the house today.", "This is no Russian sentence, it is plain English."),
        (30, "Click Cancel.", "Нажмите отмену."),
    ]
    one, other = ([pair[side] for pair in pairs] for side in (1, 2))
    for name, lines, code in (("a", one, "en"), ("a", other, "ru"), ("b", one, "en"), ("b", other, "ru")):
        text = "".join(
            f"{line}\n" + "\n" * (pairs[at][0] != pairs[min(at + 1, len(pairs) - 1)][0])
            for at, line in enumerate(lines)
        )
        (place / f"{name}.{code}").write_text(
            text.replace("table", "chair").replace("стол", "стул") if name == "b" else text
        )
    (place / "shifted.en").write_text("\n".join(one))
    (place / "shifted.ru").write_text("\n".join([*other[:20], *other[21:], other[20]]))
    for name, wanted in (("pairs", pairs), ("more", pairs[:99])):
        rows = [("doc", "par", "en", "ru", "en2", "ru2")]
        rows += [
            (str(document), str(at // 2), en, ru, en.upper(), ru.upper())
            for at, (document, en, ru) in enumerate(wanted)
        ]
        (place / f"{name}.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    rows = [json.dumps({"en": en, "ru": ru}) for _, en, ru in pairs]
    (place / "broken.jsonl").write_text("\n".join([*rows, *["{"] * 20]))


class TranslateWorkshop:
    """One home for all changes, so that what they share is made once."""

    def __init__(self, place: Path) -> None:
        self.place = place
        _write_text(place)
        byte_tokenizer(place / "base")
        config = ModelConfig(architecture="llama", layers=1, width=32, heads=2, context=1024)
        model = build_model(config, 258, 257, seed=1)
        save_model(model, place / "base", model.state_dict())
        (place / "toy.yaml").write_text(RECIPE)
        self._seen: dict[tuple[str, ...], dict] = {}

    def observe(self, *overrides: str) -> dict:
        if overrides not in self._seen:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("POLYANA_HOME", str(self.place / "home"))
                try:
                    self._seen[overrides] = self._look(overrides, patch)
                except PolyanaError as error:
                    self._seen[overrides] = {"letter": str(error)}
        return self._seen[overrides]

    def _look(self, overrides: tuple[str, ...], patch: pytest.MonkeyPatch) -> dict:
        from transformers import LlamaForCausalLM

        asked, original = [], LlamaForCausalLM.generate

        def generate(model, tokens, **settings):
            asked.append(
                (tuple(tokens.shape), str({name: each for name, each in settings.items() if "mask" not in name}))
            )
            return original(model, tokens, **settings)

        patch.setattr(LlamaForCausalLM, "generate", generate)
        recipe = load_recipe(self.place / "toy.yaml", overrides)
        run = home_directory() / "runs" / run_recipe(recipe, fresh=True, console=Console(io.StringIO()))["ru"]["run"]
        pipeline = Pipeline(recipe, home_directory(), Console(io.StringIO()))
        made = {
            name: pipeline.store.get(step).directory
            for name, step in pipeline.before("ru", recipe.stages["ru"]).items()
        }
        text = ParallelText(made["text"])
        metrics = metrics_of(run)
        return {
            "text": [[str(each) for each in text.segments(split)] for split in ("train", "eval")],
            "ids": (made["data"] / "train.ids").read_text(),
            "tokens": hashlib.sha256((made["data"] / "train-00000.tokens").read_bytes()).hexdigest(),
            "metrics": {name: points for name, points in metrics.items() if name not in CLOCKED},
            "translations": {path.name: path.read_text() for path in (run / "translations").iterdir()},
            "asked": asked,
        }
