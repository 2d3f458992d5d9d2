"""Answers that models give, what they are worth, and the measure that training is held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polyana import synthesis
from polyana.config import KeyPath
from polyana.errors import Problem, UserError, blaming
from polyana.examples import prompt_inputs, with_stages
from polyana.pipeline.models import base_step, read_only_step
from polyana.rewards import HumanPartConfig, LengthPartConfig, PartConfig, Reward, open_reward
from polyana.storage import Making, Step, fingerprints, locked, read_json
from polyana.synthesis import SynthesizeConfig
from polyana.tasks import GOLD_VERSION, PreferenceConfig, asked_in, write_gold

if TYPE_CHECKING:
    from polyana.pipeline.pipeline import Pipeline


def synthesis_step(pipeline: Pipeline, name: str, config: SynthesizeConfig) -> Step:
    """Answers to prompts, scored, and pairs of them."""
    where = partial(pipeline.recipe.where, name)
    inputs = prompt_inputs(config.prompts, pipeline.recipe.base, pipeline.digests, where)
    if config.corrupt is not None and config.corrupt.foreign is not None:
        foreign = pipeline.recipe.base / Path(config.corrupt.foreign).expanduser()
        if not foreign.is_file():
            what = f"`{config.corrupt.foreign}` does not exist (looked for {foreign})"
            raise UserError(Problem(where("corrupt", "foreign"), what))
        inputs["foreign"] = pipeline.digests.of(foreign)
    pipeline.digests.save()
    revisions = {each: base_step(pipeline, name, each, ("of", place)) for place, each in enumerate(config.of)}
    inputs |= {f"of.{place}": step.making.fingerprint for place, step in enumerate(revisions.values())}
    models = reward_models(pipeline, name, ("reward",), config.reward)
    inputs |= {f"reward.{part}": fingerprints(steps) for part, steps in models.items() if steps}
    judged = {part.called: {path.name: pipeline.digests.of(path) for path in part.files(pipeline.recipe.base)}
              for part in config.reward if isinstance(part, HumanPartConfig)}  # fmt: skip
    inputs |= {f"judged.{part}": files for part, files in judged.items()}

    def fill(directory: Path) -> None:
        workshop = pipeline.home / "synthesis" / f"{pipeline.recipe.name}-{name}"
        workshop.mkdir(parents=True, exist_ok=True)
        busy = f"{pipeline.recipe.name}/{name} is being made by another process"
        with locked(workshop.with_suffix(".lock"), busy), blaming(where()):
            answering = {each: (pipeline.store.get(step).directory, step.making.fingerprint)
                         for each, step in revisions.items()}  # fmt: skip
            answers = next(place for place, _ in answering.values())
            wheres = [where("reward", place) for place in range(len(config.reward))]
            reward = _reward(pipeline, config.reward, models, judged, answers, wheres)
            report = synthesis.build_synthesis(
                config,
                pipeline.recipe.base,
                answering,
                reward,
                pipeline.recipe.seed,
                workshop,
                directory,
                pipeline.console,
            )
        pipeline.tell(synthesis.report_lines(report))

    settings = config.identity() | {"seed": pipeline.recipe.seed}
    return pipeline.artifact(name, Making("synthesize", synthesis.SYNTHESIS_VERSION, settings, inputs), fill)


def reward_models(pipeline: Pipeline, name: str, setting: KeyPath, parts: Sequence[PartConfig]
) -> dict[str, dict[str, Step]]:  # fmt: skip
    """What the models are made from that a reward's parts name: by part, then by setting."""
    found: dict[str, dict[str, Step]] = {}
    for place, part in enumerate(parts):
        steps = found[part.called] = {}
        for each, need in part.needs.items():
            written, at = str(getattr(part, each)), (*setting, place, each)
            if need == "stage":
                steps[each] = pipeline.step(written)
            elif need == "causal":
                steps[each] = base_step(pipeline, name, written, at)
            else:
                steps[each] = read_only_step(pipeline, name, written, at, need)
    return found


def _reward(
    pipeline: Pipeline, parts: Sequence[PartConfig], models: dict[str, dict[str, Step]],
    judged: Mapping[str, Mapping[str, str]], answering: Path, wheres: Sequence[str],
) -> Reward:  # fmt: skip
    """The reward, ready to score. judged: by part, what its files of judgements hold. `answering`: the directory of the
    model whose tokens an answer's length is in. wheres: the parts' places in the recipe."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(answering, local_files_only=True)
    count = lambda text: len(tokenizer.encode(text, add_special_tokens=False))  # noqa: E731
    places = {part: pipeline.directories(steps) for part, steps in models.items()}
    contents = {part: fingerprints(steps) | dict(judged.get(part, {})) for part, steps in models.items()}
    for part in parts:
        if isinstance(part, LengthPartConfig) and part.unit == "tokens":
            contents[part.called] = {"tokens of": answering.name}
    return open_reward(parts, places, count, pipeline.recipe.base, contents, wheres)


def gold_step(pipeline: Pipeline, name: str, config: PreferenceConfig) -> Step:
    """Prompts, and what answers to them are worth, to which training is held."""
    gold = config.gold
    assert gold is not None
    where, made = partial(pipeline.recipe.where, name), pipeline.making_data(config)
    owner, at, proxy = pipeline.recipe.proxy_of(name, config)
    models = {
        "reward": reward_models(pipeline, name, ("gold", "reward"), gold.reward),
        "proxy": reward_models(pipeline, owner, at, proxy),
    }
    inputs = prompt_inputs(gold.prompts, pipeline.recipe.base, pipeline.digests, partial(where, "gold"))
    inputs |= {f"data.{stage}": step.making.fingerprint for stage, step in made.items()}
    inputs |= {
        f"{each}.{part}": fingerprints(steps)
        for each, parts in models.items()
        for part, steps in parts.items()
        if steps
    }
    pipeline.digests.save()

    def fill(directory: Path) -> None:
        places = {
            each: {part: pipeline.directories(steps) for part, steps in parts.items()} for each, parts in models.items()
        }
        directories = pipeline.directories(made)
        found = with_stages(config, directories)
        best_of = {} if gold.proxy else dict(read_json(directories[owner] / "report.json")["best_of"])
        with blaming(where("gold")):
            trained = asked_in(found, pipeline.recipe.base, config.single)
            told = write_gold(gold, places, pipeline.recipe.base, trained, best_of, directory)
        pipeline.tell(told)

    settings = gold.measuring_identity() | {"proxy": [part.identity() for part in proxy]}
    return pipeline.artifact("gold", Making("gold", GOLD_VERSION, settings, inputs), fill)
