"""What can be learned: a task gives the one trainer its model, data, loss and evaluation."""

from pathlib import Path
from typing import Any

from polyana.data import TokenData
from polyana.models import build_model
from polyana.tasks.answers import AnswersConfig, build_answers
from polyana.tasks.classify import CLASSIFY_VERSION, ClassifyConfig, build_labelled, classify_task, labelled_lines
from polyana.tasks.fine_tune import FineTuneConfig, FineTuneTask, fine_tune_task, outline
from polyana.tasks.gold import GOLD_VERSION, GoldConfig, HeldTo, asked_in, write_gold
from polyana.tasks.language_model import EvalConfig, LanguageModelTask, TrainingStageConfig
from polyana.tasks.preference import PreferenceConfig, preference_task
from polyana.tasks.pretrain import VERSION, PretrainConfig, pretrain_task
from polyana.tasks.proxy import HELD_OUT, NATS, ProxyTask, proxy_task
from polyana.tasks.reference import REFERENCE_VERSION, build_reference
from polyana.tasks.reward import RewardConfig, reward_task
from polyana.tasks.sft import SftConfig, build_examples, learned_texts
from polyana.tasks.start import START_VERSION, build_start, start_identity
from polyana.tasks.translate import TranslateTask, TranslationSettings, compare_saved, translate_lines
from polyana.tasks.translate_units import UNITS_VERSION, TranslateConfig, build_units
from polyana.tasks.translation_test import translation_test
from polyana.tokenizer import TextTokenizer
from polyana.train import choose_precision

__all__ = [
    "CLASSIFY_VERSION",
    "GOLD_VERSION",
    "HELD_OUT",
    "NATS",
    "REFERENCE_VERSION",
    "START_VERSION",
    "UNITS_VERSION",
    "VERSION",
    "AnswersConfig",
    "ClassifyConfig",
    "EvalConfig",
    "FineTuneConfig",
    "GoldConfig",
    "HeldTo",
    "LanguageModelTask",
    "PreferenceConfig",
    "PretrainConfig",
    "ProxyTask",
    "RewardConfig",
    "SftConfig",
    "TrainingStageConfig",
    "TranslateConfig",
    "TranslationSettings",
    "asked_in",
    "build_answers",
    "build_examples",
    "build_labelled",
    "build_reference",
    "build_start",
    "build_units",
    "compare_saved",
    "labelled_lines",
    "learned_texts",
    "make_task",
    "outline_model",
    "proxy_task",
    "start_identity",
    "translate_lines",
    "translation_test",
    "write_gold",
]


def outline_model(config: TrainingStageConfig, start: Path) -> Any:
    """What a stage would train, without numbers; to be called under torch's meta device. `start` as in `make_task`."""
    if isinstance(config, FineTuneConfig):
        return outline(config, start)
    assert isinstance(config, PretrainConfig)
    return build_model(config.model, TextTokenizer(start).vocab_size, 0, 0)


def make_task(
    config: TrainingStageConfig, data: Path, start: Path, seed: int, gold: HeldTo | None = None
) -> LanguageModelTask:
    """The task of a training stage. `data`: its shards; `start`: what its model begins as, a tokenizer or a model;
    `gold`: what it is held to, where there is such a thing."""
    tokens, precision = TokenData(data), choose_precision(config.train.precision)
    if isinstance(config, PretrainConfig):
        return pretrain_task(config, tokens, TextTokenizer(start), seed, precision)
    if isinstance(config, PreferenceConfig):
        return preference_task(config, tokens, start, seed, precision, gold)
    if isinstance(config, RewardConfig):
        return reward_task(config, tokens, start, seed, precision)
    if isinstance(config, ClassifyConfig):
        return classify_task(config, tokens, start, seed, precision)
    assert isinstance(config, FineTuneConfig)
    kind = TranslateTask if isinstance(config, TranslateConfig) else FineTuneTask
    return fine_tune_task(kind, config, tokens, start, seed, precision)
