"""Saves as commits that any Hugging Face tool loads."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from polyana.registry.bases import offer_base
from polyana.registry.commit import Commit, Ranking
from polyana.registry.find import find_commit, find_repository, repositories
from polyana.registry.repository import NAMESPACE, Repository

if TYPE_CHECKING:
    from polyana.registry.background import pushing, send_rest
    from polyana.registry.exchange import Pulled, Pushed, Pusher, pull, push
    from polyana.registry.patience import Unreachable
    from polyana.registry.queue import PushConfig, PushQueue, PushSetting
    from polyana.registry.retention import (
        KeepConfig,
        apply_retention,
        best_commits,
        bytes_of_commits,
        going,
        would_go,
    )
    from polyana.registry.targets import parse_target

__all__ = [
    "NAMESPACE",
    "Commit",
    "KeepConfig",
    "Pulled",
    "PushConfig",
    "PushQueue",
    "PushSetting",
    "Pushed",
    "Pusher",
    "Ranking",
    "Repository",
    "Unreachable",
    "apply_retention",
    "best_commits",
    "bytes_of_commits",
    "find_commit",
    "find_repository",
    "going",
    "offer_base",
    "parse_target",
    "pull",
    "push",
    "pushing",
    "repositories",
    "send_rest",
    "would_go",
]

# What needs pydantic or the Hub's client: that takes longer to import than listing 300 commits does.
_LATER = {
    "background": ("pushing", "send_rest"),
    "exchange": ("Pulled", "Pushed", "Pusher", "pull", "push"),
    "patience": ("Unreachable",),
    "queue": ("PushConfig", "PushQueue", "PushSetting"),
    "retention": ("KeepConfig", "apply_retention", "best_commits", "bytes_of_commits", "going", "would_go"),
    "targets": ("parse_target",),
}


def __getattr__(name: str) -> Any:
    for module, names in _LATER.items():
        if name in names:
            return getattr(import_module(f"polyana.registry.{module}"), name)
    raise AttributeError(f"module 'polyana.registry' has no attribute '{name}'")
