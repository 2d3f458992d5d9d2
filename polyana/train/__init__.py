"""One training loop for every task, and the contract between them."""

from polyana.train.config import SaveConfig, TrainConfig
from polyana.train.optimizer import Optimizers, build_optimizer, optimizer_bytes
from polyana.train.plan import Cadence, TrainingPlan, sequences_in
from polyana.train.precision import DeviceFacts, Precision, choose_precision, this_device
from polyana.train.probe import probe
from polyana.train.schedule import learning_rate
from polyana.train.state import Position
from polyana.train.task import LossOutput, SumOver, Task
from polyana.train.trainer import Trainer

__all__ = [
    "Cadence",
    "DeviceFacts",
    "LossOutput",
    "Optimizers",
    "Position",
    "Precision",
    "SaveConfig",
    "SumOver",
    "Task",
    "TrainConfig",
    "Trainer",
    "TrainingPlan",
    "build_optimizer",
    "choose_precision",
    "learning_rate",
    "optimizer_bytes",
    "probe",
    "sequences_in",
    "this_device",
]
