"""Where every document and every byte went.

For each source the documents read equal those kept and dropped; the bytes read equal those written, those dropped, and
those that edits took out.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from json.encoder import encode_basestring as quoted
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyana.corpus.chunks import EDITS, Chunk
from polyana.corpus.clusters import clusters_of
from polyana.corpus.counts import Count, SourceReport
from polyana.corpus.decide import Decided, Reason
from polyana.corpus.executor import Executor, Task
from polyana.corpus.mix import Balance
from polyana.corpus.passes import NOTHING_LEFT, READING, SAMPLES
from polyana.corpus.readers import Notes
from polyana.corpus.shown import SHOWN, Shown, Veil
from polyana.corpus.stage import CorpusConfig
from polyana.corpus.steps import LanguageConfig
from polyana.corpus.steps.step import StepConfig
from polyana.corpus.thresholds import Nearest, nearest_to_thresholds, threshold_curves

__all__ = ["CorpusReport"]

_DAMAGED = 100  # damaged files of a source; drops.jsonl has them all
_WORDS = ("solid_words", "words")  # columns that count words, the best first
_OTHER = "other"  # language


class CorpusReport:
    """All sources of a corpus, filled pass by pass."""

    def __init__(self, config: CorpusConfig) -> None:
        self._config = config
        self._sources = [SourceReport() for _ in config.sources]
        self._order: dict[str, Reason] = {}  # labels of reasons in the order of the steps
        self._examples: dict[str, list[dict[str, Any]]] = {}
        self._drops: list[Path] = []
        self._domains: dict[str, dict[str, Count]] = {}
        self._mix: dict[str, Any] = {}
        self._words: dict[int, int] = {}  # by step, that were counted in what it left
        self._words_dropped: dict[str, int] = {}
        self._tokens: dict[str, float] = {}  # by label of a reason
        self._tokens_read: int | None = None
        self._languages: dict[str, dict[str, Count]] = {}
        self._thresholds: list[dict[str, Any]] = []
        self._borderline: list[dict[str, Any]] = []
        self._clusters: list[dict[str, Any]] = []
        self._reading: dict[str, Any] = {}

    def label(self, reason: Reason) -> str:
        """A reason as the user reads it: `gopher_quality: too few stop words`."""
        place, text = reason
        found = text if place == READING else f"{self._config.all_steps[place].kind}: {text}"
        self._order.setdefault(found, reason)
        return found

    def begin(self, chunks: list[Chunk]) -> None:
        """What was read."""
        for chunk in chunks:
            if "tokens" in chunk.names:
                self._tokens_read = (self._tokens_read or 0) + int(chunk.column("tokens_before").sum())
            source, size = chunk.column("source"), chunk.column("size")
            for at in np.unique(source).tolist():
                self._sources[at].read.add(int(np.sum(source == at)), int(size[source == at].sum()))

    def unread(self, source: int, found: Mapping[str, Sequence[Any]]) -> None:
        """What was dropped of a part of a source while it was read: by reason documents, bytes, (id, begin) of some."""
        veil, report = Veil(self._config.all_steps), self._sources[source]
        for reason, (documents, size, some) in found.items():
            label = self.label((READING, reason))
            report.read.add(documents, size)
            report.dropped.setdefault(label, Count()).add(documents, size)
            examples = self._examples.setdefault(label, [])
            for identifier, begin in some[: SAMPLES - len(examples)]:
                examples.append({"id": identifier, "before": veil.window(begin)})

    def noticed(self, source: str, notes: Notes) -> None:
        """What reading a source noticed beside its documents."""
        if notes.damaged or notes.lines:
            self._reading[source] = {
                "damaged": dict(sorted(notes.damaged.items())[:_DAMAGED]),
                "damaged_files": len(notes.damaged),
                "lines": dict(sorted(notes.lines.items())),
            }

    def add_pass(
        self, steps: tuple[int, ...], decided: Decided, results: list[dict[str, Any]], executor: Executor,
        directory: Path,
    ) -> None:  # fmt: skip
        """What a pass edited and dropped; examples of each reason; how thresholds move it."""
        chosen: dict[int, list[tuple[int, int]]] = {}  # reason: order, row of the corpus
        edited, cut = self.total().edited, 0.0
        for number, chunk in enumerate(decided.chunks):
            fates, source, order = decided.fates[number], chunk.column("source"), chunk.column("order")
            left = chunk.column("size") - self._count_edits(decided, number)
            np.savez(directory / f"fates-{chunk.name}.npz", fates=fates, left=left)
            cut += self._count_tokens(decided, number, left)
            for code in np.unique(fates[fates >= 0]).tolist():
                label = self.label(decided.reasons[code])
                rows = np.flatnonzero(fates == code)
                for at in np.unique(source[rows]).tolist():
                    mine = rows[source[rows] == at]
                    self._sources[at].dropped.setdefault(label, Count()).add(len(mine), int(left[mine].sum()))
                first = rows[np.argsort(order[rows], kind="stable")[:SAMPLES]]
                places = (first + decided.firsts[number]).tolist()
                chosen.setdefault(code, []).extend(zip(order[first].tolist(), places, strict=True))
        self._share_out(cut, edited)
        self._take_samples(results)
        self._count_words(steps, decided)
        self._count_languages(steps, decided)
        self._thresholds += threshold_curves(self._config, steps, decided)
        examples = {code: [row for _, row in sorted(rows)[:SAMPLES]] for code, rows in chosen.items()}
        nearest = nearest_to_thresholds(self._config, steps, decided)
        clusters = clusters_of(decided)
        wanted = {row for rows in examples.values() for row in rows}
        wanted |= {row for each in nearest for _, row in each.thrown + each.kept}
        wanted |= {row for each in clusters for row in each.rows}
        shown = self._tell(decided, wanted, executor, directory)
        self._add_examples(decided, examples, shown)
        self._borderline += [_borderline(each, shown) for each in nearest]
        self._clusters += [each.as_data(self._config.all_steps[each.place].kind, shown) for each in clusters]

    def _count_tokens(self, decided: Decided, number: int, left: NDArray[np.int64]) -> float:
        """Tokens of a chunk's dropped documents go to their reasons, by the share of their bytes that was `left` then;
        how many edits have taken."""
        chunk, fates = decided.chunks[number], decided.fates[number]
        if self._tokens_read is None:
            return 0.0
        before, after = chunk.column("tokens_before"), chunk.column("tokens")
        then = np.where(fates < 0, after, before * (left / np.maximum(chunk.column("size"), 1)))
        for code in np.unique(fates[fates >= 0]).tolist():
            label = self.label(decided.reasons[code])
            self._tokens[label] = self._tokens.get(label, 0.0) + float(then[fates == code].sum())
        return float((before - then).sum())

    def _share_out(self, tokens: float, before: Mapping[str, Count]) -> None:
        """What the edits of a pass have taken, to their reasons by their bytes, or by their documents where no byte
        went; bytes that came count as those that went, for a sum of both may be nothing."""
        known, now = Count(), self.total().edited
        sizes = {label: abs(count.bytes - before.get(label, known).bytes) for label, count in now.items()}
        if not any(sizes.values()):
            sizes = {label: count.documents - before.get(label, known).documents for label, count in now.items()}
        for label, size in sizes.items():
            if size:
                share = tokens * size / sum(sizes.values())
                self._tokens[label] = self._tokens.get(label, 0.0) + share

    def _count_edits(self, decided: Decided, number: int) -> Any:
        """Bytes taken out of each document of a chunk before it was dropped."""
        chunk = decided.chunks[number]
        edits, source = chunk.column(EDITS), chunk.column("source")
        taken = np.zeros(len(source), np.int64)
        if not len(edits):
            return taken
        noted, rows = decided.noted[number], edits[:, 0]
        places = np.array([place for place, _ in noted], np.int64)[edits[:, 1]]
        # what the step that drops a document made of it is not counted, unless that is why: it is dropped as it came
        blank = np.array([text == NOTHING_LEFT for _, text in [*decided.reasons, (0, "")]])[decided.fates[number]]
        last = decided.places(number)[rows]
        edits = edits[(places < last) | ((places == last) & blank[rows])]
        np.add.at(taken, edits[:, 0], edits[:, 2])
        for code, reason in enumerate(noted):
            mine = edits[edits[:, 1] == code]
            if not len(mine):
                continue
            label = self.label(reason)
            for at in np.unique(source[mine[:, 0]]).tolist():
                some = mine[source[mine[:, 0]] == at]
                documents = len(np.unique(some[:, 0]))
                self._sources[at].edited.setdefault(label, Count()).add(documents, int(some[:, 2].sum()))
        return taken

    def _take_samples(self, results: list[dict[str, Any]]) -> None:
        found: dict[str, list[list[Any]]] = {}
        for result in results:
            for key, samples in result["samples"].items():
                found.setdefault(key, []).extend(samples)
        for key, samples in found.items():
            place, _, reason = key.partition(" ")
            self._examples[self.label((int(place), reason))] = [
                {"id": identifier, "before": before, "after": after}
                for _, identifier, before, after in sorted(samples, key=lambda each: (each[0], each[1]))[:SAMPLES]
            ]

    def _count_words(self, steps: tuple[int, ...], decided: Decided) -> None:
        """Words of documents as the first step of the pass that counts them found them."""
        for chunk, fates in zip(decided.chunks, decided.fates, strict=True):
            there = set(chunk.names)
            columns = [f"{place}.{name}" for place in steps for name in _WORDS if f"{place}.{name}" in there]
            if not columns:
                return
            words = chunk.column(columns[0])
            places = np.array([place for place, _ in decided.reasons] + [len(self._config.all_steps)])[fates]
            for place in steps:
                self._words[place] = self._words.get(place, 0) + int(words[places > place].sum())
            for code in np.unique(fates[fates >= 0]).tolist():
                label = self.label(decided.reasons[code])
                self._words_dropped[label] = self._words_dropped.get(label, 0) + int(words[fates == code].sum())

    def _count_languages(self, steps: tuple[int, ...], decided: Decided) -> None:
        """What comes to the step that tells languages apart."""
        for place in steps:
            if not isinstance(self._config.all_steps[place], LanguageConfig):
                continue
            for number, chunk in enumerate(decided.chunks):
                come = decided.places(number) >= place
                label, size = chunk.column(f"{place}.label")[come], chunk.column("size")[come]
                for at, language in enumerate((*self._config.languages, _OTHER)):
                    mine = label == (at if language != _OTHER else -1)
                    before = self._languages.setdefault(language, {"before": Count(), "after": Count()})["before"]
                    before.add(int(mine.sum()), int(size[mine].sum()))

    def end(self, decided: Decided) -> None:
        """What is kept, by language."""
        for number, chunk in enumerate(decided.chunks if self._languages else ()):
            stays = decided.stays(number)
            spoken, length = chunk.column("language")[stays], chunk.column("length")[stays]
            for at, language in enumerate(self._config.languages):
                self._languages[language]["after"].add(int((spoken == at).sum()), int(length[spoken == at].sum()))

    def _tell(self, decided: Decided, rows: set[int], executor: Executor, directory: Path) -> Shown:
        """Find the ids of all that were dropped, and those of some rows, and of their twins, with their beginnings."""
        wanted: dict[int, list[int]] = {}
        for row in sorted(rows | set(decided.kept_for(rows).values())):
            place, at = decided.chunk_of(row)
            wanted.setdefault(place, []).append(at)
        labels = [self.label(reason) for reason in decided.reasons]
        secret = [step for step in self._config.all_steps if step.secret]
        tasks = []
        for number, chunk in enumerate(decided.chunks):
            fates, drops = directory / f"fates-{chunk.name}.npz", directory / f"drops-{chunk.name}.jsonl"
            arguments = (chunk, fates, labels, wanted.get(number, []), drops, secret)
            tasks.append(Task(directory / f"told-{chunk.name}.json", _tell, arguments))
        told = executor.run(tasks)
        self._drops += [directory / f"drops-{chunk.name}.jsonl" for chunk in decided.chunks]

        def shown(row: int) -> dict[str, Any]:
            place, at = decided.chunk_of(row)
            identifier, text = told[place][str(at)]
            return {"id": identifier, "text": text}

        return shown

    def _add_examples(self, decided: Decided, chosen: dict[int, list[int]], shown: Shown) -> None:
        twins = decided.kept_for({row for rows in chosen.values() for row in rows})
        for code, rows in chosen.items():
            examples = self._examples.setdefault(self.label(decided.reasons[code]), [])
            place = decided.reasons[code][0]
            secret = place != READING and self._config.all_steps[place].secret
            for row in rows:
                example = {"id": shown(row)["id"], "before": None if secret else shown(row)["text"]}
                if row in twins:
                    example["twin"] = shown(twins[row])
                examples.append(example)

    def keep(self, source: int, split: str, documents: int, size: int) -> None:
        count: Count = getattr(self._sources[source], split)
        count.add(documents, size)

    def repaired(self, source: int, documents: int, size: int) -> None:
        self._sources[source].repaired.add(documents, size)

    def tell_domains(self, names: Sequence[str], chunks: list[Chunk]) -> None:
        """What came to the step that tells domains apart."""
        self._domains = {name: {part: Count() for part in ("before", "train", "eval")} for name in names}
        for chunk in chunks:
            self.keep_domains("before", chunk.column("domain"), chunk.column("size"))

    def keep_domains(self, part: str, domain: NDArray[np.int16], length: NDArray[np.int64]) -> None:
        """The domain and the bytes of each document in a part, if there are domains other than the sources."""
        for at, counts in enumerate(self._domains.values()):
            counts[part].add(int((domain == at).sum()), int(length[domain == at].sum()))

    def mixed(self, asked: Mapping[str, Balance], came: Mapping[str, Sequence[int]]) -> None:
        """What the mix asked for, and how many documents and bytes of each domain it gave to training."""
        total = sum(size for _, size in came.values()) or 1
        for name, balance in asked.items():
            documents, size = came[name]
            given = {"documents": documents, "bytes": size, "share": size / total}
            self._mix[name] = balance.as_data() | {"given": given}

    def write_drops(self, chunks: list[Chunk], target: Path) -> None:
        """One JSON line for each document that was dropped: id, reason, size. `chunks` are those of the first pass."""
        with target.open("wb") as stream:
            for chunk in chunks:
                chunk.write_dropped(stream)
            for path in self._drops:
                with path.open("rb") as lines:
                    shutil.copyfileobj(lines, stream)

    def total(self) -> SourceReport:
        """All sources together."""
        total = SourceReport()
        for source in self._sources:
            total.add(source)
        return total

    def examples(self) -> dict[str, list[str]]:
        """Ids of documents by the reason for which they were dropped or edited."""
        return {label: [each["id"] for each in found] for label, found in self._examples.items()}

    def as_data(self) -> dict[str, Any]:
        """Plain data for report.json: {"sources": {name: ...}, "total": ..., "steps": [...]}."""
        for source in self._sources:
            source.check()
        total = self.total()
        return {
            "sources": {
                source.label: asdict(report) for source, report in zip(self._config.sources, self._sources, strict=True)
            },
            "total": asdict(total) | {"examples": self.examples()},
            "steps": self._waterfall(total),
            "domains": {
                name: {part: asdict(count) for part, count in counts.items()} for name, counts in self._domains.items()
            },
            "mix": self._mix,
            "examples": self._examples,
            "thresholds": self._thresholds,
            "borderline": self._borderline,
            "clusters": self._clusters,
            "languages": {
                name: {when: asdict(count) for when, count in counts.items()}
                for name, counts in self._languages.items()
            },
            "reading": self._reading,
            "tokens_read": self._tokens_read,
        }

    def _waterfall(self, total: SourceReport) -> list[dict[str, Any]]:
        """What was left after each step, and why the rest went."""
        left, tokens = Count(total.read.documents, total.read.bytes), self._tokens_read
        found = []
        for place in range(READING, len(self._config.all_steps)):
            labels = [label for label, reason in self._order.items() if reason[0] == place]
            dropped = {label: total.dropped[label] for label in labels if label in total.dropped}
            edited = {label: total.edited[label] for label in labels if label in total.edited}
            left.add(-sum(count.documents for count in dropped.values()), 0)
            left.add(0, -sum(count.bytes for count in [*dropped.values(), *edited.values()]))
            if tokens is not None:
                tokens -= sum(round(self._tokens.get(label, 0)) for label in (*dropped, *edited))
            name = "read" if place == READING else self._config.all_steps[place].kind
            found.append(
                {
                    "step": name,
                    "left": asdict(left) | ({"tokens": tokens} if tokens is not None else self._words_of(place)),
                    "dropped": {
                        label: asdict(count) | (self._tokens_of(label) or self._words_dropped_by(label))
                        for label, count in dropped.items()
                    },
                    "edited": {label: asdict(count) | self._tokens_of(label) for label, count in edited.items()},
                }
            )  # fmt: skip
        return found

    def _words_of(self, place: int) -> dict[str, int]:
        return {"words": self._words[place]} if place in self._words else {}

    def _words_dropped_by(self, label: str) -> dict[str, int]:
        return {"words": self._words_dropped[label]} if label in self._words_dropped else {}

    def _tokens_of(self, label: str) -> dict[str, int]:
        return {} if self._tokens_read is None else {"tokens": round(self._tokens.get(label, 0))}


def _borderline(near: Nearest, shown: Shown) -> dict[str, Any]:
    sides = {
        side: [shown(row) | {"score": value} for value, row in rows]
        for side, rows in (("thrown", near.thrown), ("kept", near.kept))
    }
    about = {"step": near.step, "reason": near.reason, "language": near.language}
    return about | {"side": near.side, "threshold": near.threshold} | sides


_TEXT = b', "text": '  # the quotation marks of an id are escaped, so this stands nowhere inside


def _tell(
    chunk: Chunk, fates: Path, labels: list[str], wanted: list[int], drops: Path, secret: list[StepConfig]
) -> tuple[dict[str, Any], list[Path]]:
    """Write the ids of a chunk's dropped documents with their reasons; (id, beginning) of the wanted rows."""
    with np.load(fates) as decided:
        gone, left = decided["fates"], decided["left"]
    found, some, veil = {}, set(wanted), Veil(secret)
    ends = [f', "reason": {quoted(label)}, "size": '.encode("utf-8", "replace") for label in labels]
    with drops.open("wb") as told:
        if not (gone >= 0).any() and not some:
            return {}, [drops]
        for row, line in enumerate(chunk.lines()):
            if gone[row] < 0 and row not in some:
                continue
            if gone[row] >= 0:  # a line of drops.jsonl, in which the id stands as it does here
                told.write(b"%b%b%d}\n" % (line[: line.index(_TEXT)], ends[gone[row]], left[row]))
            if row in some:
                document = json.loads(line)
                found[str(row)] = [document["id"], veil.window(document["text"], 0, SHOWN)]
    return found, [drops]
