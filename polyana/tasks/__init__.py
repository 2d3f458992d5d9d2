"""What can be learned: a task gives the one trainer its model, data, loss and evaluation."""

from polyana.tasks.pretrain import VERSION, EvalConfig, PretrainConfig, PretrainTask

__all__ = ["VERSION", "EvalConfig", "PretrainConfig", "PretrainTask"]
