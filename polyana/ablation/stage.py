"""The ablation of a corpus stage: its variants, their texts, their models, the result.

    raw          the same sources, as they were read
    cleaned      the corpus itself
    without_X    the corpus without the step X

All learn from the same number of tokens of one tokenizer; all are measured on the same held-out documents of the
cleaned corpus. Documents that are copies of those in any variant are kept from all of them. Each training is a run as
any other, below HOME/ablations, so a killed ablation goes on with what is not trained yet.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from polyana import data
from polyana.ablation.page import write_pages
from polyana.ablation.result import Measured, Trained, result_of, verdict_lines
from polyana.ablation.texts import HeldOut, Sample, Written, held_out_of, take_sample, write_text
from polyana.config import Quantity
from polyana.corpus import EACH, AblationConfig, Corpus, CorpusConfig
from polyana.data import TokenData
from polyana.distributed import World
from polyana.errors import PolyanaError
from polyana.models import ModelConfig
from polyana.pipeline import Pipeline, corpus_step, tokenizer_step
from polyana.recipe import Recipe
from polyana.registry import KeepConfig, Repository
from polyana.runs import Ingredients, Runs, train
from polyana.storage import Making, Step, read_json, sha256_of, write_json
from polyana.tasks import HELD_OUT, NATS, EvalConfig, PretrainConfig, proxy_task
from polyana.tokenizer import TextTokenizer, TokenizerConfig
from polyana.tracking import Console, RunDirectory, read_curves
from polyana.train import SaveConfig, TrainConfig, choose_precision

__all__ = ["ablation_step"]

VERSION = 1

RAW, CLEANED = "raw", "cleaned"
_TOKEN_BYTES = 8  # of text that are kept ready for each token to be learned from; tokens hold 3 to 5 of prose: measured
_EVALUATIONS = 12  # during each training; guess: they take a sixth of its time


def variants_of(config: CorpusConfig) -> dict[str, CorpusConfig]:
    """Corpora by name, the cleaned one among them."""
    ablation = config.report.ablation
    assert ablation is not None
    raw = config.without(config.step_names).model_copy(update={"mix": None, "language": None})
    names = config.step_names if EACH in ablation.leave_out else list(dict.fromkeys(ablation.leave_out))
    return {RAW: raw, CLEANED: config} | {f"without_{name}": config.without([name]) for name in names}


def ablation_step(pipeline: Pipeline, name: str) -> Step | None:
    """What the corpus stage `name` asks for to be found out about itself; None if it does not."""
    config = pipeline.recipe.stages[name]
    if not isinstance(config, CorpusConfig) or config.report.ablation is None:
        return None
    wanted, variants = config.report.ablation, variants_of(config)
    corpora = {each: corpus_step(pipeline, _called(name, each), variants[each]) for each in variants}
    settings = wanted.identity() | {"seed": pipeline.recipe.seed}
    making = Making("ablation", VERSION, settings, {each: step.making.fingerprint for each, step in corpora.items()})

    def fill(directory: Path) -> None:
        Ablation(pipeline, name, wanted, variants, making.fingerprint[:16]).run(directory)

    return Step(f"{pipeline.recipe.name}/{name}.ablation", making, fill)


def _called(stage: str, variant: str) -> str:
    return stage if variant == CLEANED else f"{stage}.{variant}"


class Ablation:
    """One ablation on its way to its result."""

    def __init__(
        self, pipeline: Pipeline, stage: str, wanted: AblationConfig, variants: dict[str, CorpusConfig], mark: str
    ) -> None:
        self._pipeline, self._stage, self._wanted, self._variants = pipeline, stage, wanted, variants
        self._runs = Runs(pipeline.home / "ablations")
        self._workshop = self._runs.home / mark
        self._config = self._pretrain()

    def run(self, directory: Path) -> None:
        with _silent() as silence:
            quiet = Pipeline(self._pipeline.recipe, self._pipeline.home, silence)
            shutil.rmtree(self._workshop, ignore_errors=True)
            held_out = self._held_out(quiet)
            start = quiet.store.get(tokenizer_step(quiet, f"{self._stage}.tokenizer", self._tokenizer())).directory
            written = self._texts(quiet, held_out, start)
            found = {each: self._measured(each, written[each], start, silence) for each in self._variants}
        domains = [each.domain for each in held_out]
        sizes = np.array([each.bytes for each in held_out], np.int64)
        result = result_of(found, domains, sizes, self._about())
        write_json(directory / "ablation.json", result)
        corpus = quiet.store.get(corpus_step(quiet, self._stage, self._variants[CLEANED])).directory
        report = f"../{corpus.name}/report.html"
        write_pages(result, f"{self._pipeline.recipe.name}/{self._stage}", report, directory)
        shutil.rmtree(self._workshop)
        page = self._pipeline.store.directory / f"ablation-{self._workshop.name}" / "ablation.html"
        for line in [*verdict_lines(result), f"charts and figures: {page}"]:
            self._pipeline.console.say(f"  {line}")

    def _pretrain(self) -> PretrainConfig:
        wanted = self._wanted
        steps = wanted.tokens.amount / (wanted.batch * wanted.context)
        often = max(1, round(steps / _EVALUATIONS))
        return PretrainConfig(
            kind="pretrain", corpus=self._stage, tokenizer=f"{self._stage}.tokenizer",
            model=ModelConfig(layers=wanted.layers, width=wanted.width, heads=wanted.heads, context=wanted.context),
            # down to 0: at a constant rate the ends of a training differ several times as much by seed (measured)
            train=TrainConfig(
                duration=wanted.tokens, batch=Quantity(wanted.batch, "sequences"), lr=wanted.lr, schedule="linear",
                final_lr=0.0,
            ),
            eval=EvalConfig(every=Quantity(often, "steps")),
            save=SaveConfig(every=Quantity(3 * often, "steps"), keep=KeepConfig(best=1, last=1)),
        )  # fmt: skip

    def _tokenizer(self) -> TokenizerConfig:
        return TokenizerConfig(kind="tokenizer", corpus=self._stage, vocab_size=self._wanted.vocab_size)

    # Texts

    def _held_out(self, quiet: Pipeline) -> list[HeldOut]:
        config = self._variants[CLEANED]
        corpus = Corpus(quiet.store.get(corpus_step(quiet, self._stage, config)).directory)
        return held_out_of(corpus, self._wanted.held_out.bytes, [source.label for source in config.sources])

    def _texts(self, quiet: Pipeline, held_out: list[HeldOut], start: Path) -> dict[str, Written]:
        """Make the tokens of every variant. A copy of held-out text in one of them is kept from all, so that what is
        left differs by nothing but cleaning."""
        steps = {each: self._sample(quiet, each, held_out) for each in self._variants}
        samples = {each: Sample(quiet.store.get(step).directory) for each, step in steps.items()}
        copies = set[str]().union(*(sample.copies for sample in samples.values()))
        written = {}
        for each, sample in samples.items():
            text, tokens = self._workshop / each / "text", self._workshop / each / "tokens"
            for directory in (text, tokens):
                directory.mkdir(parents=True)
            written[each] = write_text(sample, copies, held_out, text)
            if not written[each].documents:
                raise PolyanaError(f"ablation: all training text of `{each}` are copies of held-out documents")
            data.tokenise(Corpus(text), TextTokenizer(start), tokens, quiet.console)
            write_json(tokens / HELD_OUT, [(one.document.id, one.domain, one.bytes) for one in held_out])
        return written

    def _sample(self, quiet: Pipeline, variant: str, held_out: list[HeldOut]) -> Step:
        """A variant's text, as much as is needed; what it was made from is not kept."""
        corpora = {
            each: corpus_step(quiet, _called(self._stage, each), self._variants[each]) for each in (CLEANED, variant)
        }
        size = int(_TOKEN_BYTES * self._wanted.tokens.amount * self._wanted.seeds)
        settings = {"bytes": size, "held_out": self._wanted.held_out.bytes}
        inputs = {each: step.making.fingerprint for each, step in corpora.items()}

        def fill(directory: Path) -> None:
            from polyana.corpus.overlap import Copies  # compiles, which takes a second

            is_copy = Copies([each.document.text for each in held_out]).holds
            if variant == CLEANED:
                take_sample(Corpus(quiet.store.get(corpora[CLEANED]).directory), size, is_copy, directory)
                return
            self._pipeline.console.say(f"  {variant}: making its text")
            made = self._workshop / variant / "corpus"
            made.mkdir(parents=True)
            corpora[variant].fill(made)
            take_sample(Corpus(made), size, is_copy, directory)
            shutil.rmtree(made)
            shutil.rmtree(
                self._pipeline.home / "mill" / f"{self._pipeline.recipe.name}-{_called(self._stage, variant)}"
            )

        name = f"{self._pipeline.recipe.name}/{_called(self._stage, variant)}.sample"
        return Step(name, Making("ablation-text", VERSION, settings, inputs), fill)

    # Models

    def _measured(self, variant: str, written: Written, start: Path, silence: Console) -> Measured:
        tokens = TokenData(self._workshop / variant / "tokens")
        trained = [self._trained(variant, number, start, silence) for number in range(self._wanted.seeds)]
        return Measured(self._leaves_out(variant), written, tokens.count("train", "tokens"), trained)

    def _leaves_out(self, variant: str) -> list[str]:
        left = self._variants[variant].step_names
        return [name for name in self._variants[CLEANED].step_names if name not in left]

    def _trained(self, variant: str, number: int, start: Path, silence: Console) -> Trained:
        """A model at the end of its training: of one that ran before, on the same tokens with the same settings."""
        tokens, label = self._workshop / variant / "tokens", f"ablation.{variant}.{number}"
        seed = self._pipeline.recipe.seed + number
        settings = {"seed": seed} | {
            name: value for name, value in self._config.identity().items() if name not in ("corpus", "tokenizer")
        }
        making = Making("ablation-run", VERSION, settings, _content(tokens, start))
        run = self._runs.of(making)
        if run is None or run.about().get("outcome") != "finished":
            recipe = self._recipe(variant, label, seed)
            run = run or self._runs.begin(recipe, label, making, silence)
            precision = choose_precision(self._config.train.precision)
            task = proxy_task(self._config, TokenData(tokens), TextTokenizer(start), seed, precision)
            train(run, recipe, Ingredients(label, tokens, start), task, {}, World(), silence)
        # its curves are all that is needed of it
        shutil.rmtree(run.state, ignore_errors=True)
        shutil.rmtree(Repository(self._runs.home / "hub", run.name).path, ignore_errors=True)
        found = self._read(run)
        self._pipeline.console.say(
            f"  {variant:<10} {number + 1} of {self._wanted.seeds}  {found.curves['all'][-1]:.3f} bits per byte of "
            f"held-out clean text after {found.tokens[-1]:,} tokens"
        )
        return found

    def _recipe(self, variant: str, label: str, seed: int) -> Recipe:
        """What the run's directory holds: it makes this corpus, and so this ablation, again."""
        recipe = self._pipeline.recipe
        corpus = _called(self._stage, variant)
        stages = {name: recipe.stages[name] for name in recipe.needed_for(self._stage)} | {
            corpus: self._variants[variant],
            f"{self._stage}.tokenizer": self._tokenizer(),
            label: self._config.model_copy(update={"corpus": corpus}),
        }
        return replace(recipe, seed=seed, stages=stages)

    def _read(self, run: RunDirectory) -> Trained:
        curves, about = read_curves(run.metrics), run.about()
        prefix = "eval/bits_per_byte"
        mine = {name.removeprefix(prefix).removeprefix("/") or "all": points for name, points in curves.items()
                if name.startswith(prefix)}  # fmt: skip
        seen = dict(curves["train/tokens"])
        tokens = [int(seen.get(step, 0)) for step, _ in mine["all"]]
        values = {name: [value for _, value in points] for name, points in mine.items()}
        nats = read_json(run.path / NATS)["nats"]
        return Trained(run.name, about["seed"], tokens, values, nats, about["training_seconds"])

    def _about(self) -> dict[str, object]:
        return self._wanted.identity() | {"seed": self._pipeline.recipe.seed}


def _content(tokens: Path, start: Path) -> dict[str, str]:
    """What decides what is learned: where two variants come to the same text, one training stands for both."""
    return {path.name: sha256_of(path) for path in [*sorted(tokens.glob("*.tokens")), start / "tokenizer.json"]}


@contextmanager
def _silent() -> Iterator[Console]:
    """A terminal that nobody reads: of each training one line is told."""
    with open(os.devnull, "w") as nothing:  # noqa: PTH123
        yield Console(nothing)
