"""The corpus stage: read, normalise, drop with a reason, split, store, report."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from polyana.corpus.chunks import SIZES, Chunk, Sizes
from polyana.corpus.decide import Decided, decide
from polyana.corpus.document import Split
from polyana.corpus.executor import Executor, Task
from polyana.corpus.finish import SPLITS, lots_of, write_shards
from polyana.corpus.guard import check_guard
from polyana.corpus.inputs import source_inputs
from polyana.corpus.mix import balance, copies_of
from polyana.corpus.page import write_pages
from polyana.corpus.passes import CountTokens, Pass, again, hash_of, held_out_at, passes_of, read_part
from polyana.corpus.readers import Notes, Part, check_notes, parts_of
from polyana.corpus.report import CorpusReport
from polyana.corpus.stage import CorpusConfig
from polyana.corpus.steps import CorpusWide, DomainsConfig, Judging, SemanticDuplicates, StepConfig
from polyana.errors import PolyanaError, Problem, UserError
from polyana.storage import ContentDigests, fingerprint, write_json
from polyana.tracking import Console

__all__ = ["VERSION", "build_corpus", "corpus_inputs", "split_of", "tokenizer_directory"]

VERSION = 4


def corpus_inputs(
    config: CorpusConfig, base: Path, digests: ContentDigests, where: Callable[..., str]
) -> dict[str, Any]:
    """What the corpus is made from: each file's name and content hash, or what a store says of it, each package's
    version; the files that steps name.

    Raises UserError for every file that does not exist, package that is not installed and setting that no file has a
    use for; `where(*path)` gives the place of a setting in the recipe.
    """
    problems: list[Problem] = []
    inputs: dict[str, Any] = {}
    try:
        found = source_inputs(config.sources, base, digests, partial(where, "sources"))
        inputs = dict(zip([source.label for source in config.sources], found, strict=True))
    except UserError as error:
        problems += error.problems
    for index, step in enumerate(config.steps):
        try:
            files = step.files(base)
        except UserError as error:
            problems += [Problem(where("steps", index), problem.what) for problem in error.problems]
            continue
        for name, listed in files.items():
            inputs[f"steps.{index}.{name}"] = {each: digests.of(path) for each, path in listed}
    if config.tokenizer is not None:
        directory = tokenizer_directory(config.tokenizer, base)
        parts = [directory / name for name in ("tokenizer.json", "tokenizer_config.json")]
        if missing := [path.name for path in parts if not path.is_file()]:
            what = f"`{config.tokenizer}` is no directory of a tokenizer: it has no {' and no '.join(missing)}"
            problems.append(Problem(where("tokenizer"), f"{what} (looked in {directory})"))
        else:
            inputs["tokenizer"] = {path.name: digests.of(path) for path in parts}
    if problems:
        raise UserError(problems)
    return inputs


def tokenizer_directory(written: str, base: Path) -> Path:
    """Where a corpus's tokenizer lies."""
    return base / Path(written).expanduser()


def split_of(identifier: str, eval_share: float) -> Split:
    """Which split a document belongs to: a hash of its id, so that it never moves when others come and go."""
    return "eval" if held_out_at(hash_of(identifier)) < eval_share else "train"


