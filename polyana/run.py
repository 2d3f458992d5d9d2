"""The stages of a recipe, in order. Read this first: it is the table of contents.

    corpus      raw files   -> documents, a reason for every drop      polyana/corpus/
    tokenizer   documents   -> a tokenizer                             polyana/tokenizer/
    tokens      both        -> token shards                            polyana/data/
    baseline    documents   -> what letter statistics would reach      polyana/evaluate/
    pretrain    shards      -> a model, every save of it a commit      polyana/tasks/, train/, registry/

What a stage makes is found again by a hash of its settings, its inputs and its code's version; only what is missing,
has changed or is damaged is made again (polyana/storage/artifact.py).
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from polyana import corpus, data, tasks, tokenizer
from polyana.corpus import Corpus, CorpusConfig
from polyana.data import TokenData
from polyana.errors import Interrupted, PolyanaError, Problem, UserError
from polyana.evaluate import trigram_bits_per_byte
from polyana.recipe import Recipe
from polyana.registry import Repository
from polyana.storage import (
    ArtifactStore,
    ContentDigests,
    Making,
    Step,
    changes,
    disk_used,
    home_directory,
    read_json,
    write_json,
)
from polyana.tasks import PretrainConfig, PretrainTask
from polyana.tokenizer import TextTokenizer, TokenizerConfig
from polyana.tracking import Console, RunDirectory, find_runs
from polyana.train import Trainer, TrainingPlan, choose_precision

__all__ = ["Pipeline", "run_recipe"]


def run_recipe(recipe: Recipe, *, stage: str | None = None, resume: bool = False, fresh: bool = False,
        console: Console | None = None) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Run every stage of a recipe, or one and what it needs; the summary of each training stage by its name.

    `resume`: raise UserError unless there is an interrupted run to go on with. `fresh`: train again from the start.
    """
    pipeline = Pipeline(recipe, home_directory(), console or Console())
    names = list(recipe.stages) if stage is None else recipe.needed_for(stage)
    steps = pipeline.steps(names)
    training = {name: step for name, step in steps.items() if isinstance(recipe.stages[name], PretrainConfig)}
    if resume and not any(pipeline.unfinished(step.making) for step in training.values()):
        raise UserError(f"--resume: there is no interrupted run of {recipe.name} with these settings to go on with")
    if fresh:
        for step in training.values():
            pipeline.forget(step.making)
    for name, step in training.items():
        if pipeline.saves_are_gone(step.making):
            pipeline.console.stage(name, "its saves were deleted from the registry: training again")
            pipeline.forget(step.making)
    for name, step in steps.items():
        if pipeline.store.find(step.making):
            pipeline.console.stage(name, "unchanged, kept")
        else:
            pipeline.store.get(step)
    return {name: read_json(pipeline.store.get(step).directory / "summary.json") for name, step in training.items()}


