"""Text to token ids: train or load a tokenizer, and use it on documents of any length."""

from polyana.tokenizer.build import VERSION, build_tokenizer, report_lines, tokenizer_inputs
from polyana.tokenizer.config import TokenizerConfig
from polyana.tokenizer.text_tokenizer import TextTokenizer, pieces

__all__ = [
    "VERSION",
    "TextTokenizer",
    "TokenizerConfig",
    "build_tokenizer",
    "pieces",
    "report_lines",
    "tokenizer_inputs",
]
