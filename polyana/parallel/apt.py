"""LibreOffice's help in many languages, from Debian's packages: pages whose paragraphs share their ids.

MPL-2.0; one page is one document. `apt-get download` needs no root; nothing is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from polyana.errors import PolyanaError, UserError

__all__ = ["help_directories", "help_packages"]

_MANUAL = (
    "elsewhere unpack {packages} yourself and write `{{source: DIRECTORY/{one}/text, target: DIRECTORY/{other}/text}}`"
)


def help_packages(languages: tuple[str, str], cache: Path) -> list[Path]:
    """The .deb files of both languages, fetched into `cache` where they are not there yet.

    Raises UserError when there is no apt or no such package, PolyanaError when it cannot be fetched.
    """
    return [_fetched(_package(code), cache, languages) for code in languages]


def help_directories(name: str, languages: tuple[str, str], cache: Path) -> tuple[Path, Path]:
    """The directory of pages of each language, unpacked below `cache`."""
    one, other = (_unpacked(archive, name) for archive in help_packages(languages, cache))
    return one, other


def _package(code: str) -> str:
    """libreoffice-help-ru; plain English is that of the United States, which the others are translated from."""
    code = code.lower().replace("_", "-")
    return f"libreoffice-help-{'en-us' if code == 'en' else code}"


def _directory(code: str) -> str:
    return "en-US" if code.lower() == "en" else code


def _fetched(package: str, cache: Path, languages: tuple[str, str]) -> Path:
    cache.mkdir(parents=True, exist_ok=True)
    if there := sorted(cache.glob(f"{package}_*.deb")):
        return there[-1]
    tools = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if tools:
        names = [_package(code) for code in languages]
        manual = _MANUAL.format(
            packages=" and ".join(names), one=_directory(languages[0]), other=_directory(languages[1])
        )
        raise UserError(
            f"there is no {' and no '.join(tools)} here, so `package: libreoffice-help` cannot be fetched; it works on "
            f"Debian and Ubuntu; {manual}"
        )
    with TemporaryDirectory(dir=cache) as place:
        Path(place).chmod(0o755)  # else apt, which downloads as a user of its own, warns that it cannot
        done = subprocess.run(
            ["apt-get", "download", package], cwd=place, env=os.environ | {"LC_ALL": "C"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        archives = sorted(Path(place).glob("*.deb"))
        if done.returncode or not archives:
            said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            if "Unable to locate package" in done.stderr or "No candidate" in done.stderr:
                raise UserError(
                    f"apt-get knows no package `{package}` ({said}): run `apt-get update` as root, or choose a "
                    "language that LibreOffice's help is translated into"
                )
            raise PolyanaError(f"`apt-get download {package}` failed: {said}")
        return archives[0].replace(cache / archives[0].name)


def _unpacked(archive: Path, name: str) -> Path:
    """The only directory DIRECTORY/usr/share/libreoffice/help/LANGUAGE/text of an archive, unpacked beside it."""
    place = archive.with_suffix("")
    if not place.exists():
        with TemporaryDirectory(dir=archive.parent) as temporary:
            done = subprocess.run(
                ["dpkg-deb", "-x", archive, temporary], capture_output=True, text=True, check=False
            )  # fmt: skip
            if done.returncode:
                raise PolyanaError(
                    f"`{archive.name}` cannot be unpacked; delete it and try again: {done.stderr.strip()}"
                )
            with suppress(OSError):  # another process was faster
                (Path(temporary) / "usr").rename(place)
    directories = sorted((place / "share" / "libreoffice" / "help").glob("*/text"))
    if not directories:
        raise PolyanaError(f"`{archive.name}` holds no pages of {name}; delete it and {place} and try again")
    return directories[0]