class Pipeline:
    """What each stage of a recipe is made from and how, below one home directory."""

    def __init__(self, recipe: Recipe, home: Path, console: Console) -> None:
        self.recipe, self.home, self.console = recipe, home, console
        self.store = ArtifactStore(home, console.stage)
        self.digests = ContentDigests(home / "digests.json")

    def steps(self, names: list[str]) -> dict[str, Step]:
        """Stages by name. Raises UserError with every file and package that is not there."""
        steps, problems = {}, []
        for name in names:
            try:
                steps[name] = self.step(name)
            except UserError as error:
                problems += [problem for problem in error.problems if problem not in problems]
        if problems:
            raise UserError(problems)
        return steps

    def step(self, name: str) -> Step:
        """A stage by its name. Raises UserError when files or packages that it reads are not there."""
        match self.recipe.stages[name]:
            case CorpusConfig() as config:
                return self.corpus(name, config)
            case TokenizerConfig() as config:
                return self.tokenizer(name, config)
            case PretrainConfig() as config:
                return self.pretrain(name, config)

    def corpus(self, name: str, config: CorpusConfig) -> Step:
        where = partial(self.recipe.where, name)
        inputs = corpus.corpus_inputs(config, self.recipe.base, self.digests, where)
        self.digests.save()

        def fill(directory: Path) -> None:
            report = corpus.build_corpus(config, self.recipe.base, directory, self.console)
            self._tell(corpus.report_lines(report))

        return self._step(name, Making("corpus", corpus.VERSION, config.identity(), inputs), fill)

    def tokenizer(self, name: str, config: TokenizerConfig) -> Step:
        text = self.step(config.corpus)
        where = partial(self.recipe.where, name)
        inputs = tokenizer.tokenizer_inputs(config, self.recipe.base, self.digests, where)
        inputs["corpus"] = text.making.fingerprint

        def fill(directory: Path) -> None:
            documents = Corpus(self.store.get(text).directory)
            tokenizer.build_tokenizer(config, self.recipe.base, documents, directory, self.console)
            self._tell(tokenizer.report_lines(directory))

        return self._step(name, Making("tokenizer", tokenizer.VERSION, config.identity(), inputs), fill)

    def tokens(self, config: PretrainConfig) -> Step:
        """Made once for each pair of corpus and tokenizer, whichever stages train on it."""
        text, cutter = self.step(config.corpus), self.step(config.tokenizer)
        inputs = {"corpus": text.making.fingerprint, "tokenizer": cutter.making.fingerprint}

        def fill(directory: Path) -> None:
            documents, words = (
                Corpus(self.store.get(text).directory),
                TextTokenizer(self.store.get(cutter).directory),
            )
            data.tokenise(documents, words, directory, self.console)

        return self._step("tokens", Making("tokens", data.VERSION, {}, inputs), fill)

    def baseline(self, config: PretrainConfig) -> Step:
        """Bits per byte of a character trigram on the held-out documents; null when nothing is held out."""
        text = self.step(config.corpus)

        def fill(directory: Path) -> None:
            documents, bits = Corpus(self.store.get(text).directory), None
            if documents.report["total"]["eval"]["documents"]:
                train, held_out = ((item.text for item in documents.documents(part)) for part in ("train", "eval"))
                bits = trigram_bits_per_byte(train, held_out)
            write_json(directory / "baseline.json", {"trigram_bits_per_byte": bits})

        return self._step("baseline", Making("baseline", 1, {}, {"corpus": text.making.fingerprint}), fill)

    def task(self, config: PretrainConfig) -> PretrainTask:
        """A model at its start, its data and its loss."""
        tokens = TokenData(self.store.get(self.tokens(config)).directory)
        words = TextTokenizer(self.store.get(self.step(config.tokenizer)).directory)
        return PretrainTask(config, tokens, words, self.recipe.seed, choose_precision(config.train.precision))

    def pretrain(self, name: str, config: PretrainConfig) -> Step:
        settings = config.identity() | {"seed": self.recipe.seed}
        making = Making("pretrain", tasks.VERSION, settings, self.tokens(config).making.inputs)

        def fill(directory: Path) -> None:
            task = self.task(config)
            try:
                plan = TrainingPlan.of(config.train, task.per_epoch, task.context)
            except UserError as error:
                where = self.recipe.where(name, "train", "warmup")
                raise UserError(Problem(where, error.problems[0].what)) from None
            baseline = read_json(self.store.get(self.baseline(config)).directory / "baseline.json")
            run = self.run_of(making) or self.new_run(name, making)
            write_json(directory / "summary.json", self._train(run, task, plan, config, baseline))

        return self._step(name, making, fill)

    def _train(
        self,
        run: RunDirectory,
        task: PretrainTask,
        plan: TrainingPlan,
        config: PretrainConfig,
        baseline: dict[str, float | None],
    ) -> dict[str, Any]:
        """Train to the end, or on to it; the summary."""
        repository = Repository(self.home / "hub", run.name)
        with run.lock(), self.console.copied_to(run.path / "log.txt"):
            run.describe(self.recipe.as_yaml())
            run.note(outcome="interrupted")  # until it is known better
            trainer = Trainer(
                task, plan, config.train, config.save, choose_precision(config.train.precision), run, repository,
                self.console, seed=self.recipe.seed, evaluate_every=config.eval.every,
                sample_every=config.sample.every if config.sample else None, recipe_hash=self.recipe.hash,
            )  # fmt: skip
            trigram = baseline["trigram_bits_per_byte"]
            bar = [] if trigram is None else [f"to beat: {trigram:.3f} bits per byte, a character trigram's"]
            self._tell([f"run {run.name}", *task.outlook(plan), *bar])
            try:
                position = trainer.fit()
            except Interrupted:
                raise
            except PolyanaError as error:
                run.note(outcome="failed", why=str(error))
                raise
            best = repository.resolve("best")
            summary = {
                "run": run.name, "steps": position.step, "best_step": best.step, "metrics": best.metrics, **baseline,
                "tokens_per_second": position.sequences * task.context / max(position.seconds, 1e-9),
                "training_seconds": position.seconds, "disk_bytes": disk_used(run.path, repository.path),
            }  # fmt: skip
            run.note(outcome="finished", finished=time.time(), **summary)
        return summary

    def run_of(self, making: Making) -> RunDirectory | None:
        """The newest run of a training stage with just these settings, unless it was set aside."""
        runs = [run for run in find_runs(self.home / "runs") if run.about()["fingerprint"] == making.fingerprint]
        usable = [run for run in runs if not run.about().get("set_aside")]
        return usable[-1] if usable else None

    def unfinished(self, making: Making) -> bool:
        """Whether there is a run to go on with."""
        run = self.run_of(making)
        return run is not None and run.about().get("outcome") != "finished"

    def new_run(self, name: str, making: Making) -> RunDirectory:
        """Begin a run; one that was interrupted with other settings is named, for it will not be gone on with."""
        for earlier in reversed(find_runs(self.home / "runs")):
            about = earlier.about()
            if (about["recipe"], about["stage"]) != (self.recipe.name, name):
                continue
            if about.get("outcome") == "interrupted" and not about.get("set_aside"):
                found = changes(about["settings"], making.settings) or ["its corpus or tokenizer has changed"]
                self._tell([f"{earlier.name} was interrupted and stays as it is, for now {'; '.join(found[:3])}"])
            break
        about = {"fingerprint": making.fingerprint, "settings": making.settings, "seed": self.recipe.seed}
        return RunDirectory.create(self.home / "runs", self.recipe.name, name, about)

    def saves_are_gone(self, making: Making) -> bool:
        """Whether a training stage is finished and somebody has deleted what it saved."""
        run = self.run_of(making)
        if self.store.find(making) is None:
            return False
        return run is None or "best" not in Repository(self.home / "hub", run.name).refs()

    def forget(self, making: Making) -> None:
        """Let a training stage be made again, in a new run; what earlier runs saved stays."""
        if run := self.run_of(making):
            with run.lock():
                run.note(set_aside=True)
        if found := self.store.find(making):
            self.store.discard(found)

    def _step(self, name: str, making: Making, fill: Any) -> Step:
        return Step(f"{self.recipe.name}/{name}", making, fill)

    def _tell(self, lines: list[str]) -> None:
        for line in lines:
            self.console.say(f"  {line}")
