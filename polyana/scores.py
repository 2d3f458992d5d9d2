"""What saves score on suites: measured once, kept with the commit, compared in pairs, reported.

Results lie in the registry beside their commit (registry/evaluations.py). A suite whose questions, settings and code
are those of a kept result is not computed again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from polyana.errors import Damaged, Problem, UserError
from polyana.evaluate import (
    Contamination,
    Item,
    Metric,
    Paired,
    Subject,
    Suite,
    Translation,
    compare_translations,
    find_contamination,
    metrics_of,
    paired_tests,
    read_suite,
)
from polyana.evaluate.page import Column, write_evaluation_pages
from polyana.registry import NAMESPACE, Commit, Repository
from polyana.storage import fingerprint, read_json, write_json
from polyana.surroundings import TrainingText, TrainingTextGone, surroundings_of
from polyana.tracking import Console, RunDirectory
from polyana.train import PrecisionWish, choose_precision

__all__ = [
    "VERSION",
    "Evaluated",
    "Saved",
    "compare_evaluated",
    "evaluate_all",
    "evaluate_saved",
    "lines_of",
    "pick_by_suite",
    "read_suites",
    "write_report",
]


VERSION = 1  # of what `evaluate_all` writes


@dataclass(frozen=True)
class Saved:
    """A save and its files. `base` gives the directory of the model below where it is an adapter, else None."""

    home: Path
    run: RunDirectory
    commit: Commit
    directory: Path
    base: Callable[[], Path | None]

    @property
    def repository(self) -> Repository:
        return Repository(self.home / "hub", self.run.name)

    def __str__(self) -> str:
        return f"{self.run.name}@step-{self.commit.step}"


@dataclass(frozen=True)
class Evaluated:
    """`result`: as it is kept, plain data. `kept`: whether it had been computed before."""

    saved: Saved
    suite: str
    result: Mapping[str, Any]
    items: Sequence[Item]
    kept: bool

    @property
    def metrics(self) -> dict[str, Metric]:
        return {name: Metric(**found) for name, found in self.result["metrics"].items()}

    @property
    def contamination(self) -> dict[str, Contamination]:
        """Of each task."""
        names = Contamination.__dataclass_fields__
        return {
            task: Contamination(**{name: found[name] for name in names if name in found})
            for task, found in self.result["contamination"].items()
        }


def evaluate_all(
    saves: Sequence[Saved], written: Sequence[str], base: Path, directory: Path, console: Console,
    precision: PrecisionWish,
) -> list[str]:  # fmt: skip
    """Ask saves all suites, compare each with the first, and write scores.json and reports into a directory, and into
    those of their runs; what to tell. As `read_suites` besides."""
    lines, written_down = list[str](), list[dict[str, Any]]()
    for suite in read_suites(saves, written, base):
        first, *others = (evaluate_saved(saved, suite, console, precision) for saved in saves)
        compared = [[], *(compare_evaluated(first, each) for each in others)]
        named = {f"{each.saved} against {first.saved}": pairs for each, pairs in zip(others, compared[1:], strict=True)}
        for each, pairs in zip((first, *others), compared, strict=True):
            lines += [f"{each.saved} {suite.name}", *(f"  {line}" for line in lines_of(each, pairs))]
            written_down.append({**each.result, "compared": [asdict(pair) for pair in pairs]})
            if each.saved.run.path.is_dir():
                write_report(each.saved.run.path, each)
        last, *before = [*reversed(others), first]
        write_report(directory, last, before, named)
    write_json(directory / "scores.json", written_down)
    return lines


def pick_by_suite(
    saves: Sequence[Saved], written: str, base: Path, metric: str, lowest: bool | None, console: Console
) -> tuple[Evaluated, bool]:
    """Evaluate all saves of a run on a suite and move `best` to the one that is the best by one of its metrics; and
    whether that is the lowest. `best` stays there, also while training goes on, until somebody picks again.

    `lowest`: None for what is usual for the metric. Raises UserError where the suite has no such metric.
    """
    (suite,) = read_suites(saves, [written], base)
    found = [evaluate_saved(saved, suite, console) for saved in saves]
    having = [each for each in found if metric in each.metrics]
    if not having:
        known = ", ".join(dict.fromkeys(name for each in found for name in each.metrics))
        raise UserError(f"{suite.name} has no metric `{metric}`; it has: {known}")
    better = having[0].metrics[metric].better
    if lowest is None and better is None:
        raise UserError(f"neither more nor less is better of `{metric}` in general; write --max or --min")
    lowest = better == "lower" if lowest is None else lowest
    sign = 1 if lowest else -1
    best = min(having, key=lambda each: (sign * each.metrics[metric].value, each.saved.commit.step))
    repository = best.saved.repository
    with repository.changing():
        repository.rank_by(replace(repository.ranking(), commit=best.saved.commit.id))
        repository.set_ref("best", best.saved.commit.id)
    if best.saved.run.path.is_dir():
        write_report(best.saved.run.path, best)
    return best, lowest


def read_suites(
    saves: Sequence[Saved], written: Sequence[str], base: Path, more: Mapping[str, Mapping[str, Any]] | None = None
) -> list[Suite]:
    """Suites by name or file, relative to `base`, with the settings that `more` has for them; what they do not say is
    taken from the first save's run, as what it held out. Raises UserError with every problem of all of them."""
    around, found, problems = surroundings_of(saves[0].home, saves[0].run), list[Suite](), list[Problem]()
    for each in written:
        try:
            found.append(read_suite(each, base, around, (more or {}).get(each)))
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(problems)
    foreign = {saved.run.name for saved in saves} != {saves[0].run.name}
    # what one run held out is another suite than what another did; each keeps its own under the plain name
    return [
        replace(each, name=f"{each.name} of {saves[0].run.name}") if foreign and each.of_run else each for each in found
    ]


