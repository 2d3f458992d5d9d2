"""Parallel text for stages that translate."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from polyana import parallel
from polyana.errors import blaming
from polyana.storage import Making, Step
from polyana.tasks import TranslateConfig

if TYPE_CHECKING:
    from polyana.pipeline.pipeline import Pipeline


def parallel_step(pipeline: Pipeline, name: str, config: TranslateConfig) -> Step:
    """Parallel text, cleaned and split; made once for all stages that read the same."""
    cache, where = pipeline.home / "packages", partial(pipeline.recipe.where, name)
    inputs = parallel.parallel_inputs(config, pipeline.recipe.base, cache, pipeline.digests, where)
    pipeline.digests.save()

    def fill(directory: Path) -> None:
        with blaming(where("data")):
            report = parallel.build_parallel(config, pipeline.recipe.base, cache, directory, pipeline.console)
        pipeline.tell(parallel.report_lines(report))

    return pipeline.artifact("parallel", Making("parallel", parallel.VERSION, config.text_identity(), inputs), fill)
