"""Personal data is found and masked, or its document thrown out.

Numbers and addresses are found by personal.py; names by a spaCy pipeline that the user has installed. Nothing that was
found leaves this step but as a count: not in a reason, not in a log, not in an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from polyana.config import KeyPath, closest
from polyana.corpus.document import utf8_length
from polyana.corpus.steps.personal import Span, finder, without_overlaps
from polyana.corpus.steps.step import BLACK, Block, Columns, Edit, Found, StepConfig, Surroundings, Verdict, Worker
from polyana.errors import UserError

__all__ = ["PrivacyConfig"]

Kind = Literal["email", "phone", "card", "iban", "inn", "snils", "passport", "ip", "name"]

LABELS: dict[str, str] = {
    "email": "e-mail address", "phone": "phone number", "card": "card number", "iban": "IBAN", "inn": "INN",
    "snils": "SNILS", "passport": "passport number", "ip": "IP address", "name": "name",
}  # fmt: skip
"""Kinds as reasons name them."""

_PERSON = {"PERSON", "PER"}  # as OntoNotes and WikiNER label people
_NO_USE = {"tagger", "morphologizer", "parser", "senter", "attribute_ruler", "lemmatizer", "textcat"}
_PIECE = 10_000  # characters given to spaCy at once: memory, and its limit of a million; guess


class PrivacyConfig(StepConfig):
    """Personal data is masked, or its document thrown out; see personal.py for what is found and by which proof."""

    deciding: ClassVar[frozenset[str]] = frozenset({"max_found"})
    edits: ClassVar[bool] = True
    secret: ClassVar[bool] = True

    kind: Literal["privacy"] = "privacy"
    kinds: list[Kind] = Field(
        ["email", "phone", "card", "iban", "inn", "snils", "passport", "ip"],
        description="what is looked for: " + ", ".join(LABELS) + "; of a name `names` has to say how",
    )
    action: Literal["mask", "drop"] = Field(
        "mask", description="whether what is found is masked or the document thrown out"
    )
    masks: dict[Kind, str] = Field(
        {}, description="what stands in its place, by kind; default: the kind's name, as `<EMAIL>`"
    )
    max_found: int | None = Field(None, ge=0, description="a document in which more is found is thrown out")
    regions: list[str] = Field(
        ["RU", "US", "GB"], description="countries whose phone numbers are found without + and country code (ISO 3166)"
    )
    addresses: Literal["public", "all"] = Field(
        "public", description="IP addresses: `all` takes those of private networks too"
    )
    names: dict[str, str] = Field(
        {},
        description="by language the installed spaCy pipeline that finds people's names, as `{en: en_core_web_sm}`; "
        "0.05 MB per CPU second",
    )

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if not self.kinds:
            yield ("kinds",), "nothing is looked for; name a kind, as `kinds: [email]`"
        for kind in self.masks:
            if kind not in self.kinds:
                yield ("masks", kind), f"there is a mask for `{kind}`, which is not in `kinds`; leave one of them out"
        if self.action == "drop" and (self.masks or self.max_found is not None):
            setting = "masks" if self.masks else "max_found"
            yield (setting,), f"with `action: drop` the first thing found is enough; leave `{setting}` out"
        if "phone" in self.kinds:
            yield from self._phone_problems()
        yield from self._name_problems()

    def _phone_problems(self) -> Iterator[tuple[KeyPath, str]]:
        if find_spec("phonenumbers") is None:
            yield ("kinds",), "phone numbers are proved by phonenumbers; run: pip install 'polyana[mill]'"
            return
        from phonenumbers import SUPPORTED_REGIONS

        for index, region in enumerate(self.regions):
            if region not in SUPPORTED_REGIONS:
                near = closest(region.upper(), list(SUPPORTED_REGIONS)) or "; write two letters, as RU"
                yield ("regions", index), f"no phone numbers are known for `{region}`{near}"

    def _name_problems(self) -> Iterator[tuple[KeyPath, str]]:
        if "name" in self.kinds and not self.names:
            yield (
                ("kinds",),
                "names are found by a spaCy pipeline; say which for each language: `names: {en: en_core_web_sm}`",
            )
        if self.names and "name" not in self.kinds:
            yield ("names",), "`names` says how names are found, and `name` is not in `kinds`; add it"
        if self.names and find_spec("spacy") is None:
            yield ("names",), "names are found by spaCy; run: pip install 'polyana[mill]'"
        for language, package in self.names.items():
            if _version(package) is None:
                yield (
                    ("names", language),
                    f"there is no pipeline `{package}` installed; run: python -m spacy download {package}",
                )

    def identity(self) -> dict[str, Any]:
        """With the pipelines' versions: another one finds other names."""
        return super().identity() | {"names": {key: [name, _version(name)] for key, name in self.names.items()}}

    def worker(self, surroundings: Surroundings) -> Worker:
        find = finder(self.kinds, self.regions, self.addresses == "all")
        people = {language: _people_finder(package) for language, package in self.names.items()}
        masks: dict[str, str] = {kind: self.masks.get(kind, f"<{kind.upper()}>") for kind in self.kinds}

        def work(block: Block) -> Found:
            found = Found({kind: np.zeros(len(block), np.int32) for kind in self.kinds})
            for place, text in enumerate(block.texts):
                spans = find(text)
                if people and (named := people.get(surroundings.languages[block.languages[place]])):
                    spans = without_overlaps(spans + named(text))
                for span in spans:
                    found.columns[span.kind][place] += 1
                if spans and self.action == "mask":
                    found.edited[place] = _masked(text, spans, masks)
            return found

        return work

    def veil(self) -> Callable[[str], str]:
        find = finder(self.kinds, self.regions, self.addresses == "all")
        people = [_people_finder(package) for package in self.names.values()]

        def blacken(text: str) -> str:
            named = [span for search in people for span in search(text)]
            parts, at = list[str](), 0
            for start, end, _ in without_overlaps(find(text) + named):
                parts += [text[at:start], BLACK * (end - start)]
                at = end
            return "".join([*parts, text[at:]])

        return blacken

    def verdicts(self, columns: Columns, language: str) -> Iterator[Verdict]:
        if self.action == "drop":
            for kind in self.kinds:
                yield Verdict(LABELS[kind], columns[kind], most=0)
        elif self.max_found is not None:
            total = np.sum([columns[kind] for kind in self.kinds], axis=0)
            yield Verdict(f"more than {self.max_found} pieces of personal data", total, most=self.max_found)


