"""What is made of documents before a model sees them: judges of text, corpora, tokenizers, token shards."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from polyana import corpus, data, tokenizer
from polyana.corpus import ClassifierConfig, Corpus, CorpusConfig, NgramsConfig, QualityConfig
from polyana.errors import blaming
from polyana.evaluate import trigram_bits_per_byte
from polyana.pipeline.models import embedder_step
from polyana.storage import Making, Step, locked, write_json
from polyana.tasks import PretrainConfig
from polyana.tokenizer import TextTokenizer, TokenizerConfig

if TYPE_CHECKING:
    from polyana.pipeline.pipeline import Pipeline


class _Judge(NamedTuple):
    """How a stage is made that learns what a corpus's steps judge text by."""

    version: int
    inputs: Callable[..., dict[str, Any]]
    build: Callable[..., dict[str, Any]]
    lines: Callable[[dict[str, Any]], list[str]]


_JUDGES = {
    "classifier": _Judge(
        corpus.CLASSIFIER_VERSION, corpus.classifier_inputs, corpus.build_classifier, corpus.classifier_report_lines
    ),
    "ngrams": _Judge(corpus.NGRAMS_VERSION, corpus.ngrams_inputs, corpus.build_ngrams, corpus.ngrams_report_lines),
    "quality": _Judge(corpus.QUALITY_VERSION, corpus.quality_inputs, corpus.build_quality, corpus.quality_report_lines),
}


def judge_step(pipeline: Pipeline, name: str, config: ClassifierConfig | NgramsConfig | QualityConfig) -> Step:
    """What documents are judged by: domains, likeness to good text, perplexity."""
    judge, base = _JUDGES[config.kind], pipeline.recipe.base
    inputs = judge.inputs(config, base, pipeline.digests, partial(pipeline.recipe.where, name))
    pipeline.digests.save()

    def fill(directory: Path) -> None:
        pipeline.tell(judge.lines(judge.build(config, base, directory, pipeline.console)))

    return pipeline.artifact(name, Making(config.kind, judge.version, config.identity(), inputs), fill)


def corpus_step(pipeline: Pipeline, name: str, config: CorpusConfig) -> Step:
    where = partial(pipeline.recipe.where, name)
    inputs = corpus.corpus_inputs(config, pipeline.recipe.base, pipeline.digests, where)
    pipeline.digests.save()
    judges = {stage: pipeline.step(stage) for stage in config.judges}
    inputs |= {f"stages.{stage}": step.making.fingerprint for stage, step in judges.items()}
    counter = None
    if config.tokenizer is not None:
        counter = tokenizer.TokenCounter(corpus.tokenizer_directory(config.tokenizer, pipeline.recipe.base))
    embedders = {written: embedder_step(pipeline, name, place, written) for place, written in config.embedders.items()}
    inputs |= {f"steps.{place}.model": embedders[each].making.fingerprint for place, each in config.embedders.items()}

    def fill(directory: Path) -> None:
        workshop = pipeline.home / "mill" / f"{pipeline.recipe.name}-{name}"
        workshop.mkdir(parents=True, exist_ok=True)
        busy = f"{pipeline.recipe.name}/{name} is being made by another process"
        with locked(workshop.with_suffix(".lock"), busy):
            models = {each: pipeline.store.get(step).directory for each, step in (judges | embedders).items()}
            with blaming(where()):
                report = corpus.build_corpus(
                    config, pipeline.recipe.base, directory, pipeline.console, workshop=workshop, inputs=inputs,
                    models=models, count_tokens=counter,
                )  # fmt: skip
        pipeline.tell(corpus.report_lines(report, pipeline.store.place(making)))

    making = Making("corpus", corpus.VERSION, config.identity(), inputs)
    return pipeline.artifact(name, making, fill)


def tokenizer_step(pipeline: Pipeline, name: str, config: TokenizerConfig) -> Step:
    text = pipeline.step(config.corpus)
    where = partial(pipeline.recipe.where, name)
    inputs = tokenizer.tokenizer_inputs(config, pipeline.recipe.base, pipeline.digests, where)
    inputs["corpus"] = text.making.fingerprint

    def fill(directory: Path) -> None:
        documents = Corpus(pipeline.store.get(text).directory)
        tokenizer.build_tokenizer(config, pipeline.recipe.base, documents, directory, pipeline.console)
        pipeline.tell(tokenizer.report_lines(directory))

    return pipeline.artifact(name, Making("tokenizer", tokenizer.VERSION, config.identity(), inputs), fill)


def tokens_step(pipeline: Pipeline, config: PretrainConfig) -> Step:
    """Made once for each pair of corpus and tokenizer, whichever stages train on it."""
    text, cutter = pipeline.step(config.corpus), pipeline.step(config.tokenizer)
    inputs = {"corpus": text.making.fingerprint, "tokenizer": cutter.making.fingerprint}

    def fill(directory: Path) -> None:
        documents, words = (
            Corpus(pipeline.store.get(text).directory),
            TextTokenizer(pipeline.store.get(cutter).directory),
        )
        data.tokenise(documents, words, directory, pipeline.console)

    return pipeline.artifact("tokens", Making("tokens", data.VERSION, {}, inputs), fill)


def baseline_step(pipeline: Pipeline, config: PretrainConfig) -> Step:
    """Bits per byte of a character trigram on the held-out documents; null when nothing is held out."""
    text = pipeline.step(config.corpus)

    def fill(directory: Path) -> None:
        documents, bits = Corpus(pipeline.store.get(text).directory), None
        if documents.report["total"]["eval"]["documents"]:
            train, held_out = ((item.text for item in documents.documents(part)) for part in ("train", "eval"))
            bits = trigram_bits_per_byte(train, held_out)
        write_json(directory / "baseline.json", {"trigram_bits_per_byte": bits})

    return pipeline.artifact("baseline", Making("baseline", 1, {}, {"corpus": text.making.fingerprint}), fill)
