"""Polyana: train language models from one YAML recipe.

>>> import polyana
>>> recipe = polyana.load_recipe("recipes/presidents.yaml", ["stages.pretrain.train.lr=1e-3"])
>>> summaries = polyana.run_recipe(recipe)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polyana.heap import bound_kernels

if TYPE_CHECKING:
    from polyana.recipe import Recipe, load_recipe
    from polyana.run import run_recipe

__all__ = ["Recipe", "load_recipe", "run_recipe"]

bound_kernels()  # torch reads it once


def __getattr__(name: str) -> Any:
    """Imported when asked for: torch takes seconds, and most commands do without."""
    if name in ("Recipe", "load_recipe"):
        from polyana import recipe

        return getattr(recipe, name)
    if name == "run_recipe":
        from polyana.run import run_recipe

        return run_recipe
    raise AttributeError(f"module 'polyana' has no attribute '{name}'")
