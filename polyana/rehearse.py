"""A process that rehearses one training stage for `polyana plan`: a process of its own, so that its memory is the
training's, and so that one that the system kills takes nobody with it.

`python -m polyana.rehearse` reads an Order as JSON from its input and answers on its output: a Report, or the letter
to the user of what would not have worked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polyana.errors import PolyanaError, Problem, UserError

__all__ = ["Order", "Report", "rehearse"]

_EVAL_TOKENS = 16_384  # of held-out text that a rehearsal predicts: two batches; guess: the second shows the speed


@dataclass(frozen=True)
class Order:
    """`place`: an empty directory on the disk that the run will write to, for a recipe.yaml that is there already and
    for whatever the rehearsal writes. `micro_batch`: sequences; None for the recipe's. `where`: lines of settings."""

    place: str
    stage: str
    tokens: str
    tokenizer: str
    micro_batch: int | None
    saves: bool
    threads: int
    where: dict[str, str]


@dataclass(frozen=True)
class Report:
    """What a rehearsal found, in bytes and seconds; see `polyana.train.Costs`.

    libraries: held before the model was made. start: making model and data ready. checkpointing: what
    was chosen for the whole training, and why. eval_tokens: of one evaluation in the
    run, whose time `seconds` has. commit_bytes, state_bytes: what a save has left on the disk.
    """

    per_epoch: int
    tokens_per_epoch: int
    micro_batch: int
    parts: int
    checkpointing: tuple[str, str]
    libraries: int
    peaks: dict[str, int]
    growth: dict[str, int]
    seconds: dict[str, float]
    eval_tokens: int
    commit_bytes: int
    state_bytes: int


def rehearse(order: Order) -> Report:
    """Do it in another process. Raises UserError with what the user would have been told, had this been the run, and
    MemoryError when the system has ended the process."""
    process = subprocess.run(
        [sys.executable, "-m", "polyana.rehearse"], input=json.dumps(asdict(order)), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if process.returncode == -9:
        raise MemoryError
    try:
        answer = json.loads(process.stdout)
    except ValueError:
        last = (process.stderr.strip().splitlines() or [f"it ended with exit code {process.returncode}"])[-1]
        raise UserError(Problem(order.where["stage"], f"stage `{order.stage}` cannot be trained: {last}")) from None
    if "problems" in answer:
        raise UserError(Problem(*problem) for problem in answer["problems"])
    return Report(**answer)


def _answer(order: Order) -> Report:
    import torch

    from polyana.config import Quantity
    from polyana.data import TokenData
    from polyana.distributed import World, choose_strategy
    from polyana.recipe import load_recipe
    from polyana.registry import Repository
    from polyana.storage import disk_used
    from polyana.tasks import PretrainConfig, PretrainTask
    from polyana.tokenizer import TextTokenizer
    from polyana.tracking import Console, RunDirectory
    from polyana.train import (
        Rehearsal,
        TrainingPlan,
        choose_checkpointing,
        choose_precision,
        cut_short,
        held_bytes,
        probe,
    )

    torch.set_num_threads(order.threads)
    place = Path(order.place)
    recipe = load_recipe(place / "recipe.yaml")
    config = recipe.stages[order.stage]
    assert isinstance(config, PretrainConfig)
    data, words = TokenData(Path(order.tokens)), TextTokenizer(Path(order.tokenizer))
    held_out = data.count("eval", "tokens")
    if config.eval.tokens is not None:
        held_out = min(held_out, int(config.eval.tokens.amount))
    tried = min(held_out, _EVAL_TOKENS)
    # Next to no learning rate: nothing is to be learned, and no warm-up is there to keep the loss finite
    training = config.train.model_copy(update={"lr": 1e-9, "schedule": "constant", "patience": None, "find_lr": False})
    short = config.model_copy(
        update={"train": training, "eval": config.eval.model_copy(update={"tokens": Quantity(max(tried, 2), "tokens")})}
    )
    precision = choose_precision(config.train.precision)
    from transformers import AutoTokenizer, GPT2LMHeadModel, LlamaForCausalLM  # noqa: F401  part of the libraries

    libraries, began = held_bytes(precision.device), time.perf_counter()
    task = PretrainTask(short, data, words, recipe.seed, precision)
    try:
        plan = TrainingPlan.of(config.train, task.per_epoch, task.tokens_per_epoch, task.context)
    except UserError as error:
        raise UserError(Problem(order.where["warmup"], error.problems[0].what)) from None
    probe(task, order.where["precision"])
    strategy = choose_strategy(config.train.strategy, World(), precision.device)
    precision.prepare(task.model)
    checkpointing = choose_checkpointing(training, plan, task, strategy)
    training = training.model_copy(update={"checkpointing": checkpointing.recomputed})
    run = RunDirectory.create(place / "runs", recipe.name, order.stage, {})
    repository = Repository(place / "hub", run.name)
    with open(os.devnull, "w") as nothing:  # noqa: PTH123
        rehearsal = Rehearsal(
            task, cut_short(task, plan, order.micro_batch or plan.micro_batch), training, config.save, precision,
            strategy, run, repository, Console(nothing),
            saves=order.saves, seed=recipe.seed,
        )  # fmt: skip
        start = time.perf_counter() - began
        costs = rehearsal.rehearse()
    seconds = costs.seconds | {"start": start}
    seconds["evaluation"] *= held_out / max(tried, 1)
    commit = disk_used(repository.path)
    return Report(
        task.per_epoch, task.tokens_per_epoch, plan.micro_batch if order.micro_batch is None else order.micro_batch,
        costs.parts, checkpointing.choice, libraries, costs.peaks, costs.growth, seconds, held_out, commit,
        disk_used(run.state, repository.path) - commit,
    )  # fmt: skip


def main() -> None:
    order = Order(**json.load(sys.stdin))
    out, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints
    answer: dict[str, Any]
    try:
        answer = asdict(_answer(order))
    except UserError as error:
        answer = {"problems": [[problem.where, problem.what] for problem in error.problems]}
    except PolyanaError as error:
        answer = {"problems": [[order.where["stage"], str(error)]]}
    out.write(json.dumps(answer))


if __name__ == "__main__":
    main()
