"""What a pretrained model is trained on, in its own tokens."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyana import examples
from polyana.errors import blaming
from polyana.examples import example_inputs, template_inputs, with_stages
from polyana.pipeline.models import start_step
from polyana.pipeline.parallel import parallel_step
from polyana.storage import Making, Step, fingerprints, locked
from polyana.tasks import (
    CLASSIFY_VERSION,
    REFERENCE_VERSION,
    UNITS_VERSION,
    AnswersConfig,
    ClassifyConfig,
    PreferenceConfig,
    SftConfig,
    TranslateConfig,
    build_answers,
    build_examples,
    build_labelled,
    build_reference,
    build_units,
    labelled_lines,
)
from polyana.train import choose_precision

if TYPE_CHECKING:
    from polyana.pipeline.pipeline import Pipeline


def examples_step(pipeline: Pipeline, name: str, config: SftConfig | AnswersConfig | ClassifyConfig) -> Step:
    """Tokens and weights of what is to be learned, in the base's own tokens; a report, too, of judged answers and of
    classes."""
    base, where = start_step(pipeline, name, config), partial(pipeline.recipe.where, name)
    made, judged = pipeline.making_data(config), isinstance(config, AnswersConfig)
    classes = isinstance(config, ClassifyConfig)
    inputs = example_inputs(config, pipeline.recipe.base, pipeline.digests, where, fingerprints(made))
    inputs["base"] = base.making.fingerprint

    def fill(directory: Path) -> None:
        below, found = pipeline.store.get(base).directory, with_stages(config, pipeline.directories(made))
        with blaming(where()):
            build: Any = build_answers if judged else build_labelled if classes else build_examples
            report = build(found, pipeline.recipe.base, below, directory)
        pipeline.tell(examples.report_lines(report)[judged:])
        if judged:
            pipeline.tell(examples.preference_report_lines(report["preferences"]))
        if classes:
            pipeline.tell(labelled_lines(report))

    kind, version = ("answers", examples.PREFERENCES_VERSION) if judged else ("examples", examples.VERSION)
    if classes:
        kind, version = "labelled", CLASSIFY_VERSION
    return pipeline.artifact(kind, Making(kind, version, config.examples_identity(), inputs), fill)


def reference_step(pipeline: Pipeline, name: str, config: PreferenceConfig, items: Step) -> Step:
    """The same with what the reference, which is the base, makes of each answer."""
    base = start_step(pipeline, name, config)
    inputs = {"answers": items.making.fingerprint, "base": base.making.fingerprint}
    precision = choose_precision(config.train.precision).format
    settings = {"precision": precision, "four_bits": config.adapter.kind == "qlora"}
    making = Making("reference", REFERENCE_VERSION, settings, inputs)

    def fill(directory: Path) -> None:
        data, below = pipeline.store.get(items).directory, pipeline.store.get(base).directory
        workshop = pipeline.home / "reference" / making.fingerprint[:16]
        workshop.parent.mkdir(parents=True, exist_ok=True)
        with locked(workshop.with_suffix(".lock"), "these log-probabilities are being computed by another process"):
            build_reference(config, data, below, workshop, directory, pipeline.console)

    return pipeline.artifact("reference", making, fill)


def units_step(pipeline: Pipeline, name: str, config: TranslateConfig) -> Step:
    """What is asked and what is to be answered, in the base's own tokens."""
    base, text, where = (
        start_step(pipeline, name, config),
        parallel_step(pipeline, name, config),
        partial(pipeline.recipe.where, name),
    )
    inputs = template_inputs(config, pipeline.recipe.base, pipeline.digests, where)
    inputs |= {"base": base.making.fingerprint, "parallel": text.making.fingerprint}

    def fill(directory: Path) -> None:
        below = pipeline.store.get(base).directory
        sentences, seed = pipeline.store.get(text).directory, pipeline.recipe.seed
        with blaming(where()):
            report = build_units(config, pipeline.recipe.base, sentences, below, seed, directory)
        pipeline.tell([*report["units"], *examples.report_lines(report)])

    settings = config.units_identity() | {"seed": pipeline.recipe.seed}
    return pipeline.artifact("units", Making("units", UNITS_VERSION, settings, inputs), fill)
