"""What is in the registry, as plain data: for the command line, for Python, for whoever reads JSON."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

from polyana.errors import Damaged
from polyana.registry.commit import Commit
from polyana.registry.find import repositories
from polyana.registry.repository import NAMESPACE, Repository
from polyana.storage import free_bytes, read_json

__all__ = [
    "bytes_to_resume",
    "describe_best",
    "describe_commit",
    "describe_disk",
    "describe_repositories",
    "describe_tensors",
    "list_commits",
    "read_header",
]


def describe_repositories(hub: Path) -> list[dict[str, Any]]:
    """Each repository: how many commits, their bytes, the newest and the best, and what it is the best by."""
    found = []
    for repository in repositories(hub):
        commits, refs, ranking = repository.commits(), repository.refs(), repository.ranking()
        best = next((each for each in commits if each.id == refs.get("best")), None)
        found.append(
            {
                "run": repository.run,
                "commits": len(commits),
                "bytes": sum(repository.blob_sizes().values()),
                "newest": {"step": commits[-1].step, "time": commits[-1].time} if commits else None,
                "best": {"step": best.step, "metrics": best.metrics} if best else None,
                "by": ranking.metric,
            }
        )
    return sorted(found, key=lambda row: row["newest"]["time"] if row["newest"] else 0.0)


def describe_best(repository: Repository) -> dict[str, Any] | None:
    """The best save: its step, its loss, the metric that it is the best `by`, whether of that the lowest is wanted, and
    its value; None where there is no save."""
    try:
        ranking = repository.ranking()
        commit = (repository.path / "refs" / "best").read_text().strip()
        best = Commit.read(repository.path / "snapshots" / commit / "commit.json")
    except (OSError, Damaged, TypeError, AttributeError):  # of a home that somebody has damaged
        return None
    return {"step": best.step, "eval/loss": best.metrics.get("eval/loss"), "by": ranking.metric,
            "lowest": ranking.lowest, "value": best.metrics.get(ranking.metric)}  # fmt: skip


def list_commits(repository: Repository) -> list[dict[str, Any]]:
    """Every commit by step: all of commit.json, the refs that name it, who pins it, its files' bytes, and how many of
    these no other commit has."""
    commits, refs, pins, sizes = repository.commits(), repository.refs(), repository.pins(), repository.blob_sizes()
    users = Counter(digest for commit in commits for digest in set(commit.files.values()))
    evaluated = (repository.path / "evaluations").is_dir()
    rows = []
    for commit in commits:
        digests = set(commit.files.values())
        rows.append(
            vars(commit)
            | {
                "refs": sorted(name for name, identifier in refs.items() if identifier == commit.id),
                "pins": sorted(pins.get(commit.id, ())),
                "bytes": sum(sizes.get(digest, 0) for digest in commit.files.values()),
                "alone": sum(sizes.get(digest, 0) for digest in digests if users[digest] == 1),
                "evaluations": repository.evaluations(commit) if evaluated else {},
            }
        )
    return rows


def bytes_to_resume(repository: Repository, commits: Sequence[Commit]) -> int:
    """Of the bytes that only these commits have, those that stay when they go: the run's state for resuming has the
    same file."""
    left = {commit.id for commit in commits}
    used = {digest for commit in repository.commits() if commit.id not in left for digest in commit.files.values()}
    alone = {digest for commit in commits for digest in commit.files.values()} - used
    blobs = [repository.path / "blobs" / digest for digest in alone]
    found = [blob.stat() for blob in blobs if blob.exists()]  # what is damaged can be deleted, too
    return sum(each.st_size for each in found if each.st_nlink > 1)


def describe_commit(repository: Repository, commit: Commit) -> dict[str, Any]:
    """One commit as in `list_commits`; its files with their sizes, what its weights are, its adapter."""
    row = next(row for row in list_commits(repository) if row["id"] == commit.id)
    sizes, digests = repository.blob_sizes(), commit.files
    directory = repository.path / "snapshots" / commit.id
    row["run"], row["directory"] = repository.run, str(directory)
    row["files"] = [
        {"name": name, "bytes": sizes.get(digest, 0), "checksum": digest} for name, digest in digests.items()
    ]
    row["tensors"] = describe_tensors([directory / name for name in digests if name.endswith(".safetensors")])
    row["model"] = _settings(directory / "config.json", ("architectures", "model_type", "vocab_size", "dtype"))
    if "adapter_config.json" in digests:
        wanted = ("base_model_name_or_path", "revision", "peft_type", "r", "lora_alpha", "target_modules", "use_dora",
                  "use_rslora")  # fmt: skip
        row["adapter"] = _settings(directory / "adapter_config.json", wanted)
    row["load"] = (
        f"HF_HUB_CACHE={repository.path.parent} HF_HUB_OFFLINE=1: "
        f"from_pretrained('{NAMESPACE}/{repository.run}', revision='step-{commit.step}')"
    )
    return row


def describe_tensors(files: Sequence[Path]) -> dict[str, Any]:
    """How many tensors and numbers the files hold, and in which types; from their headers alone."""
    kinds: Counter[str] = Counter()
    tensors = 0
    for file in files:
        for about in read_header(file)[0].values():
            kinds[about["dtype"]] += prod(about["shape"])
            tensors += 1
    return {"tensors": tensors, "numbers": sum(kinds.values()), "types": dict(kinds)}


def describe_disk(home: Path) -> dict[str, Any]:
    """What the registry takes, repository by repository: commits, how much nothing refers to (which `gc` frees), how
    much is pinned, what the runs keep to resume, and what is free."""
    rows: list[dict[str, Any]] = []
    for repository in repositories(home / "hub"):
        commits, pins, sizes = repository.commits(), repository.pins(), repository.blob_sizes()
        used = {digest for commit in commits for digest in commit.files.values()}
        pinned = {digest for commit in commits if commit.id in pins for digest in commit.files.values()}
        state = home / "runs" / repository.run / "state"
        rows.append(
            {
                "run": repository.run,
                "commits": len(commits),
                "bytes": sum(sizes.get(digest, 0) for digest in used),
                "unused": sum(size for digest, size in sizes.items() if digest not in used),
                "pinned": sum(sizes.get(digest, 0) for digest in pinned),
                "state": _bytes_beside(repository, state),
            }
        )
    there = next(path for path in (home, *home.parents) if path.is_dir())
    return {"repositories": rows, "bytes": sum(row["bytes"] + row["unused"] for row in rows),
            "state": sum(row["state"] for row in rows), "free": free_bytes(there)}  # fmt: skip


def _bytes_beside(repository: Repository, directory: Path) -> int:
    """Bytes of the files in a directory that are not a blob's under another name."""
    blobs = {path.stat().st_ino for path in (repository.path / "blobs").glob("*")}
    files = [path.stat() for path in directory.rglob("*") if path.is_file()]
    return sum(status.st_size for status in files if status.st_ino not in blobs)


def _settings(path: Path, wanted: Sequence[str]) -> dict[str, Any]:
    """Some of the settings in a JSON file; empty where there is none."""
    if not path.exists():
        return {}
    content = read_json(path)
    return {name: content[name] for name in wanted if content.get(name) is not None}


def read_header(file: Path) -> tuple[dict[str, Any], int]:
    """What a .safetensors file says of its tensors, and where their bytes begin. Raises Damaged."""
    with file.open("rb") as stream:
        try:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, 100 * 2**20)))  # safetensors' own limit
        except (struct.error, ValueError):
            raise Damaged(f"{file} is damaged: its header cannot be read") from None
    header.pop("__metadata__", None)
    return dict(header), 8 + length
