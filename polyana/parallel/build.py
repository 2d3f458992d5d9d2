"""Parallel text on disk: read, cleaned, cut into sentences, split, without what stands in the test set."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import zstandard

from polyana.corpus import Split, split_of
from polyana.errors import Problem, UserError
from polyana.parallel.apt import help_packages
from polyana.parallel.config import ChatPrompt, ParallelConfig, ParallelSource
from polyana.parallel.files import files_of
from polyana.parallel.hygiene import HeldOut, Hygiene
from polyana.parallel.prompts import language_name
from polyana.parallel.readers import knows_paragraphs, read_source
from polyana.parallel.report import ParallelReport, SourceBalance
from polyana.parallel.segment import Rejected, Segment
from polyana.parallel.sentences import as_sentences
from polyana.storage import ContentDigests, read_json, write_json
from polyana.tracking import Console

__all__ = ["VERSION", "ParallelText", "build_parallel", "parallel_inputs"]

VERSION = 1


def parallel_inputs(
    config: ParallelConfig, base: Path, cache: Path, digests: ContentDigests, where: Callable[..., str]
) -> dict[str, Any]:
    """What the text is made from: each file's name and content hash. Packages are fetched into `cache`.

    Raises UserError for every source that is not there or does not know what the units need; `where(*path)` gives the
    place of a setting in the recipe.
    """
    inputs: dict[str, Any] = {}
    problems: list[Problem] = []
    languages = (config.languages.source, config.languages.target)
    try:
        Hygiene(config.hygiene, config.languages)
    except UserError as error:
        problems += [Problem(where("languages"), problem.what) for problem in error.problems]
    if isinstance(config.prompt, ChatPrompt):
        for side, code in zip(("source", "target"), languages, strict=True):
            try:
                language_name(code)
            except UserError as error:
                problems += [Problem(where("languages", side), problem.what) for problem in error.problems]
    for group in ("data", "test"):
        for index, source in enumerate(getattr(config, group)):
            try:
                if source.package is not None:
                    archives = help_packages(languages, cache)
                    inputs[source.label] = {archive.name: digests.of(archive) for archive in archives}
                    continue
                files, _ = files_of(source, config.languages, base, cache)
                inputs[source.label] = {file.name: [digests.of(path) for path in file.paths] for file in files}
                unknown = [file for file in files if not knows_paragraphs(source, file.format)]
                if unknown and any(unit.kind == "paragraph" for unit in config.unit):
                    raise UserError(
                        f"`unit: paragraph`, but {unknown[0].shown[0]} does not say what its paragraphs are: name "
                        "their column (`columns: {paragraph: ...}`), write `paragraph: line` where each pair is one, "
                        "or `paragraph: blank_line` where blank lines part them, or choose `unit: chunk`"
                    )
            except UserError as error:
                problems += [Problem(problem.where or where(group, index), problem.what) for problem in error.problems]
    if problems:
        raise UserError(problems)
    return inputs


def build_parallel(
    config: ParallelConfig, base: Path, cache: Path, directory: Path, console: Console
) -> dict[str, Any]:
    """Write train.jsonl.zst, eval.jsonl.zst, drops.jsonl and report.json into `directory` and return the report.

    A test set of its own is only read, not cleaned: a score on part of it could not be compared with others'. Raises
    UserError when more rows than `max_bad` could not be read, when a side is in another language, or when nothing is
    left.
    """
    report, test = ParallelReport(), HeldOut(config.languages, config.hygiene.overlap_words)
    hygiene = Hygiene(config.hygiene, config.languages)
    codes = (config.languages.source, config.languages.target)
    candidates = directory / "candidates.jsonl.zst"
    with ExitStack() as stack:
        drops = stack.enter_context((directory / "drops.jsonl").open("w", encoding="utf-8", errors="replace"))
        gauge = stack.enter_context(console.gauge("parallel text", len(config.test) + len(config.data)))
        held = stack.enter_context(_Writer(directory / "eval.jsonl.zst"))

        def drop(rejected: Rejected) -> None:
            drops.write(json.dumps(asdict(rejected), ensure_ascii=False) + "\n")

        def kept(source: ParallelSource, *, only_read: bool) -> Iterator[Segment]:
            balance = report.sources.setdefault(source.label, SourceBalance())
            beginning: _Sides | None = ([], [])
            for item in read_source(source, config.languages, base, cache):
                if not only_read and beginning is not None:
                    beginning = _look_at(beginning, item, hygiene, source)
                checked = item if isinstance(item, Rejected) else _checked(item, hygiene, only_read)
                if isinstance(checked, Rejected):
                    balance.drop(checked)
                    drop(checked)
                    if checked.malformed:
                        report.malformed(checked)
                    continue
                balance.keep()
                if balance.read % 1000 == 0:
                    gauge.show(len(report.sources) - 1, f"{balance.read:,} pairs of {source.label}")
                yield checked
            _check_malformed(source, balance, report, config.hygiene.max_bad)

        for source in config.test:
            for segment in as_sentences(kept(source, only_read=True), *codes):
                held.write(segment)
                test.add(segment)
        with _Writer(candidates) as waiting:
            for source in config.data:
                for segment in as_sentences(kept(source, only_read=False), *codes):
                    if config.test or split_of(segment.document, config.held_out) == "train":
                        waiting.write(segment)
                    else:
                        held.write(segment)
                        test.add(segment)
        with _Writer(directory / "train.jsonl.zst") as train:
            for segment in _read(candidates):
                if config.hygiene.overlap and test.holds(segment):
                    report.overlap_sentences += 1
                    drop(Rejected(segment.where, "stands in the test set", segment.source, segment.target))
                else:
                    train.write(segment)
        candidates.unlink()
        report.train_sentences, report.eval_sentences = train.count, held.count
    _check_not_empty(report, config)
    data = report.as_data()
    write_json(directory / "report.json", data)
    return data


_Sides = tuple[list[str], list[str]]
_BEGINNING = 50  # pairs of a source that are looked at together to tell its languages; guess


def _look_at(seen: _Sides, item: Segment | Rejected, hygiene: Hygiene, source: ParallelSource) -> _Sides | None:
    """The first pairs of a source; None once there were enough, in the right languages. Raises UserError."""
    if isinstance(item, Rejected) or item.source == item.target:
        return seen
    seen[0].append(item.source)
    seen[1].append(item.target)
    if len(seen[0]) < _BEGINNING:
        return seen
    try:
        hygiene.check_sides(*seen)
    except UserError as error:
        raise UserError(f"`{source.label}`: {error.problems[0].what}") from None
    return None


def _checked(segment: Segment, hygiene: Hygiene, only_read: bool) -> Segment | Rejected:
    source, target = hygiene.clean(segment.source), hygiene.clean(segment.target)
    fault = hygiene.unreadable(segment.source, segment.target)
    if fault is None and not only_read:
        fault = hygiene.fault(source, target)
    if fault is not None:
        return Rejected(segment.where, fault, segment.source, segment.target)
    return Segment(segment.document, segment.number, source, target, segment.where, segment.paragraph)


def _check_malformed(source: ParallelSource, balance: SourceBalance, report: ParallelReport, max_bad: float) -> None:
    if balance.malformed > max_bad * balance.read:
        what = (
            f"{balance.malformed:,} of {balance.read:,} rows of `{source.label}` cannot be read, more than `max_bad: "
            f"{max_bad:.1%}`; mend them or raise it. The first are:"
        )
        raise UserError([Problem("", what), *report.first_malformed])


def _check_not_empty(report: ParallelReport, config: ParallelConfig) -> None:
    if not report.train_sentences:
        reasons: dict[str, int] = {}
        for balance in report.sources.values():
            for reason, count in balance.dropped.items():
                reasons[reason] = reasons.get(reason, 0) + count
        if report.overlap_sentences:
            reasons["stand in the test set"] = report.overlap_sentences
        if report.eval_sentences and not config.test:
            reasons[f"held out by `held_out: {config.held_out:.0%}`"] = report.eval_sentences
        listed = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
        raise UserError(f"no parallel text is left to train on: {listed or 'its files are empty'}")
    if not report.eval_sentences:
        raise UserError(
            f"no document fell to eval at `held_out: {config.held_out:.1%}`: name documents in the data (`columns: "
            "{document: ...}`, `document: blank_line`, or `document: line` where sentences have nothing to do with "
            "each other), raise `held_out`, or give a `test` set"
        )


class _Writer:
    """Segments as compressed JSONL; `count` says how many."""

    def __init__(self, path: Path) -> None:
        self.count = 0
        compressor = zstandard.ZstdCompressor(level=3)
        # U+D800..DFFF (half a character, possible in JSON) has no UTF-8; it becomes "?"
        self._stream = io.TextIOWrapper(zstandard.open(path, "wb", cctx=compressor), "utf-8", errors="replace")

    def write(self, segment: Segment) -> None:
        json.dump(asdict(segment), self._stream, ensure_ascii=False)
        self._stream.write("\n")
        self.count += 1

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._stream.close()


def _read(path: Path) -> Iterator[Segment]:
    with zstandard.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield Segment(**json.loads(line))


class ParallelText:
    """What `build_parallel` wrote."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def report(self) -> dict[str, Any]:
        """See report.py."""
        return dict(read_json(self.directory / "report.json"))

    def segments(self, split: Split) -> Iterator[Segment]:
        """The sentences of a split in the order of the sources, those of a document together."""
        return _read(self.directory / f"{split}.jsonl.zst")

    def texts(self, split: Split) -> Iterator[str]:
        """What stands in the sentences of a split, in either language."""
        for segment in self.segments(split):
            yield segment.source
            yield segment.target