def _masked(text: str, spans: list[Span], masks: dict[str, str]) -> Edit:
    parts, taken, at = list[str](), dict[str, int](), 0
    for start, end, kind in spans:
        parts += [text[at:start], masks[kind]]
        taken[LABELS[kind]] = taken.get(LABELS[kind], 0) + utf8_length(text[start:end]) - utf8_length(masks[kind])
        at = end
    return Edit("".join([*parts, text[at:]]), taken)


def _version(package: str) -> str | None:
    """Of an installed package; None if there is none."""
    try:
        return version(package)
    except (PackageNotFoundError, ValueError):
        return None


@cache
def _people_finder(package: str) -> Any:
    """What finds people's names in a text by a spaCy pipeline. Raises UserError if the pipeline does not."""
    import spacy

    pipeline = spacy.load(package)
    listeners = [
        name
        for used in pipeline.pipe_names
        if used not in _NO_USE
        for name in getattr(pipeline.get_pipe(used), "listening_components", [])
    ]
    idle = [name for name in pipeline.pipe_names if name in _NO_USE]
    if "tok2vec" in pipeline.pipe_names and not set(listeners) - _NO_USE:
        idle.append("tok2vec")  # which only those have a use for
    pipeline.select_pipes(disable=idle)
    labels = {label for name in pipeline.pipe_names for label in pipeline.pipe_labels.get(name, [])}
    if not labels & _PERSON:
        raise UserError(
            f"the spaCy pipeline `{package}` finds no people: none of its labels is {' or '.join(sorted(_PERSON))}"
        )

    def find(text: str) -> list[Span]:
        begins = _piece_begins(text)
        pieces = (text[start:end] for start, end in zip(begins, [*begins[1:], len(text)], strict=True))
        return [
            Span(begin + entity.start_char, begin + entity.end_char, "name")
            for begin, document in zip(begins, pipeline.pipe(pieces), strict=True)
            for entity in document.ents
            if entity.label_ in _PERSON
        ]

    return find


def _piece_begins(text: str) -> list[int]:
    """Where pieces of at most _PIECE characters begin: behind the last line end or space, if there is one."""
    begins = [0]
    while len(text) - begins[-1] > _PIECE:
        start, end = begins[-1], begins[-1] + _PIECE
        border = max(text.rfind("\n", start, end), text.rfind(" ", start, end)) + 1
        begins.append(border or end)
    return begins
