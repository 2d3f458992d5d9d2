"""How good a model is: perplexity and bits per byte, the baseline beside them, suites of tests, translations, and what
it writes."""

from polyana.evaluate.answers import WrittenAnswer, write_answers
from polyana.evaluate.baseline import trigram_bits_per_byte
from polyana.evaluate.config import EvaluateConfig, stage_and_revision
from polyana.evaluate.contamination import Contamination, find_contamination
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
from polyana.evaluate.divergence import Divergence, divergence
from polyana.evaluate.items import Item, Metric, Paired, Scored, better_of, metrics_of, paired_tests
from polyana.evaluate.likelihood import Subject, Wanted, log_likelihoods
from polyana.evaluate.overoptimisation import FAR, PATIENCE, Alarm, Curve, Look, fit_curve, hacking, kl_of_best_of
from polyana.evaluate.perplexity import evaluate_language_model
from polyana.evaluate.realignment import realign
from polyana.evaluate.suite import (
    TASK_KINDS,
    HeldOutExamples,
    HeldOutText,
    Suite,
    Surroundings,
    Test,
    TranslationSuiteConfig,
    check_suite,
    read_suite,
    suite_files,
)
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
    translation_metrics,
)
from polyana.evaluate.translation_page import write_translation_page
from polyana.evaluate.written_answers import beside_length, distinct_n, refusals, repetition

__all__ = [
    "FAR",
    "PATIENCE",
    "TASK_KINDS",
    "Alarm",
    "BeamConfig",
    "CometConfig",
    "Comparison",
    "Contamination",
    "Curve",
    "Decoding",
    "Difference",
    "Divergence",
    "EvaluateConfig",
    "GreedyConfig",
    "HeldOutExamples",
    "HeldOutText",
    "Item",
    "Look",
    "MbrConfig",
    "Metric",
    "Paired",
    "Prompt",
    "Score",
    "Scored",
    "Subject",
    "Suite",
    "Surroundings",
    "TermConsistency",
    "Test",
    "Translated",
    "Translation",
    "TranslationScores",
    "TranslationSuiteConfig",
    "Wanted",
    "WrittenAnswer",
    "beside_length",
    "better_of",
    "bits_per_byte_difference",
    "check_suite",
    "comet_scores",
    "compare_comet",
    "compare_translations",
    "distinct_n",
    "divergence",
    "evaluate_language_model",
    "find_contamination",
    "fit_curve",
    "hacking",
    "kl_of_best_of",
    "log_likelihoods",
    "mean_and_interval",
    "metrics_of",
    "paired_tests",
    "read_suite",
    "realign",
    "refusals",
    "repetition",
    "score_translations",
    "stage_and_revision",
    "suite_files",
    "term_consistency",
    "translate_documents",
    "translation_metrics",
    "trigram_bits_per_byte",
    "write_answers",
    "write_translation_page",
]
