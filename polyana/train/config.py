"""What a recipe says about training, whatever is trained."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from polyana.config import Batch, Config, Duration, Every, KeyPath, Portion, Quantity, Share
from polyana.data import Packing
from polyana.registry import KeepConfig
from polyana.train.precision import PrecisionWish

__all__ = ["SaveConfig", "TrainConfig"]


class TrainConfig(Config):
    """The optimisation: how long, how much at once, how fast."""

    duration: Duration = Field(Quantity(1, "epochs"), description="`2 epochs`, `500 steps` or `2B tokens`")
    batch: Batch = Field(
        Quantity(32, "sequences"), description="what one optimiser step sees: `32 sequences`, `16k tokens`"
    )
    micro_batch: Batch | None = Field(
        None,
        description="what is in memory at once; the gradients of a batch are summed up over its parts; default: about "
        "8,192 tokens",
    )
    packing: Packing = Field(
        "concat",
        description="what a sequence is: `concat`, a block of the text as it goes on, across documents; `documents`, "
        "as many as fill it best, each seen alone; `none`, one document",
    )
    lr: float = Field(6e-4, gt=0, description="peak learning rate")  # GPT-3 125M (Brown et al. 2020, table 2.1)
    schedule: Literal["cosine", "linear", "wsd", "constant"] = Field(
        "cosine", description="after warm-up; wsd is warm-up, stable, decay (Hu et al. 2024)"
    )
    warmup: Portion = Field(Quantity(5, "%"), description="linear rise from 0 to `lr`")
    decay: Portion = Field(Quantity(20, "%"), description="wsd: the linear fall at the end")
    final_lr: Share = Field(0.1, ge=0, le=1, description="learning rate at the end as a share of `lr`")
    weight_decay: float = Field(0.1, ge=0, description="decoupled, on matrices only, not on norms and biases")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's memory of gradients")
    beta2: float = Field(0.95, ge=0, lt=1, description="AdamW's memory of squared gradients")
    epsilon: float = Field(1e-8, gt=0, description="AdamW's least denominator")
    clip: float | None = Field(1.0, gt=0, description="largest norm of the gradient; null for no clipping")
    precision: PrecisionWish = Field(
        "auto", description="of matrix products; weights, sums and softmax stay in fp32; fp8 needs torchao and an H100"
    )
    patience: int | None = Field(
        None, ge=1, description="stop after so many evaluations in a row without a new lowest eval/loss"
    )

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        unset = type(self).model_fields
        if self.schedule != "wsd" and self.decay != unset["decay"].default:
            yield ("decay",), f"`decay` belongs to `schedule: wsd`; with {self.schedule} it would do nothing"
        if self.schedule == "constant" and self.final_lr != unset["final_lr"].default:
            yield ("final_lr",), "a constant schedule has no other final learning rate; leave `final_lr` out"
        for name in ("batch", "micro_batch"):
            quantity: Quantity | None = getattr(self, name)
            if self.packing == "none" and quantity is not None and quantity.unit == "tokens":
                yield (
                    (name,),
                    f"`{name}: {quantity}`: with `packing: none` sequences differ in length; write `32 sequences`",
                )
        whole = {"%": 100.0, self.duration.unit: self.duration.amount}
        for name in ("warmup", "decay") if self.schedule == "wsd" else ("warmup",):
            portion: Quantity = getattr(self, name)
            if portion.amount > whole.get(portion.unit, math.inf):
                yield (name,), f"`{name}: {portion}` is more than the whole `duration: {self.duration}`; write less"


class SaveConfig(Config):
    """When a commit is made, and which stay."""

    every: Every = Field(Quantity(10, "minutes"), description="as `100 steps` or `30 minutes`; the end is always saved")
    keep: KeepConfig = Field(default_factory=KeepConfig, description="which commits stay on the disk")
