"""Models of a Hugging Face hub, through its own client, which obeys HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE."""

from __future__ import annotations

import re
from pathlib import Path

from polyana.errors import UserError

__all__ = ["fetch_model", "model_commit"]

_FILES = ["*.json", "*.jinja", "*.model", "*.txt", "README.md"]


def model_commit(name: str, revision: str) -> str:
    """The commit that `revision` of a model stands for now; without a network what the cache remembers.

    Raises UserError.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # its transport's error by a lasting name
        GatedRepoError,
        HTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    try:
        return str(HfApi().model_info(name, revision=revision).sha)
    except GatedRepoError:
        raise UserError("its owner must let you in: ask on its page, then set HF_TOKEN") from None
    except RepositoryNotFoundError:
        raise UserError(
            "the hub has no such model, or it is private and HF_TOKEN is not set to a token that may read it"
        ) from None
    except RevisionNotFoundError:
        raise UserError(f"the model has no revision `{revision}`; write a branch, a tag or a commit") from None
    except (HTTPError, OSError) as error:
        try:
            return Path(snapshot_download(name, revision=revision, allow_patterns=[], local_files_only=True)).name
        except OSError:
            raise UserError(f"the hub cannot be reached, and the model is not in its cache ({error})") from None


def fetch_model(name: str, revision: str, commit: str) -> Path:
    """The files of `commit` in the hub's cache, downloaded where they are not there yet. Raises UserError.

    Asked for as `revision`, so that the cache remembers what that stood for; by the commit if it has moved since.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # as above

    def fetch(patterns: list[str], revision: str = revision) -> Path:
        ignore = ["*/*"]  # other formats of the same weights: onnx/, original/
        found = Path(snapshot_download(name, revision=revision, allow_patterns=patterns, ignore_patterns=ignore))
        return found if found.name == commit else fetch(patterns, commit)

    try:
        directory = fetch([*_FILES, "*.safetensors"])
        if not any(directory.glob("*.safetensors")):
            directory = fetch([*_FILES, "pytorch_model*.bin"])
    except (HTTPError, OSError) as error:
        raise UserError(f"the hub's files could not be downloaded: {error}") from None
    if not (directory / "config.json").is_file():
        raise UserError("the hub's model has no config.json; of a repository of GGUF files download one and name it")
    return directory
