"""One training loop for every task, and the contract between them."""

from polyana.train.config import SaveConfig, TrainConfig
from polyana.train.plan import Cadence, TrainingPlan, sequences_in
from polyana.train.precision import DeviceFacts, Precision, choose_precision, this_device
from polyana.train.probe import probe
from polyana.train.schedule import learning_rate
from polyana.train.state import Position
from polyana.train.task import LossOutput, Task
from polyana.train.trainer import Trainer

__all__ = [
    "Cadence",
    "DeviceFacts",
    "LossOutput",
    "Position",
    "Precision",
    "SaveConfig",
    "Task",
    "TrainConfig",
    "Trainer",
    "TrainingPlan",
    "choose_precision",
    "learning_rate",
    "probe",
    "sequences_in",
    "this_device",
]
