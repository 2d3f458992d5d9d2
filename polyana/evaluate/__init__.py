"""How good a model is: perplexity and bits per byte, the baseline beside them, translations, and what it writes."""

from polyana.evaluate.baseline import trigram_bits_per_byte
from polyana.evaluate.decoding import (
    BeamConfig,
    Decoding,
    GreedyConfig,
    MbrConfig,
    Prompt,
    Translated,
    translate_documents,
)
from polyana.evaluate.difference import Difference, bits_per_byte_difference, mean_and_interval
from polyana.evaluate.generation import (
    GenerationConfig,
    SampleConfig,
    as_question,
    generate,
    load_for_generation,
    load_in_turn,
)
from polyana.evaluate.perplexity import evaluate_language_model
from polyana.evaluate.realignment import realign
from polyana.evaluate.terminology import TermConsistency, term_consistency
from polyana.evaluate.translation import (
    CometConfig,
    Comparison,
    Score,
    Translation,
    TranslationScores,
    comet_scores,
    compare_comet,
    compare_translations,
    score_translations,
)
from polyana.evaluate.translation_page import write_translation_page

__all__ = [
    "BeamConfig",
    "CometConfig",
    "Comparison",
    "Decoding",
    "Difference",
    "GenerationConfig",
    "GreedyConfig",
    "MbrConfig",
    "Prompt",
    "SampleConfig",
    "Score",
    "TermConsistency",
    "Translated",
    "Translation",
    "TranslationScores",
    "as_question",
    "bits_per_byte_difference",
    "comet_scores",
    "compare_comet",
    "compare_translations",
    "evaluate_language_model",
    "generate",
    "load_for_generation",
    "load_in_turn",
    "mean_and_interval",
    "realign",
    "score_translations",
    "term_consistency",
    "translate_documents",
    "trigram_bits_per_byte",
    "write_translation_page",
]
