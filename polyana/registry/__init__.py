"""Saves as commits that any Hugging Face tool loads."""

from polyana.registry.background import pushing, send_rest
from polyana.registry.exchange import Pulled, Pushed, Pusher, pull, push
from polyana.registry.patience import Unreachable
from polyana.registry.queue import PushConfig, PushQueue, PushSetting
from polyana.registry.repository import NAMESPACE, Commit, Repository, find_repository
from polyana.registry.retention import KeepConfig, apply_retention, best_commits
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
    "Repository",
    "Unreachable",
    "apply_retention",
    "best_commits",
    "find_repository",
    "parse_target",
    "pull",
    "push",
    "pushing",
    "send_rest",
]
