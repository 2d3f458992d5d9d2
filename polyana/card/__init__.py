"""What a save says of itself: README.md, as the Hugging Face Hub shows it, and its curves as a picture."""

from polyana.card.card import Facts, ModelCard
from polyana.card.curves import Curve, CurveReader
from polyana.card.facts import facts_of

__all__ = ["Curve", "CurveReader", "Facts", "ModelCard", "facts_of"]
