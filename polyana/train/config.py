"""What a recipe says about training, whatever is trained."""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Annotated, Literal

from pydantic import Field

from polyana.config import Batch, Config, Duration, Every, KeyPath, Portion, Quantity, Share, of_kind
from polyana.data import Packing
from polyana.distributed import StrategyName
from polyana.models import CompilerMissing, try_compiler
from polyana.registry import KeepConfig, PushSetting
from polyana.tracking.sinks import SinkConfig
from polyana.train.precision import PrecisionWish

__all__ = [
    "AdafactorConfig",
    "AdamW8bitConfig",
    "AdamWConfig",
    "MuonConfig",
    "OptimizerConfig",
    "SaveConfig",
    "TrackConfig",
    "TrainConfig",
]


class _Moments(Config):
    """What every kind with an AdamW in it has."""

    kind: str
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's memory of gradients")
    beta2: float = Field(0.95, ge=0, lt=1, description="AdamW's memory of squared gradients")
    epsilon: float = Field(1e-8, gt=0, description="AdamW's least denominator")


class AdamWConfig(_Moments):
    """AdamW (Loshchilov and Hutter 2019). 8 bytes of memory a parameter."""

    kind: Literal["adamw"] = "adamw"


class MuonConfig(_Moments):
    """Muon (Jordan et al. 2024) for the matrices of the blocks, AdamW for embeddings, output layer, norms and biases.
    Updates are scaled to AdamW's usual size, so one `lr` serves both (Liu et al. 2025, eq. 4). 4 bytes of memory a
    parameter in the blocks, 8 elsewhere."""

    kind: Literal["muon"] = "muon"
    momentum: float = Field(0.95, ge=0, lt=1, description="Muon's memory of gradients")
    nesterov: bool = Field(True, description="look ahead along the momentum (Nesterov)")


class AdafactorConfig(Config):
    """Adafactor (Shazeer and Stern 2018): remembers of a matrix only its rows' and columns' mean squared gradients, so
    next to no memory. `lr` is relative to the weights' size, so it is larger than AdamW's: 1e-2 to 1e-1."""

    kind: Literal["adafactor"] = "adafactor"
    beta2_decay: float = Field(
        -0.8, lt=0, description="at step t squared gradients are remembered with 1 - t^beta2_decay (section 7.2)"
    )
    update_clip: float = Field(1.0, ge=1, description="largest root mean square of an update (section 6)")


class AdamW8bitConfig(_Moments):
    """AdamW with 8-bit moments for the matrices of the blocks (Dettmers et al. 2022; needs bitsandbytes), and 32-bit
    ones elsewhere, as the paper advises for embeddings (section 2.3). About 2 bytes of memory a parameter in the
    blocks, 8 elsewhere."""

    kind: Literal["adamw_8bit"] = "adamw_8bit"

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if find_spec("bitsandbytes") is None:
            yield ("kind",), "adamw_8bit needs bitsandbytes; run: pip install 'polyana[8bit]'"


OptimizerConfig = Annotated[
    AdamWConfig | MuonConfig | AdafactorConfig | AdamW8bitConfig, Field(discriminator="kind"), of_kind("adamw")
]


