"""Where commits are pushed to and pulled from: the Hub, a store that fsspec knows, a directory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from polyana.errors import UserError

__all__ = ["DirectoryTarget", "HubTarget", "StoreTarget", "Target", "check_target", "parse_source", "parse_target"]

_HUB = re.compile(r"hub:(?P<name>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<branch>[\w./-]+))?")
_EXAMPLES = "`hub:org/name`, `s3://bucket/path` or another address that fsspec knows, or a directory as `./shared`"


@dataclass(frozen=True)
class HubTarget:
    """A model repository of the Hugging Face Hub, and the branch there."""

    name: str
    branch: str = "main"

    def __str__(self) -> str:
        return f"hub:{self.name}" + ("" if self.branch == "main" else f"@{self.branch}")


@dataclass(frozen=True)
class StoreTarget:
    """An address below which a registry lies: one repository of it is ADDRESS/models--polyana--RUN."""

    address: str

    def __str__(self) -> str:
        return self.address


@dataclass(frozen=True)
class DirectoryTarget:
    """A directory that is a registry of its own; with HF_HUB_CACHE set to it any Hugging Face tool reads it."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


Target = HubTarget | StoreTarget | DirectoryTarget


def parse_target(text: str, base: Path | None = None) -> Target:
    """Read a target; a relative directory starts at `base` (default: the working directory).

    Raises UserError with what to write instead.
    """
    text = text.strip()
    if text.startswith("hub:"):
        match = _HUB.fullmatch(text)
        if match is None:
            raise UserError(f"`{text}` names no repository of the Hub: write `hub:org/name`, or `hub:org/name@branch`")
        return HubTarget(match["name"], match["branch"] or "main")
    if "://" in text:
        return _store(text)
    path = Path(text).expanduser()
    plain = (base or Path.cwd()) / path
    if not text or ("/" not in text and not text.startswith((".", "~"))):
        raise UserError(f"`{text}` is no place to push to; write {_EXAMPLES}")
    if re.fullmatch(r"[\w-]+/[\w.-]+", text) and not plain.is_dir():  # what people write for the Hub
        raise UserError(f"`{text}`: write `hub:{text}` for the Hub, or `./{text}` for a directory")
    return DirectoryTarget(plain.absolute())


def _store(text: str) -> Target:
    text = text.rstrip("/")
    parts = urlsplit(text)
    if parts.password:
        raise UserError(
            f"`{parts.scheme}://...@{parts.hostname}`: leave the password out of the address, which is stored and "
            "printed; fsspec reads credentials from its configuration and the environment"
        )
    if parts.scheme in ("file", "local"):
        return DirectoryTarget(Path(text.partition("://")[2]).absolute())
    if not parts.netloc and not parts.path.strip("/"):
        raise UserError(f"`{text}` names no place; write {_EXAMPLES}")
    return StoreTarget(text)


def check_target(target: Target) -> None:
    """Raises UserError where what is installed cannot reach a target."""
    if not isinstance(target, StoreTarget):
        return
    from fsspec import get_filesystem_class

    try:
        get_filesystem_class(target.address.partition("://")[0].rpartition("::")[2])
    except ImportError as error:
        run = "; run: pip install 'polyana[remote]'" if target.address.startswith("s3") else ""
        raise UserError(f"`{target}` cannot be reached: {error}{run}") from None
    except ValueError as error:
        raise UserError(f"`{target}` is no address that can be reached: {error}") from None


def parse_source(text: str) -> tuple[Target, str, str | None]:
    """What `models pull` is given: (target, run or "", revision or None).

    `hub:org/name@REV` has all of it; of `ADDRESS/RUN@REV` the target is what lies above the last part, and ADDRESS
    alone is told from it by whoever looks there. Raises UserError.
    """
    place, at, revision = text.strip().rpartition("@")
    if not at or "/" in revision.removeprefix("refs/"):  # the @ of user@host/path is no revision's
        place, revision = text.strip(), ""
    if at and not revision and text.strip().endswith("@"):
        raise UserError(f"`{text}` names no revision after the @; leave the @ out or write `@best`")
    target = parse_target(place)
    if isinstance(target, HubTarget):
        return target, "", revision or None
    return target, str(target).rstrip("/").rpartition("/")[2], revision or None
