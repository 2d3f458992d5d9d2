"""Files that lie elsewhere: at an address that fsspec knows, as s3://bucket/key, or in a data set of the hub."""

from __future__ import annotations

import fnmatch
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from polyana.corpus.compressed import CHUNK, unpacked_name
from polyana.errors import PolyanaError, UserError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["HUB", "File", "HubFile", "RemoteFile", "files_at", "files_of_hub", "is_address"]

HUB = re.compile(r"hub:(?P<name>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[^:]+))?(?::(?P<pattern>.+))?")
"""hub:org/name@revision:glob, the last two optional."""

_BLOCK = 8 << 20  # bytes asked for at once, so that a request's delay of some 50 ms costs little: guess
_TABLES = (".jsonl", ".ndjson", ".parquet", ".csv", ".tsv")  # what is read of a data set whose files are not chosen
_SPLITS = ("train", "test", "validation", "valid", "val", "dev", "eval")

_CHECKSUMS = ("ETag", "etag", "md5Hash", "content_md5", "checksum", "sha256")
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "created")


def is_address(path: str) -> bool:
    """Whether a source's path leads elsewhere."""
    return "://" in path or path.startswith("hub:")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file at an address. `stamp` changes when its content does: the store's checksum, else size and time."""

    address: str
    size: int
    stamp: str

    @property
    def name(self) -> str:
        return self.address.rpartition("/")[2]

    def open(self, mode: Literal["rb"]) -> io.BufferedReader:
        """A stream that fetches what is read. Raises PolyanaError when the store fails: no fault of the file."""
        return io.BufferedReader(_Fetched(self, mode), CHUNK)


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a data set of the hub at a commit; fetched whole into the hub's cache when it is opened."""

    repository: str
    commit: str
    path: str
    size: int

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def stamp(self) -> str:
        return self.commit

    def open(self, mode: Literal["rb"]) -> io.BufferedReader:
        """Raises PolyanaError when it cannot be had."""
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # its transport's, by a lasting name

        try:
            found = hf_hub_download(self.repository, self.path, repo_type="dataset", revision=self.commit)
        except (HTTPError, OSError) as error:
            raise PolyanaError(f"{self.path} of `{self.repository}` cannot be had from the hub: {error}") from None
        return Path(found).open(mode)


File = Path | RemoteFile | HubFile


class _Fetched(io.RawIOBase):
    """The bytes of a remote file. The store's own errors are told from those of the file's content."""

    def __init__(self, file: RemoteFile, mode: str) -> None:
        super().__init__()
        self._of = file
        system, path = _system(file.address)
        try:
            self._file = system.open(path, mode, block_size=_BLOCK)
        except (FileNotFoundError, PermissionError):
            raise
        except Exception as error:  # every store has errors of its own
            raise self._failure(error) from error

    def _failure(self, error: object) -> PolyanaError:
        return PolyanaError(f"{self._of.address} cannot be read: {error}. Run again when it can")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: WriteableBuffer) -> int:
        target = memoryview(buffer).cast("B")
        try:
            read = self._file.read(len(target))
        except Exception as error:
            raise self._failure(error) from error
        if not read and len(target) and self._file.tell() < self._of.size:
            raise self._failure(f"it ended after {self._file.tell():,} of {self._of.size:,} bytes")
        target[: len(read)] = read
        return len(read)

    def close(self) -> None:
        if not self.closed and hasattr(self, "_file"):
            self._file.close()
        super().close()


def _system(address: str) -> tuple[Any, str]:
    """What reads an address, and the path there. Raises UserError where nothing that is installed does."""
    from fsspec.core import url_to_fs

    try:
        system, path = url_to_fs(address)
    except ImportError as error:
        run = "; run: pip install 'polyana[remote]'" if address.startswith("s3") else ""
        raise UserError(f"`{address}` cannot be read: {error}{run}") from None
    except ValueError as error:
        raise UserError(f"`{address}` is no address that can be read: {error}") from None
    return system, str(path)


def files_at(address: str) -> Iterator[tuple[str, RemoteFile]]:
    """(name, file) of what lies at an address, below it, or matches it; names begin behind what has no wildcard.

    Raises UserError when the store cannot be asked, or there is nothing.
    """
    system, path = _system(address)
    try:
        if any(sign in path for sign in "*?["):
            found = system.glob(path, detail=True)
            fixed = re.split(r"[*?\[]", path, maxsplit=1)[0]
            root = fixed[: fixed.rfind("/") + 1]
        elif system.isfile(path):
            found = {path: system.info(path)}
            root = path[: path.rfind("/") + 1]
        else:
            found = system.find(path, detail=True)
            root = path.rstrip("/") + "/"
    except Exception as error:  # every store has errors of its own
        raise UserError(f"`{address}` cannot be read: {str(error) or type(error).__name__}") from None
    files = {key: info for key, info in found.items() if info.get("type") != "directory"}
    if not files:
        raise UserError(f"`{address}` matches nothing")
    for key, info in sorted(files.items()):
        size = int(info.get("size") or 0)
        yield key.removeprefix(root), RemoteFile(system.unstrip_protocol(key), size, _stamp(system, key, info))


def _stamp(system: Any, path: str, info: dict[str, Any]) -> str:
    for names in (_CHECKSUMS, _TIMES):
        if known := [info[name] for name in names if info.get(name)]:
            return f"{info.get('size')} {known[0]}"
    return str(system.ukey(path))


def files_of_hub(given: str) -> Iterator[tuple[str, HubFile]]:
    """(name, file) of a data set's files, at the commit that its revision stands for now.

    Raises UserError when they cannot be had, or several splits are among them that nobody chose.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # its transport's error by a lasting name
        GatedRepoError,
        HFValidationError,
        HTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    match = HUB.fullmatch(given)
    assert match is not None  # SourceConfig.problems has told
    name, revision, pattern = match["name"], match["revision"], match["pattern"]
    try:
        commit = str(HfApi().dataset_info(name, revision=revision).sha)
        tree = list(HfApi().list_repo_tree(name, recursive=True, revision=commit, repo_type="dataset"))
    except GatedRepoError:
        raise UserError(f"`{given}`: its owner must let you in: ask on its page, then set HF_TOKEN") from None
    except RepositoryNotFoundError:
        what = "the hub has no such data set, or it is private and HF_TOKEN is not set to a token that may read it"
        raise UserError(f"`{given}`: {what}") from None
    except RevisionNotFoundError:
        what = f"the data set has no revision `{revision}`; write a branch, a tag or a commit"
        raise UserError(f"`{given}`: {what}") from None
    except (HTTPError, HFValidationError, OSError) as error:
        raise UserError(f"`{given}`: the hub cannot be asked ({error})") from None
    sizes = {str(entry.path): int(entry.size) for entry in tree if hasattr(entry, "size")}
    if pattern is None:
        chosen = [path for path in sizes if unpacked_name(path).endswith(_TABLES)]
        splits = sorted({word for path in chosen for word in re.findall("[a-z]+", path) if word in _SPLITS})
        if len(splits) > 1:
            what = f"it holds several splits ({', '.join(splits)}); choose among its files, as `{given}:*{splits[-1]}*`"
            raise UserError(f"`{given}`: {what}: {', '.join(sorted(chosen)[:8])}{', ...' if len(chosen) > 8 else ''}")
    else:
        chosen = fnmatch.filter(sizes, pattern)
    if not chosen:
        raise UserError(f"`{given}`: none of its {len(sizes)} files is chosen, as {', '.join(sorted(sizes)[:8])}")
    for path in sorted(chosen):
        yield path, HubFile(name, commit, path, sizes[path])