def evaluate_saved(
    saved: Saved, suite: Suite, console: Console, precision: PrecisionWish = "fp32", *, again: bool = False
) -> Evaluated:
    """What a save scores; the result that is kept with it, if it is of this suite, unless `again`.

    Everything is computed in `precision`: fp32 gives the same on every machine, but for rounding.
    """
    repository, hash = saved.repository, fingerprint([suite.hash, choose_precision(precision).format])
    kept = None if again else repository.evaluations(saved.commit).get(suite.name)
    if kept is not None and kept.get("suite_hash") == hash:
        stored = repository.evaluation_items(saved.commit, suite.name)
        if stored is not None:
            return Evaluated(saved, suite.name, kept, [_item(each) for each in stored], kept=True)
    with repository.holding(saved.commit):  # whatever a training that goes on wants to keep
        return _computed(saved, suite, hash, console, precision)


def _computed(saved: Saved, suite: Suite, hash: str, console: Console, precision: PrecisionWish) -> Evaluated:
    began = time.time()
    subject = Subject(
        saved.directory, saved.base(), precision, saved.home / "hub", f"{NAMESPACE}/{saved.run.name}", saved.commit.id
    )
    items, metrics = list[Item](), dict[str, Metric]()
    contamination, about = dict[str, Any](), dict[str, Any]()
    training = _training_text(saved)
    for task, test in suite.tasks.items():
        with console.gauge(f"{suite.name} {task}".strip(), test.items) as gauge:
            scored = test.score(subject, lambda done, gauge=gauge: gauge.show(done, str(saved)))  # type: ignore[misc]  # mypy knows no default for a lambda's argument
        metrics |= {suite.called(task, name): metric for name, metric in metrics_of(scored).items()}
        found, touched = _contamination(saved.home, [each.text for each in scored.items], training)
        contamination[task], about[task] = found.as_data(), dict(scored.about)
        for item, flag in zip(scored.items, touched, strict=True):
            scores = {suite.called(task, name): score for name, score in item.scores.items()}
            shown = {**item.shown, **({"in the training text": "yes" if flag else "no"} if flag is not None else {})}
            items.append(Item(suite.called(task, item.id), suite.called(task, item.group), scores, shown, item.text))
    result = {
        "suite": suite.name, "suite_hash": hash,
        "run": saved.run.name, "commit": saved.commit.id, "step": saved.commit.step,
        "metrics": {name: asdict(metric) for name, metric in metrics.items()},
        "contamination": contamination,
        "settings": {task: config.model_dump() for task, config in suite.configs.items()},
        "about": about,
        "precision": f"{subject.precision.format} on {subject.precision.device.type}",
        "time": time.time(), "seconds": time.time() - began,
    }  # fmt: skip
    saved.repository.record_evaluation(saved.commit, suite.name, result, [each.as_data() for each in items])
    return Evaluated(saved, suite.name, result, items, kept=False)


