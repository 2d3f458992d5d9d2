"""Results of evaluating commits: they lie beside them, for a commit's id must not change when it is measured.

    REPOSITORY/evaluations/COMMIT/SUITE.json        the result: metrics with their intervals, settings, ...
                                  SUITE.items.gz    JSON: what each item scored, for paired tests and examples

They go with their commit, also where it is pushed or pulled. A suite's name can hold any character, so it is written
percent-encoded as in addresses.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from polyana.errors import Damaged
from polyana.storage import read_json, write_file, write_json

__all__ = ["Evaluations", "evaluated_metrics"]

_DIGEST = "items_sha256"
_FILE = re.compile(r"[^/\0.][^/\0]*\.(json|items\.gz)")  # names of what comes from elsewhere become names here


def evaluated_metrics(results: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What was found, as SUITE/METRIC, each with its 95 % interval if it has one; `results` by the suites' names."""
    return {
        f"{suite}/{name}": _with_interval(metric)
        for suite, result in results.items()
        for name, metric in result.get("metrics", {}).items()
    }


def _with_interval(metric: Mapping[str, Any]) -> str:
    if metric.get("low") is None or metric.get("high") is None:
        return f"{metric['value']:.4g}"
    return f"{metric['value']:.4g} [{metric['low']:.4g}, {metric['high']:.4g}]"


class Evaluations:
    """What the commits of one repository were found to be worth."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def record(self, commit: str, suite: str, result: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> None:
        """Keep a result under the suite's name, in place of an older one. A crash leaves the older or none."""
        place = self._place(commit, suite)
        place.parent.mkdir(parents=True, exist_ok=True)
        content = gzip.compress(json.dumps(items, ensure_ascii=False).encode("utf-8", "replace"), mtime=0)
        write_file(place.with_name(f"{place.name}.items.gz"), content)
        write_json(place.with_name(f"{place.name}.json"), {**result, _DIGEST: hashlib.sha256(content).hexdigest()})

    def of(self, commit: str) -> dict[str, dict[str, Any]]:
        """The results by the suites' names; one that is damaged is left out, for it can be computed again."""
        found = {}
        for path in sorted((self._directory / commit).glob("*.json")):
            with suppress(Damaged, OSError):
                found[unquote(path.name.removesuffix(".json"))] = dict(read_json(path))
        return found

    def items(self, commit: str, suite: str) -> list[dict[str, Any]] | None:
        """What each item scored; None where it was never kept, or is not what the result was computed from."""
        place = self._place(commit, suite)
        try:
            result = read_json(place.with_name(f"{place.name}.json"))
            content = place.with_name(f"{place.name}.items.gz").read_bytes()
        except (Damaged, OSError):
            return None
        if hashlib.sha256(content).hexdigest() != result.get(_DIGEST):
            return None
        return list(json.loads(gzip.decompress(content)))

    def files(self, commit: str) -> dict[str, Path]:
        """What is kept of a commit, by the files' names; a result after its items, for whoever copies them in order."""
        found = [path for path in (self._directory / commit).glob("*") if _FILE.fullmatch(path.name)]
        return {path.name: path for path in sorted(found, key=lambda path: (path.suffix == ".json", path.name))}

    def bring(self, commit: str, files: Mapping[str, bytes], *, replace: bool) -> None:
        """Keep results that were found elsewhere, as `files` has them there; `replace`: also where one is kept here."""
        suites = {name.removesuffix(".json") for name in files if name.endswith(".json") and _FILE.fullmatch(name)}
        for suite in sorted(suites):
            place = self._directory / commit / suite
            result = files[f"{suite}.json"]
            here = place.with_name(f"{suite}.json")
            if here.exists() and (not replace or here.read_bytes() == result):
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            if (items := files.get(f"{suite}.items.gz")) is not None:
                write_file(place.with_name(f"{suite}.items.gz"), items)
            write_file(here, result)

    def remove(self, commit: str) -> None:
        shutil.rmtree(self._directory / commit, ignore_errors=True)

    def collect(self, commits: Collection[str]) -> int:
        """Delete what belongs to none of the commits; the bytes that were freed."""
        freed = 0
        for place in self._directory.glob("*"):
            if place.name not in commits:
                freed += sum(path.stat().st_size for path in place.iterdir())
                self.remove(place.name)
        return freed

    def _place(self, commit: str, suite: str) -> Path:
        name = quote(suite, safe=" ")
        return self._directory / commit / ("%2E" + name[1:] if name.startswith(".") else name)
