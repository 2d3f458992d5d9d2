"""Text to token ids: train or load a tokenizer, and use it on documents of any length."""

from polyana.tokenizer.build import VERSION, build_tokenizer, report_lines, tokenizer_inputs
from polyana.tokenizer.config import END_OF_TEXT, TokenizerConfig
from polyana.tokenizer.count import TokenCounter
from polyana.tokenizer.learn import learn_bpe, learn_more
from polyana.tokenizer.text_tokenizer import TextTokenizer, pieces

__all__ = [
    "END_OF_TEXT",
    "VERSION",
    "TextTokenizer",
    "TokenCounter",
    "TokenizerConfig",
    "build_tokenizer",
    "learn_bpe",
    "learn_more",
    "pieces",
    "report_lines",
    "tokenizer_inputs",
]
