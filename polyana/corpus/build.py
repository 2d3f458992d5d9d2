"""The corpus stage: read, normalise, drop with a reason, split, store, report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from polyana.corpus.config import CorpusConfig, SourceConfig
from polyana.corpus.document import Document, Dropped, Sized, Split, utf8_length
from polyana.corpus.normalise import normalise, not_text
from polyana.corpus.packages import package_version
from polyana.corpus.readers import files_of, format_of, read_source
from polyana.corpus.report import CorpusReport, SourceReport
from polyana.corpus.store import DocumentWriter
from polyana.errors import PolyanaError, Problem, UserError
from polyana.storage import ContentDigests, write_json
from polyana.tracking import Console

__all__ = ["VERSION", "build_corpus", "corpus_inputs", "split_of"]

VERSION = 1


def corpus_inputs(
    config: CorpusConfig, base: Path, digests: ContentDigests, where: Callable[..., str]
) -> dict[str, Any]:
    """What the corpus is made from: each file's name and content hash, each package's version.

    Raises UserError for every file that does not exist, package that is not installed and setting that no file has a
    use for; `where(*path)` gives the place of a setting in the recipe.
    """
    inputs: dict[str, Any] = {}
    problems: list[Problem] = []
    for index, source in enumerate(config.sources):
        setting = "path" if source.package is None else "package"
        try:
            if source.package is not None:
                inputs[source.label] = package_version(source.package)
                continue
            files = files_of(source, base)
            setting = _unused(source, {format_of(path, source) for _, path in files}) or setting
            if setting != "path":
                raise UserError(f"`{setting}` is of no use: no file of `{source.path}` has {_NEEDS[setting]}")
            inputs[source.label] = {name: digests.of(path) for name, path in files}
        except UserError as error:
            problems += [Problem(where("sources", index, setting), problem.what) for problem in error.problems]
    if problems:
        raise UserError(problems)
    return inputs


_NEEDS = {
    "encoding": "text of its own encoding",
    "document": "plain text to be cut into documents",
    "text": "columns",
    "id": "columns",
}


def _unused(source: SourceConfig, formats: set[str]) -> str | None:
    """A setting that was given and that none of the source's formats obeys."""
    useless = ["document"] if "text" not in formats else []
    useless += ["encoding"] if formats == {"parquet"} else []
    useless += ["text", "id"] if not formats - {"text", "html"} else []
    given = [name for name in useless if getattr(source, name) != SourceConfig.model_fields[name].default]
    return given[0] if given else None


def split_of(identifier: str, eval_share: float) -> Split:
    """Which split a document belongs to: a hash of its id, so that it never moves when others come and go."""
    return "eval" if _place(identifier) < eval_share else "train"


def _place(identifier: str) -> float:
    """A number in [0, 1) that belongs to an id: the smallest eval share that does not hold its document out."""
    return int.from_bytes(hashlib.sha256(identifier.encode("utf-8", "replace")).digest()[:6], "big") / 2**48


def build_corpus(config: CorpusConfig, base: Path, directory: Path, console: Console) -> dict[str, Any]:
    """Write the documents and report.json into `directory` and return the report; relative paths start at `base`.

    Raises PolyanaError when nothing is left to train on, or nothing to evaluate on although some was asked for.
    """
    report = CorpusReport()
    seen: set[bytes] = set()
    lowest = 1.0  # the smallest eval share at which some document would have been held out
    judge = _judge(config)
    with ExitStack() as stack:
        writers = {split: stack.enter_context(DocumentWriter(directory, split)) for split in ("train", "eval")}
        drops = stack.enter_context((directory / "drops.jsonl").open("w", encoding="utf-8", errors="replace"))
        gauge = stack.enter_context(console.gauge("corpus", len(config.sources)))
        for number, source in enumerate(config.sources):
            balance = report.sources.setdefault(source.label, SourceReport())
            for document, size in judge(_cleaned(source, base, config, seen)):
                if isinstance(document, Dropped):
                    balance.drop(document)
                    drops.write(json.dumps(asdict(document), ensure_ascii=False) + "\n")
                    continue
                split = split_of(document.id, config.eval)
                lowest = min(lowest, _place(document.id))
                written = utf8_length(document.text)
                writers[split].write(document, written)
                balance.keep(split, size, written, repaired="\ufffd" in document.text)
                if balance.read.documents % 1000 == 0:
                    gauge.show(number, f"{balance.read.documents:,} documents of {source.label}")
    data = report.as_data()
    _check_guard(data["sources"], config)
    _check_not_empty(data["total"], config, lowest)
    write_json(directory / "report.json", data)
    return data


