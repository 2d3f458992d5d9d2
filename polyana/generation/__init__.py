"""What a model writes: after a text, in a dialog, many answers at once."""

from polyana.generation.dialog import Dialog
from polyana.generation.sampling import Drawn, draw_answers
from polyana.generation.write import (
    GenerationConfig,
    GrowingText,
    SampleConfig,
    as_question,
    continue_ids,
    ends_of,
    generate,
    load_for_generation,
    load_in_turn,
    seeded,
    write_after,
)

__all__ = [
    "Dialog",
    "Drawn",
    "GenerationConfig",
    "GrowingText",
    "SampleConfig",
    "as_question",
    "continue_ids",
    "draw_answers",
    "ends_of",
    "generate",
    "load_for_generation",
    "load_in_turn",
    "seeded",
    "write_after",
]
