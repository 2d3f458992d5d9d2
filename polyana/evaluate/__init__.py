"""How good a model is: perplexity and bits per byte, the baseline beside them, and what it writes."""

from polyana.evaluate.baseline import trigram_bits_per_byte
from polyana.evaluate.generation import GenerationConfig, SampleConfig, generate, load_for_generation
from polyana.evaluate.perplexity import evaluate_language_model
from polyana.evaluate.realignment import realign

__all__ = [
    "GenerationConfig",
    "SampleConfig",
    "evaluate_language_model",
    "generate",
    "load_for_generation",
    "realign",
    "trigram_bits_per_byte",
]
