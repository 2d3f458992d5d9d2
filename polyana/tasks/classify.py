"""Telling classes of texts apart where some mistakes cost more than others.

A text becomes the states of its last token, a head of one row a class gives scores. Beside plain cross entropy the
scores can be learned from preferences between classes: of any two the cheaper one is preferred, by as much as it saves
(losses/costs.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch.nn.functional import cross_entropy, linear

from polyana.config import KeyPath, Share, closest
from polyana.corpus import split_of
from polyana.data import Batch, EvalSequences, TokenData, write_examples
from polyana.errors import Problem, UserError
from polyana.examples import ExampleSource, ExamplesReport, Forms, SourceReport, read_rows, same_names
from polyana.losses import class_preferences
from polyana.models import head_weight, hidden_states, load_classifier, padding_token
from polyana.storage import read_json, write_json
from polyana.tasks.fine_tune import (
    ABOUT_BASE,
    BASE,
    FineTuneConfig,
    FineTuneTask,
    FineTuneTrainConfig,
    begin_fine_tuning,
    check_context,
)
from polyana.tasks.language_model import split_sequences
from polyana.train import LossOutput, Precision, SumOver, TrainingPlan

__all__ = ["CLASSIFY_VERSION", "ClassifyConfig", "ClassifyTask", "build_labelled", "classify_task", "labelled_lines"]

CLASSIFY_VERSION = 2

_EVAL_TOKENS = 8192  # scored at once: bounds memory; guess, as with texts

Costs = dict[str, dict[str, float]]


class LabelledSource(ExampleSource):
    """One place texts with their classes come from."""

    forms: ClassVar[Forms] = {"labelled": (("text", "label"), ())}
    example: ClassVar[str] = "text: ..., label: ..."

    form: Literal["labelled"] = Field("labelled", description="what a row is")  # type: ignore[assignment]
    columns: dict[str, str] = Field(
        {}, description="our column names and the data's: `{text: question, label: intent}`"
    )
    weight: float = Field(1.0, gt=0, description="what each of its texts counts in the loss, beside other sources")


class ClassifyTrainConfig(FineTuneTrainConfig):
    """The optimisation, with what suits classes as defaults."""

    packing: Literal["none"] = Field("none", description="a sequence is a text; nothing is padded")


class ClassifyConfig(FineTuneConfig):
    """Tell classes of texts apart, and learn which mistakes to avoid most."""

    kind: Literal["classify"]
    base: Annotated[str, BASE] = Field(description=ABOUT_BASE)
    data: list[LabelledSource] = Field(min_length=1, description="texts with their classes: `[{path: rows.csv}]`")
    loss: Literal["preference", "cross_entropy"] = Field(
        "preference",
        description="`preference`: each class should score higher than the others, by as much as it saves; "
        "`cross_entropy`: the class itself should be likely, whatever mistakes cost",
    )
    costs: Costs = Field(
        {},
        description="what it costs to say one class where another is right, as `{fraud: {rest: 10}}`, first the right "
        "one; what is not named costs 1, the right class nothing. `'*'` stands for every class that is not named",
    )
    context: int = Field(256, ge=2, description="tokens of a text at most; of a longer one the beginning")
    train: ClassifyTrainConfig = Field(default_factory=ClassifyTrainConfig)
    held_out: Share = Field(0.1, ge=0, lt=1, description="share of the texts held out, by a hash of their id")
    max_bad: Share = Field(0.01, ge=0, le=1, description="the run stops when more of the rows than this are malformed")

    @property
    def best_by(self) -> str:
        return "eval/cost"

    @property
    def template(self) -> None:
        """A text is classified as it is."""
        return

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        yield from super().problems()
        for index, source in enumerate(self.data):
            if source.package is not None or source.stage is not None:
                yield ("data", index), "nothing there has classes; write `path` or `hub`"
        yield from same_names(self.data)
        if self.vocabulary.grows:
            yield ("vocabulary",), "texts are classified in the base's own tokens; add tokens in an sft stage before it"
        if self.sample is not None:
            yield ("sample",), "a classifier writes nothing; leave it out"
        if self.train.z_loss:
            yield ("train", "z_loss"), "a z-loss belongs to predicting text; among classes it would do nothing"
        for right, said in self.costs.items():
            for name, cost in said.items():
                if cost < 0:
                    yield ("costs", right, name), "a mistake that costs less than nothing would be sought"
                if name == right and cost:
                    yield ("costs", right, name), "the right class costs nothing; leave it out"
        if not self.held_out:
            for path in self.needs_held_out:
                yield path, f"`{'.'.join(map(str, path))}` needs held-out texts, but there are none with `held_out: 0`"

    def examples_identity(self) -> dict[str, Any]:
        """The settings that decide what the examples are, and what of them is told."""
        names = ("data", "costs", "context", "held_out")
        return {name: value for name, value in self.identity().items() if name in names}


def cost_matrix(costs: Costs, classes: list[str]) -> list[list[float]]:
    """What each class (a column) costs where another (a row) is right, [K, K]. Raises UserError for a name that is no
    class."""
    problems = []
    for right, said in costs.items():
        for name in (right, *said):
            if name != "*" and name not in classes:
                near = closest(name, classes) or f"; the data's are {', '.join(classes[:10])}"
                problems.append(Problem("", f"`costs`: `{name}` is no class of the data{near}"))
    if problems:
        raise UserError(problems)

    def cost(right: str, name: str) -> float:
        if right == name:
            return 0.0
        rows = (costs[row] for row in (right, "*") if row in costs)
        return next((row[column] for row in rows for column in (name, "*") if column in row), 1.0)

    found = [[cost(right, name) for name in classes] for right in classes]
    if not any(map(any, found)):
        raise UserError("`costs`: no mistake costs anything, so there is nothing to learn; leave out what is 0")
    return found


def build_labelled(config: ClassifyConfig, recipe_base: Path, base: Path, directory: Path) -> dict[str, Any]:
    """Write the shards of the texts, each text's class (SPLIT.classes.npz), the tokenizer, and report.json; the report.

    A text is followed by a token that ends it. What counts is the prediction of the one behind the last that does not
    pad: so the state that scores are made of is the one that transformers looks for. Raises UserError where rows,
    classes or costs are not what they should be.
    """
    from transformers import AutoTokenizer

    check_context(config, base)
    tokenizer: Any = AutoTokenizer.from_pretrained(base, local_files_only=True)
    report, rows = ExamplesReport(), list[tuple[str, str, str, float]]()
    for source in config.data:
        balance = report.sources.setdefault(source.label, SourceReport())
        for row in read_rows(source, recipe_base):
            balance.rows += 1
            text, label = (row.values.get(source.column(name)) for name in ("text", "label"))
            why = _unusable(row.problem, text, label, source)
            if why is None:
                rows.append((row.id, str(text), str(label), source.weight))
                continue
            balance.refuse(why, Problem(row.where, why))
            report.check_hope(source.label)
    report.check_rows(config.max_bad)
    classes = sorted({label for _, _, label, _ in rows})
    if len(classes) < 2:
        raise UserError(f"all {len(rows):,} texts are of one class, `{''.join(classes)}`; there must be two or more")
    matrix = cost_matrix(config.costs, classes)
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.pad_token_id or 0
    padding = _padding(tokenizer)
    kept: dict[str, list[tuple[int, float]]] = {"train": [], "eval": []}

    def texts() -> Iterator[Any]:
        for identifier, text, label, weight in rows:
            ids, split = tokenizer(text)["input_ids"][: config.context - 1], split_of(identifier, config.held_out)
            weights = np.zeros(len(ids) + 1, np.float32)
            weights[max((place for place, token in enumerate(ids, 1) if token != padding), default=-1)] = 1
            report.sources[identifier.partition("/")[0]].keep(weights)
            kept[split].append((classes.index(label), weight))
            yield split, identifier, np.array([*ids, end], np.uint32), weights

    write_examples(texts(), len(tokenizer), directory)
    for split, found in kept.items():
        if not found and (split == "train" or config.held_out):
            raise UserError(f"none of {len(rows):,} texts fell to {split} at `held_out: {config.held_out:.1%}`")
        np.savez(
            directory / f"{split}.classes.npz", classes=np.array([each for each, _ in found], np.int64),
            weights=np.array([each for _, each in found], np.float32),
        )  # fmt: skip
    missing = sorted(set(range(len(classes))) - {each for each, _ in kept["train"]})
    if missing:
        names = ", ".join(classes[each] for each in missing[:5])
        raise UserError(f"all texts of {names} fell to eval; lower `held_out`, or leave these classes out")
    counts = {
        split: {name: sum(each == place for each, _ in found) for place, name in enumerate(classes)}
        for split, found in kept.items()
    }
    tokenizer.save_pretrained(directory)
    about = report.as_data() | {
        "classes": classes, "costs": matrix, "counts": counts, "new_tokens": [], "end_of_turn": [],
    }  # fmt: skip
    write_json(directory / "report.json", about)
    return about


def _padding(tokenizer: Any) -> int:
    return padding_token(tokenizer, {tokenizer.eos_token_id} - {None})


def _unusable(problem: str | None, text: Any, label: Any, source: LabelledSource) -> str | None:
    if problem is not None:
        return problem
    for name, value in (("text", text), ("label", label)):
        if value is None or not str(value).strip():
            return f"has no `{source.column(name)}`, or an empty one"
    return None


def labelled_lines(report: Mapping[str, Any]) -> list[str]:
    """What the texts are like, for the terminal."""
    counts, classes = report["counts"], report["classes"]
    train, held = (sum(counts[split].values()) for split in ("train", "eval"))
    fewest = min(counts["train"], key=lambda name: counts["train"][name])
    matrix = np.array(report["costs"])
    share = np.array([counts["train"][name] for name in classes]) / train
    cheapest = int((share @ matrix).argmin())
    return [
        f"{train:,} texts of {len(classes)} classes to learn from, {held:,} held out; the fewest, "
        f"{counts['train'][fewest]:,}, are of `{fewest}`",
        f"mistakes cost {matrix[~np.eye(len(classes), dtype=bool)].min():g} to {matrix.max():g}; to say "
        f"`{classes[cheapest]}` of every text would cost {float((share @ matrix)[cheapest]):.3f} a text",
    ]


def classify_task(config: ClassifyConfig, data: TokenData, base: Path, seed: int, precision: Precision) -> ClassifyTask:
    """The base under a new head of one row a class, with an adapter if the recipe wants one, and the texts."""
    from transformers import AutoTokenizer

    report = read_json(data.directory / "report.json")
    tokenizer = AutoTokenizer.from_pretrained(data.directory)
    padding = _padding(tokenizer)
    model, tokenizer = begin_fine_tuning(
        config, data, base, seed, precision, lambda place: load_classifier(place, seed, padding, report["classes"])
    )
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(padding)
    sequences, held_out = split_sequences(config, data, seed)
    return ClassifyTask(config, model, tokenizer, sequences, held_out, None, precision, data.directory, base)


class ClassifyTask(FineTuneTask):
    """What each text's class is, and what it costs to be wrong."""

    _config: ClassifyConfig
    _held_out: EvalSequences | None

    def __init__(self, *others: Any) -> None:
        super().__init__(*others)
        self._costs_KK = torch.tensor(read_json(self._data / "report.json")["costs"])
        self._known = {}
        for split in ("train", "eval"):
            with np.load(self._data / f"{split}.classes.npz") as file:
                self._known[split] = torch.from_numpy(file["classes"]), torch.from_numpy(file["weights"])

    def loss(self, batch: Batch) -> LossOutput:
        return self._loss(batch, "train")

    def _loss(self, batch: Batch, split: str) -> LossOutput:
        ends_N = batch.weight_N != 0
        states_AD = hidden_states(self.model, batch.tokens_N, batch.position_N, batch.lengths, read_N=ends_N)
        classes, weights = (each.to(states_AD.device) for each in self._known[split])
        texts_A = batch.document_N[ends_N]
        right_A, weight_A = classes[texts_A], weights[texts_A]
        with torch.autocast(states_AD.device.type, enabled=False):  # K numbers a text: nothing to save
            scores_AK = linear(states_AD.float(), head_weight(self.model).float())
        cost_AK = self._costs_KK.to(scores_AK.device)[right_A]
        if self._config.loss == "preference":
            each_A = class_preferences(scores_AK, cost_AK) / self._scale
        else:
            each_A = cross_entropy(scores_AK, right_A, reduction="none")
        with torch.no_grad():
            said_A = scores_AK.argmax(1)
            columns = {"cost": cost_AK.gather(1, said_A[:, None])[:, 0], "accuracy": (said_A == right_A).float()}
            if self._config.loss == "cross_entropy":  # what probabilities are good for: the least expected cost
                least_A = (scores_AK.softmax(1) @ self._costs_KK.to(scores_AK.device)).argmin(1)
                columns["cost_by_probability"] = cost_AK.gather(1, least_A[:, None])[:, 0]
            metrics = {name: (float(column.sum()), float(len(column))) for name, column in columns.items()}
        return LossOutput((weight_A * each_A).sum(), float(weight_A.sum()), metrics=metrics)

    @property
    def _scale(self) -> float:
        """What makes the gradient as large as cross entropy's about is, whatever unit costs are in: the mean, over
        classes, of what all answers save."""
        return float((self._costs_KK.amax(1, keepdim=True) - self._costs_KK).sum(1).mean())

    def evaluate(self, sum_over: SumOver) -> dict[str, float]:
        """`eval/loss`, `eval/accuracy`, and `eval/cost`, of a text whose class with the highest score is said."""
        held_out = self._held_out
        if held_out is None:
            return {}
        names: list[str] = []

        def figures(numbers: range) -> list[float]:
            output = self._loss(held_out.batch(numbers).to(self.precision.device), "eval")
            names[:] = output.metrics
            return [float(output.total), output.count, *(each for pair in output.metrics.values() for each in pair)]

        total, count, *told = sum_over(held_out.batches(_EVAL_TOKENS), figures)
        more = {f"eval/{name}": above / below for name, above, below in zip(names, told[::2], told[1::2], strict=True)}
        return {"eval/loss": total / count} | more

    def sample(self) -> list[dict[str, str]]:
        return []

    def outlook(self, plan: TrainingPlan) -> list[str]:
        lines = super().outlook(plan)
        how = "preferences between classes" if self._config.loss == "preference" else "cross entropy"
        lines[1] = f"{plan.tokens:,} tokens in {plan.steps:,} steps; {how} of {len(self._costs_KK)} classes"
        return lines
