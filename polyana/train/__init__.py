"""One training loop for every task, and the contract between them."""

from polyana.train.config import SaveConfig, TrainConfig
from polyana.train.plan import Cadence, TrainingPlan, sequences_in
from polyana.train.precision import Precision, choose_precision
from polyana.train.schedule import learning_rate
from polyana.train.state import Position
from polyana.train.task import LossOutput, SumOver, Task
from polyana.train.trainer import Trainer

__all__ = [
    "Cadence",
    "LossOutput",
    "Position",
    "Precision",
    "SaveConfig",
    "SumOver",
    "Task",
    "TrainConfig",
    "Trainer",
    "TrainingPlan",
    "choose_precision",
    "learning_rate",
    "sequences_in",
]
