"""A pair of texts that are translations of each other, on its way to becoming a unit."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Rejected", "Segment"]


@dataclass(frozen=True, slots=True)
class Segment:
    """The smallest aligned piece: a sentence, or a paragraph that could not be cut.

    `document` is unique among all sources: NAME/FILE or NAME/FILE#DOCUMENT. `number` rises within it, `paragraph` says
    which of its paragraphs this is a part of, None where that is unknown. `where` is file:line for messages.
    """

    document: str
    number: int
    source: str
    target: str
    where: str
    paragraph: int | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """A pair that did not become a segment; `malformed` where it could not even be read."""

    where: str
    reason: str
    source: str = ""
    target: str = ""
    malformed: bool = False
