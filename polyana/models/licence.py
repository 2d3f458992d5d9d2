"""Under which licence a model or a package may be used, where it says so, by the names of the Hugging Face Hub."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

__all__ = ["licence_of_directory", "licence_of_package"]

_NAMES = {  # what licences are called elsewhere, without the word -> the Hub's name
    "apache": "apache-2.0", "apache 2.0": "apache-2.0", "apache software": "apache-2.0",
    "apache version 2.0": "apache-2.0", "mozilla public 2.0 (mpl 2.0)": "mpl-2.0",
}  # fmt: skip
_KNOWN_BY = (("Apache License", "apache-2.0"), ("MIT License", "mit"), ("META LLAMA 3 COMMUNITY", "llama3"))
_SHORT = 40  # characters of a name; guess


def licence_of_package(name: str) -> str | None:
    """What an installed package's metadata say; None where they say nothing."""
    try:
        about = metadata(name)
    except PackageNotFoundError:
        return None
    if "License-Expression" in about:
        return about["License-Expression"].lower()
    written = (about.get_all("License") or [""])[0]
    short = [written] if written and len(written) < _SHORT and "\n" not in written else []  # else it is the whole text
    classes = (each for each in about.get_all("Classifier") or [] if each.startswith("License ::"))
    found = next(iter([*short, *(each.rpartition(" :: ")[2] for each in classes)]), None)
    return _named(found) if found else None


def licence_of_directory(directory: Path) -> str | None:
    """What the model card of a directory, or the first lines of its licence, say; None where there is neither."""
    card = directory / "README.md"
    if card.is_file():
        text = card.read_text(encoding="utf-8", errors="replace")
        head = re.match(r"---\r?\n(.*?)\r?\n---", text, re.DOTALL)
        found = re.search(r"^license: *['\"]?([\w.+-]+)", head[1] if head else "", re.MULTILINE)
        if found and found[1] != "other":
            return found[1]
    for path in sorted(directory.glob("LICEN[SC]E*")):
        begin = path.read_text(encoding="utf-8", errors="replace")[:300]
        for mark, name in _KNOWN_BY:
            if mark in begin:
                return name
    return None


def _named(licence: str) -> str:
    plain = " ".join(re.sub(r"\blicen[sc]e\b|,", " ", licence.lower()).split())
    return _NAMES.get(plain, plain.replace(" ", "-"))
