"""The tokenizer stage: train one on a corpus, or load one; either way report how well it fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from polyana.corpus import Corpus, Split
from polyana.errors import Problem, UserError
from polyana.storage import ContentDigests, read_json, write_json
from polyana.tokenizer.config import UNKNOWN, TokenizerConfig
from polyana.tokenizer.learn import learn_bpe, learn_whitespace_bpe
from polyana.tokenizer.text_tokenizer import TextTokenizer
from polyana.tracking import Console

__all__ = ["VERSION", "build_tokenizer", "report_lines", "tokenizer_inputs"]

VERSION = 1

_REPORT_BYTES = 20 * 10**6  # of text per split that the report looks at: a few seconds; guess
_EXAMPLES = 10


def tokenizer_inputs(
    config: TokenizerConfig, base: Path, digests: ContentDigests, where: Callable[..., str]
) -> dict[str, Any]:
    """The content hashes of the files of a tokenizer that is loaded. Raises UserError if it is not there."""
    if config.load is None:
        return {}
    directory = base / Path(config.load).expanduser()
    if not (directory / "tokenizer.json").is_file():
        raise UserError(Problem(where("load"), f"`load: {config.load}`: there is no tokenizer.json in {directory}"))
    return {"files": {path.name: digests.of(path) for path in sorted(directory.glob("*.json"))}}


def build_tokenizer(config: TokenizerConfig, base: Path, corpus: Corpus, directory: Path, console: Console) -> None:
    """Write tokenizer.json, tokenizer_config.json (AutoTokenizer loads them) and report.json into `directory`."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if config.load is not None:
        fast = AutoTokenizer.from_pretrained(base / Path(config.load).expanduser())
    else:
        trained = _train(config, corpus, console)
        unknown = {"unk_token": UNKNOWN} if config.algorithm == "whitespace_bpe" else {}
        fast = PreTrainedTokenizerFast(
            tokenizer_object=trained,
            eos_token=config.special_tokens[0],
            extra_special_tokens=config.special_tokens[1:],
            clean_up_tokenization_spaces=False,
            **unknown,
        )
    fast.save_pretrained(directory)
    write_json(directory / "report.json", _report(TextTokenizer(directory), corpus))


def _train(config: TokenizerConfig, corpus: Corpus, console: Console) -> Tokenizer:
    total = corpus.report["total"]["train"]["documents"]
    with console.gauge("tokenizer", total) as gauge:

        def texts() -> Iterator[str]:
            for number, document in enumerate(corpus.documents("train")):
                gauge.show(number, "documents read")
                yield document.text

        if config.algorithm == "bpe":
            return learn_bpe(texts(), config.vocab_size, config.min_frequency, config.special_tokens)
        special = list(dict.fromkeys([*config.special_tokens, UNKNOWN]))
        return learn_whitespace_bpe(texts(), config.vocab_size, config.min_frequency, special, UNKNOWN)


def _report(tokenizer: TextTokenizer, corpus: Corpus) -> dict[str, Any]:
    """Vocabulary, bytes per token and unknowns for each split, round trip, and examples of how text is split."""
    report: dict[str, Any] = {"vocabulary": tokenizer.vocab_size, "examples": []}
    for split in ("train", "eval"):
        size = tokens = unknown = exact = documents = 0
        texts = list(_sample(corpus, split))
        for text, ids in zip(texts, tokenizer.encode(texts), strict=True):
            size, tokens, documents = size + len(text.encode()), tokens + len(ids), documents + 1
            unknown += int((ids == tokenizer.unknown).sum()) if tokenizer.unknown is not None else 0
            exact += tokenizer.decode(ids.tolist()) == text
            if len(report["examples"]) < _EXAMPLES:
                opening = text[:100].strip()
                report["examples"].append(tokenizer.tokens(tokenizer.encode([opening])[0].tolist()))
        if documents:
            report[split] = {
                "documents": documents,
                "bytes_per_token": round(size / max(tokens, 1), 3),
                "unknown_share": unknown / max(tokens, 1),
                "round_trip_exact_share": exact / documents,
            }
    return report


def report_lines(directory: Path, examples: int = 1) -> list[str]:
    """The report for the terminal, with the first few examples."""
    report = read_json(directory / "report.json")
    lines = [f"{report['vocabulary']:,} tokens in the vocabulary"]
    for split in ("train", "eval"):
        if split in report:
            fit = report[split]
            lines.append(
                f"{split:<6} {fit['bytes_per_token']:.2f} bytes per token, {fit['unknown_share']:.2%} unknown, "
                f"{fit['round_trip_exact_share']:.0%} of the documents come back exactly"
            )
    for example in report["examples"][:examples]:
        lines.append("as " + "|".join(token.replace("\n", "\\n") for token in example))
    return lines


def _sample(corpus: Corpus, split: Split) -> Iterator[str]:
    """The first documents, and of a very long one its beginning."""
    size = 0
    for document in corpus.documents(split):
        text = document.text[: _REPORT_BYTES - size]
        yield text
        size += len(text.encode())
        if size >= _REPORT_BYTES:
            return