def compare_evaluated(baseline: Evaluated, system: Evaluated) -> list[Paired]:
    """Of each metric, whether two saves that answered the same questions differ by more than chance.

    By a paired bootstrap over groups of items; corpus scores of translations by sacrebleu's own.
    """
    assert baseline.result["suite_hash"] == system.result["suite_hash"]
    ways = {name: metric.better for name, metric in system.metrics.items()}
    found = paired_tests(baseline.items, system.items, ways.get)
    for task, about in system.result["about"].items():
        if "direction" in about:
            old, new = (_translations(each.items, task) for each in (baseline, system))
            names = ("bleu", "chrf", "document_bleu", "document_chrf")
            for name, each in zip(names, compare_translations(old, new, about["direction"][1]), strict=True):
                named = f"{task}.{name}" if task else name
                found.append(
                    Paired(named, each.baseline, each.system, each.system - each.baseline, None, None, each.p_value,
                           len(new), "higher")
                )  # fmt: skip
    return found


def lines_of(evaluated: Evaluated, compared: Iterable[Paired] = ()) -> list[str]:
    """For the terminal: each metric with its interval, how it differs from the baseline's, the contamination."""
    width = max(map(len, evaluated.metrics), default=0)
    differences = {each.metric: each for each in compared}
    found = []
    for name, metric in evaluated.metrics.items():
        ends = "" if metric.low is None else f"  95 %: {metric.low:.4g} to {metric.high:.4g}"
        line = f"{name:<{width}}  {metric.value:.4g}{ends}  n {metric.n:,}"
        if (each := differences.get(name)) is not None:
            p = "" if each.p_value is None else f", p {each.p_value:.2g}"
            line += f"  ({each.difference:+.4g} against {each.baseline:.4g}{p}: {each.verdict})"
        found.append(line)
    for task, contamination in evaluated.contamination.items():
        found.append(f"{task}: {contamination}" if task else str(contamination))
    return found


def write_report(
    directory: Path,
    evaluated: Evaluated,
    others: Sequence[Evaluated] = (),
    compared: Mapping[str, Sequence[Paired]] = MappingProxyType({}),
) -> Path:
    """Write evaluation-SUITE.html and .md into a directory: the scores of a save, of all others of its run that were
    asked the same, of `others`, what was `compared` ("A against B"), and examples. The page's path."""
    shown = {str(each.saved): Column(each.metrics, each.saved.commit.step) for each in (evaluated, *others)}
    history = dict[str, Column]()
    for commit in evaluated.saved.repository.commits():
        kept = evaluated.saved.repository.evaluations(commit).get(evaluated.suite, {})
        if kept.get("suite_hash") == evaluated.result["suite_hash"]:
            metrics = {name: Metric(**found) for name, found in kept["metrics"].items()}
            history[f"step {commit.step}"] = Column(metrics, commit.step)
    called = re.sub(r"[^\w.,-]+", "_", evaluated.suite)
    return write_evaluation_pages(
        directory, f"evaluation-{called}", f"{evaluated.suite}: {evaluated.saved}", shown, history, compared,
        {task: str(found) for task, found in evaluated.contamination.items()}, evaluated.items, evaluated.result,
    )  # fmt: skip


def _item(data: Mapping[str, Any]) -> Item:
    scores = {name: (float(above), float(below)) for name, (above, below) in data["scores"].items()}
    return Item(data["id"], data["group"], scores, data["shown"])


def _translations(items: Iterable[Item], task: str) -> list[Translation]:
    name = f"{task}.segment_chrf" if task else "segment_chrf"
    return [
        Translation(each.group, each.shown["source"], each.shown["right"], each.shown["written"])
        for each in items
        if name in each.scores
    ]


def _training_text(saved: Saved) -> TrainingText | str:
    """The text, or why it is not there."""
    try:
        return surroundings_of(saved.home, saved.run).training_text()
    except TrainingTextGone as gone:
        return str(gone)


def _contamination(
    home: Path, texts: Sequence[str], training: TrainingText | str
) -> tuple[Contamination, list[bool | None]]:
    """Looked up once for each pair of questions and training text, whichever saves are measured."""
    if not any(texts):
        return Contamination(unsaid="none to look for, no answer could be known beforehand"), [None] * len(texts)
    if isinstance(training, str):
        return Contamination(unsaid=f"unknown, {training}"), [None] * len(texts)
    path = home / "contamination" / f"{fingerprint([training.name, list(texts)])[:32]}.json"
    try:
        stored = read_json(path)
        return Contamination(**stored["found"]), list(stored["touched"])
    except (Damaged, OSError, KeyError, TypeError):
        pass
    found, touched = find_contamination(texts, training)
    found = replace(found, note=training.note)
    if not found.unsaid:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"found": asdict(found), "touched": touched})
    return found, touched
