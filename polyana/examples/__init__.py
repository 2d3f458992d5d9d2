"""Rows of many forms -> conversations -> tokens, each with what it counts in the loss."""

from polyana.examples.build import VERSION, Example, examples
from polyana.examples.config import ExamplesConfig, ExampleSource, Forms, TemplateConfig, same_names, with_stages
from polyana.examples.conversation import BadRow, Conversation, PlainText, conversation_of
from polyana.examples.preference import Preference, preferences_of
from polyana.examples.preference_build import PREFERENCES_VERSION, Item, preference_items
from polyana.examples.preference_config import PreferencesConfig, PreferenceSource
from polyana.examples.preference_report import auc, preference_report, preference_report_lines
from polyana.examples.prompts import Prompt, PromptSource, ask, prompt_inputs, read_prompts
from polyana.examples.report import ExamplesReport, SourceReport, report_lines
from polyana.examples.rows import SourceRow, example_inputs, read_rows, template_inputs
from polyana.examples.template import ChatTemplate, Written, question

__all__ = [
    "PREFERENCES_VERSION",
    "VERSION",
    "BadRow",
    "ChatTemplate",
    "Conversation",
    "Example",
    "ExampleSource",
    "ExamplesConfig",
    "ExamplesReport",
    "Forms",
    "Item",
    "PlainText",
    "Preference",
    "PreferenceSource",
    "PreferencesConfig",
    "Prompt",
    "PromptSource",
    "SourceReport",
    "SourceRow",
    "TemplateConfig",
    "Written",
    "ask",
    "auc",
    "conversation_of",
    "example_inputs",
    "examples",
    "preference_items",
    "preference_report",
    "preference_report_lines",
    "preferences_of",
    "prompt_inputs",
    "question",
    "read_prompts",
    "read_rows",
    "report_lines",
    "same_names",
    "template_inputs",
    "with_stages",
]