def build_corpus(
    config: CorpusConfig,
    base: Path,
    directory: Path,
    console: Console,
    *,
    workshop: Path | None = None,
    inputs: Any = None,
    models: Mapping[str, Path] | None = None,
    count_tokens: CountTokens | None = None,
    sizes: Sizes = SIZES,
) -> dict[str, Any]:
    """Write the documents and the report (.json, .html, .md) into `directory`; the report. Paths start at `base`.

    In `workshop` it keeps what it has done, so that it can go on after a kill, and decide anew with other thresholds
    without reading text again; `inputs` is what tells whether that still belongs to the sources. `models`: directories
    of the stages and of the language models that steps name; `count_tokens` tells the tokens of texts to the report, in
    any process. Raises PolyanaError when nothing is left to train on, or nothing to evaluate on although some was asked
    for.
    """
    with ExitStack() as stack:
        if workshop is None:
            workshop = Path(stack.enter_context(TemporaryDirectory(prefix="polyana-")))
        parts = [parts_of(source, base) for source in config.sources]
        bytes_read = sum(piece.size for source in parts for part in source for piece in part.pieces)
        workers = min(config.work.processes(), 1 + bytes_read // sizes.process)
        common = ["polyana.corpus.inherited"] if any(step.counts_words for step in config.all_steps) else []
        executor = stack.enter_context(Executor(config.work.executor, workers, common))
        identity = fingerprint([VERSION, inputs])
        mill = Mill(config, base, parts, workshop, identity, models or {}, count_tokens, executor, sizes, console)
        report = mill.run(directory)
    write_json(directory / "report.json", report)
    write_pages(report, directory)
    return report


class Mill:
    """A corpus on its way through its passes."""

    def __init__(
        self, config: CorpusConfig, base: Path, parts: list[list[Part]], workshop: Path, inputs: str,
        models: Mapping[str, Path], count_tokens: CountTokens | None, executor: Executor, sizes: Sizes,
        console: Console,
    ) -> None:  # fmt: skip
        self.config, self.workshop, self.console = config, workshop, console
        self._parts, self._executor, self._sizes, self._count_tokens = parts, executor, sizes, count_tokens
        self._files = tuple(
            step.places(base)
            | ({"model": models[step.model]} if isinstance(step, Judging | SemanticDuplicates) and step.model else {})
            for step in config.all_steps
        )
        self._domains = config.domains(self._told())
        # by what it is made from: what was written with other settings is not taken for this
        sources = [source.identity() for source in config.sources]
        self._identity = fingerprint([inputs, sources, config.min_characters, config.languages])
        self.report = CorpusReport(config)
        self._used: list[Path] = []

    def run(self, directory: Path) -> dict[str, Any]:
        """Write the documents and drops.jsonl; the report."""
        decided, rework = None, None
        for number, steps in enumerate(passes_of(self.config)):
            one = self._pass(number, steps, rework)
            results = self._read(one) if decided is None else self._again(one, decided)
            first, decided = decided is None, self._decided(one, results)
            if first:
                read = decided.chunks
                self.report.begin(read)
            self._decide(one, decided, results)
            if any(self.config.all_steps[place] is self.config.telling for place in steps):
                self.report.tell_domains(self._domains, decided.chunks)
            wide = [place for place in steps if _reworks(self.config.all_steps[place])]
            rework = wide[-1] if wide else None
        assert decided is not None
        self._check_not_empty(decided)
        self.report.end(decided)
        self._write(decided, directory)
        self.report.write_drops(read, directory / "drops.jsonl")
        # what a changed threshold decides anew by; without thresholds there is nothing to decide
        kept = set(self._used[:-1]) if any(step.deciding for step in self.config.all_steps) else set()
        for old in set(self.workshop.iterdir()) - kept:  # the shards, the last, have second names in `directory`
            shutil.rmtree(old)
        return self.report.as_data()

    def _pass(self, number: int, steps: tuple[int, ...], rework: int | None) -> Pass:
        # what documents come to it follows from all settings of the steps before, what it makes of them from its own
        # but for thresholds
        self._identity = fingerprint([self._identity, self.config.measuring(steps)])
        directory = self._directory(f"pass-{number}-{self._identity[:16]}")
        return Pass(
            directory,
            self.config,
            steps,
            self.config.languages,
            self._files,
            self._sizes,
            rework,
            self._domains,
            self._count_tokens,
        )

    def _told(self) -> list[str]:
        """The domains that a step tells apart."""
        return [
            name
            for step, files in zip(self.config.all_steps, self._files, strict=True)
            if isinstance(step, DomainsConfig)
            for name in step.names(files)
        ]

    def _directory(self, name: str) -> Path:
        directory = self.workshop / name
        directory.mkdir(parents=True, exist_ok=True)
        self._used.append(directory)
        return directory

    def _read(self, one: Pass) -> list[dict[str, Any]]:
        sources = self._parts
        parts = [(number, part) for number, parts in enumerate(sources) for part in parts]
        tasks = [
            Task(one.directory / f"{number:05d}.json", read_part, (one, number, part, source))
            for number, (source, part) in enumerate(parts)
        ]
        notes = [Notes() for _ in sources]

        def check(number: int, result: dict[str, Any]) -> None:
            source = parts[number][0]
            notes[source].add(Notes(**result["notes"] | {"lines": Counter(result["notes"]["lines"])}))
            check_notes(self.config.sources[source], notes[source], sources[source])

        results = self._run("corpus", tasks, check)
        for (at, _), result in zip(parts, results, strict=True):
            self.report.unread(at, result["unread"])
        for source, noticed, its in zip(self.config.sources, notes, sources, strict=True):
            check_notes(source, noticed, its, ended=True)
            self.report.noticed(source.label, noticed)
        return results

    def _again(self, one: Pass, before: Decided) -> list[dict[str, Any]]:
        tasks = []
        for number, chunk in enumerate(before.chunks):
            stays = one.directory / f"stays-{number:05d}.npy"
            np.save(stays, before.stays(number))
            settled = before.settled[number] if before.settled else None
            arguments = (one, number, chunk, stays, before.firsts[number], settled)
            tasks.append(Task(one.directory / f"{number:05d}.json", again, arguments))
        return self._run("corpus", tasks)

    def _run(
        self, label: str, tasks: list[Task], check: Callable[[int, dict[str, Any]], None] | None = None
    ) -> list[dict[str, Any]]:
        with self.console.gauge(label, len(tasks)) as gauge:
            done = 0

            def show(number: int, result: dict[str, Any]) -> None:
                nonlocal done
                done += 1
                if check is not None:
                    check(number, result)
                gauge.show(done, f"{done:,} parts")

            return self._executor.run(tasks, show)

    def _decided(self, one: Pass, results: list[dict[str, Any]]) -> Decided:
        noted = [
            [(int(place), str(reason)) for place, reason in result["reasons"]]
            for result in results
            for _ in result["chunks"]
        ]
        return Decided([Chunk(one.directory, name) for result in results for name in result["chunks"]], noted)

    def _decide(self, one: Pass, decided: Decided, results: list[dict[str, Any]]) -> None:
        # the same steps with the same settings decide the same, so what they wrote for it is of use again
        self._identity = fingerprint([self._identity, [self.config.all_steps[place].identity() for place in one.steps]])
        directory = self._directory(f"decided-{self._identity[:16]}")
        for place in one.steps:
            decide(self.config, place, decided, directory, self._executor, self._sizes)
            check_guard(self.config, place, decided, self._domains)
        self.report.add_pass(one.steps, decided, results, self._executor, directory)

    def _write(self, decided: Decided, directory: Path) -> None:
        """Deal the kept documents out to the shards of their splits."""
        self._identity = fingerprint([self._identity, self.config.eval, self.config.identity()["mix"]])
        workshop = self._directory(f"shards-{self._identity[:16]}")
        names = self._domains
        sizes = np.zeros((len(SPLITS), len(names)), np.int64)
        splits = []
        for number, chunk in enumerate(decided.chunks):
            stays = decided.stays(number)
            source, domain, length, broken = (
                chunk.column(name)[stays] for name in ("source", "domain", "length", "broken")
            )
            split = (chunk.column("held")[stays] < self.config.eval).astype(np.int8)
            splits.append(split)
            np.add.at(sizes, (split, domain), length)
            for place, name in enumerate(SPLITS):
                for at in np.unique(source).tolist():
                    mine = (source == at) & (split == place)
                    self.report.keep(at, name, int(mine.sum()), int(length[mine].sum()))
                self.report.keep_domains(name, domain[split == place], length[split == place])
            for at in np.unique(source[broken]).tolist():
                mine = (source == at) & broken
                self.report.repaired(at, int(mine.sum()), int(length[mine].sum()))
        asked, epochs = {}, np.ones(len(names))
        if self.config.mix is not None:
            asked = balance(self.config.mix, dict(zip(names, sizes[0].tolist(), strict=True)))
            epochs = np.array([asked[name].epochs for name in names])
        copies, came = [], np.zeros((len(names), 2), np.int64)
        for number, (chunk, split) in enumerate(zip(decided.chunks, splits, strict=True)):
            stays, given = decided.stays(number), np.zeros((len(decided.fates[number]), len(SPLITS)), np.int32)
            given[stays, 1] = split
            domain = chunk.column("domain")[stays]
            wanted = np.where(split, 0, copies_of(epochs[domain], lots_of(chunk.column("order")[stays])))
            given[stays, 0] = wanted
            np.add.at(came, domain, np.stack([wanted, wanted * chunk.column("length")[stays]], 1))
            copies.append(workshop / f"copies-{number:05d}.npy")
            np.save(copies[-1], given)
        if not came[:, 0].any():
            there = ", ".join(name for name, size in zip(names, sizes[0].tolist(), strict=True) if size)
            raise PolyanaError(f"the mix leaves nothing to train on: what was kept is of {there}")
        self.report.mixed(asked, dict(zip(names, came.tolist(), strict=True)))
        totals: dict[Split, int] = {"train": int(came[:, 1].sum()), "eval": int(sizes[1].sum())}
        write_shards(decided.chunks, copies, totals, directory, workshop, self._executor)

    def _check_not_empty(self, decided: Decided) -> None:
        """Raises PolyanaError when nothing is left to train on, or nothing to evaluate on."""
        total, examples = self.report.total(), self.report.examples()
        read = total.read.documents
        kept, out, least = 0, 0, 1.0
        for number, chunk in enumerate(decided.chunks):
            held = chunk.column("held")[decided.stays(number)]
            kept += len(held)
            out += int((held < self.config.eval).sum())
            least = min(least, held.min(initial=1.0))
        if not read:
            raise PolyanaError("the corpus is empty: there is no text in its files, only blank lines or none")
        if not kept:
            reasons = ", ".join(
                f"{count.documents} {reason} (as {examples[reason][0]})" for reason, count in total.dropped.items()
            )
            raise PolyanaError(f"the corpus is empty: of {read} documents none was kept: {reasons}")
        if out == kept:
            raise PolyanaError(f"all {kept} documents fell to eval; make `eval: {self.config.eval:.0%}` smaller")
        if self.config.eval and not out:
            if kept == 1:
                raise PolyanaError(
                    "the corpus is one document, so none can be held out: cut it with `document: 100 KB` in its "
                    "source, or write `eval: 0%`"
                )
            raise PolyanaError(
                f"none of the {kept} documents fell to eval at `eval: {self.config.eval:.1%}`; with these documents "
                f"`eval: {least * 100 + 0.05:.1f}%` is the least that holds one out. Or cut long files into "
                "documents with `document: 100 KB`, or write `eval: 0%`"
            )


def _reworks(step: StepConfig) -> bool:
    return isinstance(step, CorpusWide) and step.reworks
