"""What can be learned: a task gives the one trainer its model, data, loss and evaluation."""

from pathlib import Path

from polyana.data import TokenData
from polyana.tasks.language_model import EvalConfig, LanguageModelTask, TrainingStageConfig
from polyana.tasks.pretrain import VERSION, PretrainConfig, pretrain_task
from polyana.tasks.sft import SftConfig, build_examples, outline, sft_task
from polyana.tokenizer import TextTokenizer
from polyana.train import choose_precision

__all__ = [
    "VERSION",
    "EvalConfig",
    "LanguageModelTask",
    "PretrainConfig",
    "SftConfig",
    "TrainingStageConfig",
    "build_examples",
    "make_task",
    "outline",
]


def make_task(config: TrainingStageConfig, data: Path, start: Path, seed: int) -> LanguageModelTask:
    """The task of a training stage. `data`: its shards; `start`: what its model begins as, a tokenizer or a model."""
    precision = choose_precision(config.train.precision)
    match config:
        case PretrainConfig():
            return pretrain_task(config, TokenData(data), TextTokenizer(start), seed, precision)
        case SftConfig():
            return sft_task(config, TokenData(data), start, seed, precision)
    raise NotImplementedError(type(config).__name__)
