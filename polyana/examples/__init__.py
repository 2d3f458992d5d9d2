"""Rows of many forms -> conversations -> tokens, each with what it counts in the loss."""

from polyana.examples.build import VERSION, Example, examples
from polyana.examples.config import ExamplesConfig, ExampleSource, TemplateConfig
from polyana.examples.conversation import BadRow, Conversation, PlainText, conversation_of
from polyana.examples.report import ExamplesReport, SourceReport, report_lines
from polyana.examples.rows import SourceRow, example_inputs, read_rows, template_inputs
from polyana.examples.template import ChatTemplate, Written, question

__all__ = [
    "VERSION",
    "BadRow",
    "ChatTemplate",
    "Conversation",
    "Example",
    "ExampleSource",
    "ExamplesConfig",
    "ExamplesReport",
    "PlainText",
    "SourceReport",
    "SourceRow",
    "TemplateConfig",
    "Written",
    "conversation_of",
    "example_inputs",
    "examples",
    "question",
    "read_rows",
    "report_lines",
    "template_inputs",
]
