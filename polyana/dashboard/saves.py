"""The saves of a run: what each scored, how to load it, which is the best."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from polyana.dashboard.errors import Refused
from polyana.errors import Damaged
from polyana.registry import NAMESPACE, Commit, Repository

__all__ = ["list_saves", "move_best"]

_TRIES = 5  # to list the saves while they change; guess


def list_saves(home: Path, run: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The saves, oldest first, and what is wrong with them."""
    repository = Repository(home / "hub", run)
    for _ in range(_TRIES):
        try:
            return _describe(repository, home), []
        except FileNotFoundError:
            continue  # a training has just let go of one
        except (Damaged, TypeError) as error:
            return [], [f"the saves cannot be listed: {error}"]
    return [], []


def move_best(home: Path, run: str, step: Any) -> dict[str, Any]:
    """Let `best` name the save of a step."""
    repository = Repository(home / "hub", run)
    for commit in repository.commits():
        if commit.step == step:
            with repository.changing():
                # or the next save would move it back
                repository.rank_by(replace(repository.ranking(), commit=commit.id))
                repository.set_ref("best", commit.id)
            return {"step": commit.step, "eval/loss": commit.metrics.get("eval/loss")}
    raise Refused(404, f"{run} has no save of step {step}")


def _describe(repository: Repository, home: Path) -> list[dict[str, Any]]:
    refs = repository.refs()
    found = []
    for commit in repository.commits():
        sizes = [0]
        with suppress(OSError):
            sizes = [repository.blob(commit, file).stat().st_size for file in commit.files]
        found.append(
            {
                "step": commit.step,
                "commit": commit.id,
                "epoch": commit.epoch,
                "tokens": commit.tokens,
                "message": commit.message,
                "metrics": commit.metrics,
                "evaluations": _evaluations(repository, commit),
                "time": commit.time,
                "bytes": sum(sizes),
                "refs": [ref for ref, identifier in refs.items() if identifier == commit.id],
                "load": _load(home, repository.run, f"step-{commit.step}"),
            }
        )
    return found


def _evaluations(repository: Repository, commit: Commit) -> dict[str, dict[str, dict[str, float]]]:
    """Suite -> metric -> {"value", "low", "high"}, as far as they are numbers."""
    suites = {}
    for suite, result in repository.evaluations(commit).items():
        metrics = result.get("metrics")
        named = metrics.items() if isinstance(metrics, dict) else ()
        suites[suite] = {
            name: {key: each[key] for key in ("value", "low", "high") if isinstance(each.get(key), int | float)}
            for name, each in named
            if isinstance(each, dict) and isinstance(each.get("value"), int | float)
        }
    return suites


def _load(home: Path, name: str, revision: str) -> dict[str, str]:
    hub = shlex.quote(str(home / "hub"))
    code = (
        f"from transformers import AutoModelForCausalLM; "
        f"model = AutoModelForCausalLM.from_pretrained('{NAMESPACE}/{name}', revision='{revision}')"
    )
    return {
        "transformers": f'HF_HUB_CACHE={hub} HF_HUB_OFFLINE=1 python -c "{code}"',
        "polyana": f'POLYANA_HOME={shlex.quote(str(home))} polyana generate {name}@{revision} "Once"',
    }
