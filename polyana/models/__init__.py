"""Models as transformers models; they know of no machine and no training."""

from polyana.models.build import build_model, count_parameters, head_weight, hidden_matrices, hidden_states, save_model
from polyana.models.config import ModelConfig

__all__ = [
    "ModelConfig",
    "build_model",
    "count_parameters",
    "head_weight",
    "hidden_matrices",
    "hidden_states",
    "save_model",
]
