"""Models of the Hub that adapters of the registry stand on.

Whoever points HF_HUB_CACHE at the registry no longer sees the cache in which such a base lies. So it gets a place here
under its own name and commit, of links to what training has read; on another machine the same name means the Hub's.
"""

from __future__ import annotations

import os
from pathlib import Path

from polyana.storage import building, write_file

__all__ = ["offer_base"]


def offer_base(hub: Path, name: str, commit: str, directory: Path) -> None:
    """Let unmodified Hugging Face tools find the files of `directory` as the model `name`, offline. What was there
    before stays, unless the files it links to are gone."""
    place = hub / "--".join(["models", *name.split("/")])
    snapshot = place / "snapshots" / commit
    if all((snapshot / path.name).exists() for path in directory.iterdir() if path.suffix == ".safetensors"):
        return
    for part in ("blobs", "refs", "snapshots"):
        (place / part).mkdir(parents=True, exist_ok=True)
    with building(snapshot, place / "arriving", replace=True) as links:
        for path in sorted(directory.iterdir()):
            if path.is_file() and path.name not in ("artifact.json", "base.json"):
                (links / path.name).symlink_to(os.path.relpath(path, snapshot))
    write_file(place / "refs" / "main", commit, place / "arriving")
