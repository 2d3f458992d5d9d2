"""Training on many devices: which processes there are, how a model is spread over them, how they are started."""

from polyana.distributed.launch import launch
from polyana.distributed.strategy import OptimizerState, Share, Strategy, StrategyName, choose_strategy
from polyana.distributed.world import World, exit_code_of, is_main, open_world

__all__ = [
    "OptimizerState",
    "Share",
    "Strategy",
    "StrategyName",
    "World",
    "choose_strategy",
    "exit_code_of",
    "is_main",
    "launch",
    "open_world",
]
