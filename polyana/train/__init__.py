"""One training loop for every task, and the contract between them."""

from polyana.train.checkpointing import Checkpointing, choose_checkpointing
from polyana.train.config import AdafactorConfig, SaveConfig, TrackConfig, TrainConfig
from polyana.train.memory import available_bytes, held_bytes, shared_bytes, system_memory
from polyana.train.optimizer import Optimizers, build_optimizer, optimizer_bytes
from polyana.train.plan import Cadence, TrainingPlan, micro_batch_of, sequences_in
from polyana.train.precision import DeviceFacts, Precision, PrecisionWish, choose_precision, this_device
from polyana.train.probe import probe
from polyana.train.rehearsal import Costs, Rehearsal, cut_short
from polyana.train.schedule import learning_rate, sampled_schedule
from polyana.train.state import Position
from polyana.train.task import LossOutput, SumOver, SumOverBatch, Task, Verdict
from polyana.train.trainer import Trainer

__all__ = [
    "AdafactorConfig",
    "Cadence",
    "Checkpointing",
    "Costs",
    "DeviceFacts",
    "LossOutput",
    "Optimizers",
    "Position",
    "Precision",
    "PrecisionWish",
    "Rehearsal",
    "SaveConfig",
    "SumOver",
    "SumOverBatch",
    "Task",
    "TrackConfig",
    "TrainConfig",
    "Trainer",
    "TrainingPlan",
    "Verdict",
    "available_bytes",
    "build_optimizer",
    "choose_checkpointing",
    "choose_precision",
    "cut_short",
    "held_bytes",
    "learning_rate",
    "micro_batch_of",
    "optimizer_bytes",
    "probe",
    "sampled_schedule",
    "sequences_in",
    "shared_bytes",
    "system_memory",
    "this_device",
]
