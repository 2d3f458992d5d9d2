"""Saves as commits that any Hugging Face tool loads."""

from polyana.registry.repository import NAMESPACE, Commit, Repository, find_repository
from polyana.registry.retention import KeepConfig, apply_retention, best_commits

__all__ = [
    "NAMESPACE",
    "Commit",
    "KeepConfig",
    "Repository",
    "apply_retention",
    "best_commits",
    "find_repository",
]
