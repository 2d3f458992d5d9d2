"""Settings: YAML with line numbers, quantities with units, configs whose errors are letters to the user."""

from polyana.config.config import Config, config_classes, kind_of, of_kind, read_config
from polyana.config.quantity import (
    Batch,
    Duration,
    Every,
    Portion,
    Quantity,
    SaveEvery,
    Share,
    Size,
    Steps,
    Tokens,
    Wait,
    parse_quantity,
)
from polyana.config.reference import StageReference, references_of
from polyana.config.source import KeyPath, Source, closest, dump_yaml, read_yaml, read_yaml_text

__all__ = [
    "Batch",
    "Config",
    "Duration",
    "Every",
    "KeyPath",
    "Portion",
    "Quantity",
    "SaveEvery",
    "Share",
    "Size",
    "Source",
    "StageReference",
    "Steps",
    "Tokens",
    "Wait",
    "closest",
    "config_classes",
    "dump_yaml",
    "kind_of",
    "of_kind",
    "parse_quantity",
    "read_config",
    "read_yaml",
    "read_yaml_text",
    "references_of",
]
