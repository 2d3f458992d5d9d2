"""Processes that rehearse one training stage for `polyana plan`: processes of their own, so that their memory is the
training's, and so that one that the system kills takes nobody with it.

`python -m polyana.rehearse PLACE` reads PLACE/order.json, an Order, starts the other processes if there are to be any,
and leaves PLACE/answer.json: a Report, or the letter to the user of what would not have worked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polyana.errors import PolyanaError, Problem, UserError

__all__ = ["Order", "Report", "rehearse"]

_EVAL_TOKENS = 16_384  # of held-out text that a process predicts: two batches; guess: the second shows the speed


@dataclass(frozen=True)
class Order:
    """`place`: an empty directory on the disk that the run will write to, for a recipe.yaml that is there already and
    for whatever the rehearsal writes. `data`, `start`: as in polyana.runs.Ingredients. `micro_batch`: sequences; None
    for the recipe's. `compile`: whether through torch.compile, whatever the recipe says. `threads`: of a process that
    is alone. `where`: lines of settings."""

    place: str
    stage: str
    data: str
    start: str
    micro_batch: int | None
    compile: bool
    saves: bool
    processes: int
    threads: int
    where: dict[str, str]


@dataclass(frozen=True)
class Report:
    """What a rehearsal found, in bytes and seconds; see `polyana.train.Costs`.

    sequences: of a step, all processes together; micro_batch: of a part of it. checkpointing: what was chosen for the
    whole training, and why. libraries: held before the model was made; shared: how much of that all processes hold
    together. peaks, growth: of the process that had most. whole: the highest peak of each process. start: making model
    and data ready. eval_tokens: of one evaluation in the run, whose time `seconds` has. commit_bytes, state_bytes: what
    a save has left on the disk.
    """

    per_epoch: int
    tokens_per_epoch: int
    micro_batch: int
    sequences: int
    checkpointing: tuple[str, str]
    libraries: int
    shared: int
    peaks: dict[str, int]
    growth: dict[str, int]
    whole: list[int]
    seconds: dict[str, float]
    eval_tokens: int
    commit_bytes: int
    state_bytes: int


def rehearse(order: Order) -> Report:
    """Do it in other processes. Raises UserError with what the user would have been told, had this been the run, and
    MemoryError when the system has ended one of them."""
    place = Path(order.place)
    (place / "order.json").write_text(json.dumps(asdict(order)))
    process = subprocess.run(
        [sys.executable, "-m", "polyana.rehearse", order.place], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env=os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(place / "compiled")},  # so that compiling is what it is anew
        text=True, check=False,
    )  # fmt: skip
    if process.returncode == -9 or "was ended by SIGKILL" in process.stderr:  # the second is what `launch` says
        raise MemoryError
    path = place / "answer.json"
    if not path.exists():
        last = (process.stderr.strip().splitlines() or [f"it ended with exit code {process.returncode}"])[-1]
        raise UserError(Problem(order.where["stage"], f"stage `{order.stage}` cannot be trained: {last}"))
    answer = json.loads(path.read_text())
    if "problems" in answer:
        raise UserError(Problem(*problem) for problem in answer["problems"])
    return Report(**answer)


def _report(order: Order) -> Report:
    """What this process, or all of them together, have found. Raises what training raises."""
    import torch

    from polyana.config import Quantity
    from polyana.data import TokenData
    from polyana.distributed import choose_strategy, open_world
    from polyana.recipe import load_recipe
    from polyana.registry import Repository
    from polyana.storage import disk_used
    from polyana.tasks import TrainingStageConfig, make_task
    from polyana.tracking import Console, RunDirectory
    from polyana.train import (
        Rehearsal,
        TrainingPlan,
        choose_checkpointing,
        choose_precision,
        cut_short,
        held_bytes,
        probe,
        shared_bytes,
    )

    if order.processes == 1:
        torch.set_num_threads(order.threads)  # `launch` has seen to it for several
    place = Path(order.place)
    recipe = load_recipe(place / "recipe.yaml")
    config = recipe.stages[order.stage]
    assert isinstance(config, TrainingStageConfig)
    held_out = TokenData(Path(order.data)).count("eval", "tokens")
    if config.eval.tokens is not None:
        held_out = min(held_out, int(config.eval.tokens.amount))
    tried = min(held_out, _EVAL_TOKENS * order.processes)
    # Next to no learning rate: nothing is to be learned, and no warm-up is there to keep the loss finite
    training = config.train.model_copy(
        update={"lr": 1e-9, "schedule": "constant", "patience": None, "find_lr": False, "compile": order.compile}
    )
    short = config.model_copy(
        update={"train": training, "eval": config.eval.model_copy(update={"tokens": Quantity(max(tried, 2), "tokens")})}
    )
    precision = choose_precision(config.train.precision)
    _import_libraries(config)

    with open_world() as world, open(os.devnull, "w") as nothing:  # noqa: PTH123  its name is no Path
        strategy = choose_strategy(config.train.strategy, world, precision.device)
        libraries, shared = held_bytes(precision.device), shared_bytes(precision.device)
        began = time.perf_counter()
        task = make_task(short, Path(order.data), Path(order.start), recipe.seed)
        try:
            plan = TrainingPlan.of(config.train, task.per_epoch, task.tokens_per_epoch, task.context)
        except UserError as error:
            raise UserError(Problem(order.where["warmup"], error.problems[0].what)) from None
        probe(task, order.where["precision"])
        precision.prepare(task.model)
        checkpointing = world.from_main(lambda: choose_checkpointing(training, plan, task, strategy))
        training = training.model_copy(update={"checkpointing": checkpointing.recomputed})
        micro_batch = min(order.micro_batch or plan.micro_batch, -(-plan.batch // world.size))
        cut = world.from_main(lambda: cut_short(task, plan, micro_batch, world.size))  # by one measured rate
        run = RunDirectory(
            world.from_main(lambda: RunDirectory.create(place / "runs", recipe.name, order.stage, {}).path)
        )
        repository = Repository(place / "hub", run.name)
        rehearsal = Rehearsal(
            task, cut, training, config.save, precision, strategy, run, repository, Console(nothing),
            saves=order.saves, seed=recipe.seed,
        )  # fmt: skip
        start = time.perf_counter() - began
        costs = rehearsal.rehearse()
        everybody = world.gather(costs)
    seconds = costs.seconds | {"start": start}
    seconds["evaluation"] = seconds["evaluation"] * held_out / max(tried, 1) + seconds["answers"]
    commit = disk_used(repository.path)
    return Report(
        task.per_epoch, task.tokens_per_epoch, micro_batch, costs.sequences, checkpointing.choice, libraries, shared,
        {what: max(each.peaks[what] for each in everybody) for what in costs.peaks},
        {what: max(each.growth[what] for each in everybody) for what in costs.growth},
        [max(each.peaks.values()) for each in everybody], seconds, held_out, commit,
        disk_used(run.state, repository.path) - commit,
    )  # fmt: skip


def _import_libraries(config: Any) -> None:
    """What a run of the stage imports when it makes its model, which is no part of what the model needs."""
    from transformers import AutoTokenizer, GPT2LMHeadModel, LlamaForCausalLM  # noqa: F401  to be in memory

    from polyana.models import import_peft
    from polyana.tasks import FineTuneConfig

    if isinstance(config, FineTuneConfig):
        import_peft()


def main() -> None:
    place = Path(sys.argv[1])
    order = Order(**json.loads((place / "order.json").read_text()))
    answer: dict[str, Any] | None = None
    from polyana.distributed import is_main, launch

    try:
        if order.processes > 1 and "RANK" not in os.environ:  # else this is one of them
            launch(order.processes, 0, ["-m", "polyana.rehearse", str(place)])
        else:
            report = _report(order)
            answer = asdict(report) if is_main() else None
    except UserError as error:
        answer = {"problems": [[problem.where, problem.what] for problem in error.problems]}
    except PolyanaError as error:
        answer = {"problems": [[order.where["stage"], str(error)]]}
    except Exception as error:
        words = (str(error).strip().splitlines() or [""])[-1]
        what = f"stage `{order.stage}` cannot be trained: {type(error).__name__}: {words}"
        answer = {"problems": [[order.where["stage"], what]]}
    if answer is not None:
        with suppress(FileExistsError), (place / "answer.json").open("x") as file:  # the first one to fail is heard
            json.dump(answer, file)


if __name__ == "__main__":
    main()
