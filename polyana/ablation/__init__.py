"""What cleaning bought: the same small model, trained on raw and on cleaned text, measured on held-out clean text."""

from polyana.ablation.stage import ablation_step

__all__ = ["ablation_step"]
