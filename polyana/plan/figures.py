"""What is planned, in figures: of a recipe, of each stage, of a training's memory, disk and time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Choice", "Disk", "Memory", "RecipePlan", "StagePlan", "Time", "Training", "sequences"]


@dataclass(frozen=True)
class Choice:
    """What was chosen and why, in a clause."""

    what: str
    chosen: str
    reason: str


@dataclass(frozen=True)
class Memory:
    """Bytes, of each process. weights to logits are counted; the others are None where nothing was measured.

    activations: all else that a training step needs, above all what the backward pass needs of the forward pass.
    training, evaluation, saving: the peak of each, beyond the libraries. peak: of the whole process, libraries
    included. together: of all processes, which is what has to be available; where each has a GPU of its own, of one.
    how: what was measured.
    """

    weights: int
    gradients: int
    optimizer: int
    logits: int
    available: int
    how: str
    activations: int | None = None
    libraries: int | None = None
    training: int | None = None
    evaluation: int | None = None
    saving: int | None = None
    peak: int | None = None
    together: int | None = None


@dataclass(frozen=True)
class Disk:
    """Bytes. commit: the files of a save in the registry. state: what resuming needs besides; two are kept. alone: the
    weights of a state whose save is kept no longer.

    kept: at the end of training, at most; during: while a save is being written, at most. deleted: saves that are made
    and do not stay; pushed: that stay because they are sent, at most; at_once: those of an earlier attempt, by name,
    that go as soon as it goes on.
    """

    commit: int
    commits: int
    state: int
    alone: int
    kept: int
    during: int
    free: int
    deleted: int
    pushed: int
    at_once: list[str]


@dataclass(frozen=True)
class Time:
    """Seconds of one, how many there are, and of all. start: model and data made ready, a step probed. compile: what
    the first steps take beyond others.

    range_test: steps of `find_lr`, beside those of training. cost: in the unit of the price an hour.
    """

    start: float
    compile: float
    step: float
    evaluation: float
    sample: float
    save: float
    evaluations: int
    samples: int
    saves: int
    range_test: int
    total: float
    cost: float | None


@dataclass(frozen=True)
class Training:
    """A training stage that would run. None: not known before its tokens are made, `steps` only if they are counted in
    tokens or epochs.

    tokens, steps: of the whole training. batch, micro_batch: sequences; parts: micro-batches of a step in a process.
    """

    processes: int

    parameters: int
    trained: int
    vocabulary: int
    tokens: int | None
    epochs: float | None
    steps: int | None
    warmup_steps: int | None
    batch: int
    micro_batch: int
    parts: int
    context: int
    memory: Memory
    disk: Disk | None
    time: Time | None
    choices: list[Choice]
    warnings: list[str]

    @property
    def frozen(self) -> int:
        return self.parameters - self.trained


@dataclass(frozen=True)
class StagePlan:
    """bytes: of what is there already."""

    name: str
    kind: str
    cached: bool
    why: str
    bytes: int = 0
    training: Training | None = None


@dataclass(frozen=True)
class RecipePlan:
    recipe: str
    home: str
    stages: list[StagePlan]
    seconds: float | None
    cost: float | None

    @property
    def fits(self) -> bool:
        """Whether memory and disk suffice, as far as is known."""
        return not any(stage.training.warnings for stage in self.stages if stage.training)

    def as_json(self) -> dict[str, Any]:
        plain = asdict(self) | {"fits": self.fits}
        for stage, shown in zip(self.stages, plain["stages"], strict=True):
            if stage.training:
                shown["training"]["frozen"] = stage.training.frozen
        return plain


def sequences(count: int) -> str:
    return f"{count} sequence{'' if count == 1 else 's'}"