def _cleaned(source: SourceConfig, base: Path, config: CorpusConfig, seen: set[bytes]) -> Iterator[Sized]:
    for item in read_source(source, base):
        size = item.size if isinstance(item, Dropped) else utf8_length(item.text)
        yield (item if isinstance(item, Dropped) else _clean(item, size, config, seen)), size


def _judge(config: CorpusConfig) -> Callable[[Iterator[Sized]], Iterator[Sized]]:
    """What the filters make of documents: those that a rule throws out are dropped, by its name and reason."""
    if not config.filters:
        return lambda documents: documents
    from polyana.corpus.judge import Judge  # compiles, which takes a second

    return Judge(config).judged


def _check_guard(sources: Mapping[str, Any], config: CorpusConfig) -> None:
    """Raises PolyanaError when filters have thrown out nearly all of a source, which is seldom what was meant."""
    names = tuple(f"{rule.kind}: " for rule in config.filters)
    for label, balance in sources.items():
        taken = {reason: count for reason, count in balance["dropped"].items() if reason.startswith(names)}
        total, read = sum(count["documents"] for count in taken.values()), balance["read"]["documents"]
        if names and total > config.guard * read:
            first = sorted(taken, key=lambda reason: -int(taken[reason]["documents"]))[:3]
            listed = ", ".join(
                f"{taken[reason]['documents']:,} by {reason} (as {balance['examples'][reason][0]})" for reason in first
            )
            raise PolyanaError(
                f"the filters take {total:,} of the {read:,} documents of `{label}`, more than `guard: "
                f"{config.guard:.0%}`: {listed}. Is it `language: {config.language}`? Else change the numbers of these "
                "rules, leave them out, or raise `guard`"
            )


def _clean(document: Document, size: int, config: CorpusConfig, seen: set[bytes]) -> Document | Dropped:
    """The document in its one spelling, or the reason to drop it; `size` as read. Remembers its text in `seen`."""
    text = normalise(document.text)
    reason = None
    if noise := not_text(document.text):
        reason = noise
    elif not text.strip():
        reason = "empty"
    elif len(text) < config.min_characters:
        reason = f"shorter than {config.min_characters} characters"
    elif config.drop_duplicates:
        digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()
        reason = "duplicate" if digest in seen else None
        seen.add(digest)
    return Document(document.id, text) if reason is None else Dropped(document.id, reason, size)


def _check_not_empty(total: dict[str, Any], config: CorpusConfig, lowest: float) -> None:
    kept = total["train"]["documents"] + total["eval"]["documents"]
    reasons = ", ".join(
        f"{count['documents']} {reason} (as {total['examples'][reason][0]})"
        for reason, count in total["dropped"].items()
    )
    if not total["read"]["documents"]:
        raise PolyanaError("the corpus is empty: there is no text in its files, only blank lines or none")
    if not kept:
        raise PolyanaError(f"the corpus is empty: of {total['read']['documents']} documents none was kept: {reasons}")
    if not total["train"]["documents"]:
        raise PolyanaError(f"all {kept} documents fell to eval; make `eval: {config.eval:.0%}` smaller")
    if config.eval and not total["eval"]["documents"]:
        if kept == 1:
            raise PolyanaError(
                "the corpus is one document, so none can be held out: cut it with `document: 100 KB` in its source, "
                "or write `eval: 0%`"
            )
        raise PolyanaError(
            f"none of the {kept} documents fell to eval at `eval: {config.eval:.1%}`; with these documents "
            f"`eval: {lowest * 100 + 0.05:.1f}%` is the least that holds one out. Or cut long files into documents "
            "with `document: 100 KB`, or write `eval: 0%`"
        )