class TrainConfig(Config):
    """The optimisation: how long, how much at once, how fast."""

    duration: Duration = Field(Quantity(1, "epochs"), description="`2 epochs`, `500 steps` or `2B tokens`")
    batch: Batch = Field(
        Quantity(32, "sequences"), description="what one optimiser step sees: `32 sequences`, `16k tokens`"
    )
    micro_batch: Batch | None = Field(
        None,
        description="what a device holds in memory at once; the gradients of a batch are summed up over its parts; "
        "default: about 8,192 tokens",
    )
    packing: Packing = Field(
        "concat",
        description="what a sequence is: `concat`, a block of the text as it goes on, across documents; `documents`, "
        "as many as fill it best, each seen alone; `none`, one document",
    )
    lr: float = Field(6e-4, gt=0, description="peak learning rate")  # GPT-3 125M (Brown et al. 2020, table 2.1)
    find_lr: bool = Field(
        False,
        description="before training, try a hundred rates and draw their losses; training still uses `lr`",
        json_schema_extra={"watching": True},
    )
    schedule: Literal["cosine", "linear", "wsd", "warm_restarts", "inverse_sqrt", "constant"] = Field(
        "cosine",
        description="after warm-up; wsd is warm-up, stable, decay (Hu et al. 2024); warm_restarts is cosine from `lr` "
        "again and again (Loshchilov and Hutter 2017); inverse_sqrt falls with 1/sqrt(step) (Vaswani et al. 2017)",
    )
    warmup: Portion = Field(Quantity(5, "%"), description="linear rise from 0 to `lr`")
    decay: Portion = Field(Quantity(20, "%"), description="wsd: the linear fall at the end")
    cycle: Portion | None = Field(
        None, description="warm_restarts: the first cycle; default: so that three cycles end with the run"
    )
    cycle_growth: float = Field(
        2.0, ge=1, le=10, description="warm_restarts: each cycle is so many times as long as the last"
    )
    final_lr: Share = Field(0.1, ge=0, le=1, description="learning rate at the end as a share of `lr`")
    optimizer: OptimizerConfig = Field(
        default_factory=AdamWConfig, description="a kind, as `muon`, or settings, as `{kind: muon, momentum: 0.9}`"
    )
    weight_decay: float = Field(
        0.1, ge=0, description="decoupled, on matrices (embeddings too), not on norms and biases"
    )
    clip: float | None = Field(1.0, gt=0, description="largest norm of the gradient; null for no clipping")
    z_loss: float = Field(
        0.0, ge=0, description="adds so many times (log Z)^2, which keeps logits small; 1e-4 (Chowdhery et al. 2022)"
    )
    precision: PrecisionWish = Field(
        "auto", description="of matrix products; weights, sums and softmax stay in fp32; fp8 needs torchao and an H100"
    )
    checkpointing: Literal["auto"] | bool | Annotated[int, Field(ge=0)] = Field(
        "auto",
        json_schema_extra={"watching": True},  # what is learned is the same, bit for bit
        description="layers that keep only their input and are computed again in the backward pass: `true` for all, a "
        "number, or `auto` for as few as memory asks for",
    )
    compile: bool = Field(
        False,
        json_schema_extra={"watching": True},  # what is learned is the same but for rounding
        description="layers through torch.compile: measured on a CPU, 25 to 60 seconds at each start for 0 to 9 % more "
        "speed, so for runs of more than a quarter of an hour",
    )
    strategy: StrategyName = Field(
        "auto",
        json_schema_extra={"watching": True},  # what is learned is the same but for rounding
        description="how several processes share the work: ddp copies the model to each, fsdp2 cuts it up among them; "
        "auto is ddp, or single where there is one process",
    )
    patience: int | None = Field(
        None, ge=1, description="stop after so many evaluations in a row without a new lowest eval/loss"
    )

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if self.strategy == "fsdp2" and isinstance(self.optimizer, AdafactorConfig | AdamW8bitConfig):
            kind = self.optimizer.kind
            yield ("strategy",), f"{kind} cannot work on matrices that fsdp2 has cut up; write ddp, or adamw or muon"
        for name, schedule in _ONLY_FOR.items():
            if self.schedule != schedule and getattr(self, name) != type(self).model_fields[name].default:
                yield (name,), f"`{name}` belongs to `schedule: {schedule}`; with {self.schedule} it would do nothing"
        if (
            self.schedule in ("constant", "inverse_sqrt")
            and self.final_lr != type(self).model_fields["final_lr"].default
        ):
            yield ("final_lr",), f"with `schedule: {self.schedule}` `final_lr` would do nothing; leave it out"
        for name in ("batch", "micro_batch"):
            quantity: Quantity | None = getattr(self, name)
            if self.packing == "none" and quantity is not None and quantity.unit == "tokens":
                yield (
                    (name,),
                    f"`{name}: {quantity}`: with `packing: none` sequences differ in length; write `32 sequences`",
                )
        if self.compile and self.packing != "concat":
            yield (
                ("compile",),
                f"`compile: true` needs texts of one length, and with `packing: {self.packing}` they differ",
            )
        if self.compile:
            try:
                try_compiler()
            except CompilerMissing as missing:
                yield (
                    ("compile",),
                    f"`compile: true` needs a C++ compiler: {missing}; `polyana doctor` says what to run",
                )
        whole = {"%": 100.0, self.duration.unit: self.duration.amount}
        for name in ("warmup", *(name for name, schedule in _ONLY_FOR.items() if schedule == self.schedule)):
            portion = getattr(self, name)
            if isinstance(portion, Quantity) and portion.amount > whole.get(portion.unit, math.inf):
                yield (name,), f"`{name}: {portion}` is more than the whole `duration: {self.duration}`; write less"
        if self.cycle is not None and not self.cycle.amount:
            yield ("cycle",), "`cycle` should be more than nothing"


_ONLY_FOR = {"decay": "wsd", "cycle": "warm_restarts", "cycle_growth": "warm_restarts"}


class SaveConfig(Config):
    """When a commit is made, and which stay."""

    every: Every = Field(Quantity(10, "minutes"), description="as `100 steps` or `30 minutes`; the end is always saved")
    keep: KeepConfig = Field(default_factory=KeepConfig, description="which commits stay on the disk")
    push: PushSetting | None = Field(
        None, description="where saves are sent meanwhile, as `hub:org/name` or `{to: hub:org/name, every: 5 saves}`"
    )


class TrackConfig(Config):
    """What is recorded of a training beside the numbers of each step."""

    # One costs 0.16 steps of 1,024 tokens with 5 million parameters, 0.4 of 512 with 0.3, 1.1 of 128 with 0.04
    # (one thread of a CPU, docs/log.md): every 100 steps that is below 1 % of any training but a toy's.
    histograms: Every | None = Field(
        Quantity(100, "steps"),
        description="how weights, gradients and updates are spread, by block and kind; null for none",
    )
    sinks: list[SinkConfig] = Field(
        [], description="who else is told, beside the run's own files, as `[tensorboard, {kind: wandb, project: mine}]`"
    )
