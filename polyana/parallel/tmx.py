"""Translation memories (TMX 1.4b, LISA 2005), read as a stream."""

from __future__ import annotations

import io
from collections.abc import Iterator
from xml.sax import SAXParseException
from xml.sax.expatreader import ExpatParser
from xml.sax.handler import ContentHandler, feature_external_ges
from xml.sax.xmlreader import AttributesImpl, Locator

from polyana.corpus.compressed import chunks_of

__all__ = ["Broken", "TranslationUnit", "translation_units"]

_CODE = {"bpt", "ept", "ph", "it", "ut"}  # these hold mark-up of the document's own format, no text


class Broken(Exception):
    """The XML cannot be read on from `line`."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line


class TranslationUnit:
    """One <tu>: the line it begins in, the text of each language, its <prop> by type."""

    def __init__(self, line: int) -> None:
        self.line = line
        self.texts: dict[str, str] = {}
        self.props: dict[str, str] = {}

    def text(self, language: str) -> str | None:
        """The text in `language`: `en` finds `en`, else the first that is `en-US` or the like; case does not count."""
        wanted = language.lower().replace("_", "-")
        for code, text in self.texts.items():
            if code == wanted:
                return text
        return next((text for code, text in self.texts.items() if code.startswith(f"{wanted}-")), None)


class _Handler(ContentHandler):
    """Collects finished units. Of the elements within a segment only `hi` holds its text; the others hold code."""

    def __init__(self, place: Locator) -> None:
        super().__init__()
        self.place = place
        self.ready: list[TranslationUnit] = []
        self.unit = TranslationUnit(0)
        self.language = self.prop = ""
        self.in_text = [False]  # of the elements around
        self.parts: list[str] = []

    def startElement(self, name: str, attrs: AttributesImpl) -> None:  # noqa: N802  # the interface's name
        if name == "tu":
            self.unit = TranslationUnit(self.place.getLineNumber() or 0)
        elif name == "tuv":
            self.language = (attrs.get("xml:lang") or attrs.get("lang") or "").lower().replace("_", "-")
        elif name in ("seg", "prop"):
            self.parts, self.prop = [], attrs.get("type") or ""
        inside = name in ("seg", "prop") or (name not in _CODE and self.in_text[-1])
        self.in_text.append(inside)

    def characters(self, content: str) -> None:
        if self.in_text[-1]:
            self.parts.append(content)

    def endElement(self, name: str) -> None:  # noqa: N802
        self.in_text.pop()
        if name == "seg":
            self.unit.texts.setdefault(self.language, "".join(self.parts))
        elif name == "prop":
            self.unit.props[self.prop] = "".join(self.parts).strip()
        elif name == "tu":
            self.ready.append(self.unit)


def translation_units(stream: io.BufferedIOBase) -> Iterator[TranslationUnit]:
    """Every <tu> of a TMX file in turn, in bounded memory. Raises Broken where the XML breaks."""
    parser = ExpatParser()
    handler = _Handler(parser)
    parser.setFeature(feature_external_ges, False)  # a file may name a DTD; nothing is fetched
    parser.setContentHandler(handler)
    try:
        for chunk in chunks_of(stream):
            parser.feed(chunk)
            yield from handler.ready
            handler.ready.clear()
        parser.close()
    except SAXParseException as error:
        yield from handler.ready
        raise Broken(error.getLineNumber() or 0, error.getMessage()) from None
