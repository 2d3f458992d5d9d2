"""The stages of one recipe below one home directory: how each is made, by its kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from polyana.corpus import ClassifierConfig, CorpusConfig, NgramsConfig, QualityConfig
from polyana.distributed import World
from polyana.errors import UserError
from polyana.evaluate import EvaluateConfig
from polyana.pipeline.evaluating import evaluation_step
from polyana.pipeline.rewards import synthesis_step
from polyana.pipeline.texts import corpus_step, judge_step, tokenizer_step
from polyana.pipeline.training import steps_before, task_of, training_step
from polyana.recipe import Recipe
from polyana.runs import Runs
from polyana.storage import ArtifactStore, ContentDigests, Making, Step
from polyana.synthesis import SynthesizeConfig
from polyana.tasks import AnswersConfig, ClassifyConfig, LanguageModelTask, SftConfig, TrainingStageConfig
from polyana.tokenizer import TokenizerConfig
from polyana.tracking import Console

__all__ = ["Pipeline"]


class Pipeline:
    """What each stage of a recipe is made from and how, below one home directory."""

    def __init__(self, recipe: Recipe, home: Path, console: Console, world: World | None = None) -> None:
        self.recipe, self.home, self.console = recipe, home, console
        self.world = world or World()
        self.store = ArtifactStore(home, console.stage)
        self.digests = ContentDigests(home / "digests.json")
        self.runs = Runs(home)

    def steps(self, names: list[str]) -> dict[str, Step]:
        """Stages by name. Raises UserError with every file and package that is not there."""
        steps, problems = {}, []
        for name in names:
            try:
                steps[name] = self.step(name)
            except UserError as error:
                problems += [problem for problem in error.problems if problem not in problems]
        if problems:
            raise UserError(problems)
        return steps

    def step(self, name: str) -> Step:
        """A stage by its name. Raises UserError when files or packages that it reads are not there."""
        match self.recipe.stages[name]:
            case ClassifierConfig() | NgramsConfig() | QualityConfig() as config:
                return judge_step(self, name, config)
            case CorpusConfig() as config:
                return corpus_step(self, name, config)
            case TokenizerConfig() as config:
                return tokenizer_step(self, name, config)
            case EvaluateConfig() as config:
                return evaluation_step(self, name, config)
            case SynthesizeConfig() as config:
                return synthesis_step(self, name, config)
            case TrainingStageConfig() as config:
                return training_step(self, name, config)

    def before(self, name: str, config: TrainingStageConfig) -> dict[str, Step]:
        """What a training stage needs and no stage of the recipe is, by what it is to it."""
        return steps_before(self, name, config)

    def task(self, name: str) -> LanguageModelTask:
        """The task of the training stage `name`, with its data, which are made now if they are not there yet."""
        return task_of(self, name)

    def artifact(self, name: str, making: Making, fill: Callable[[Path], None]) -> Step:
        """One thing to have, under a name that the user reads."""
        return Step(f"{self.recipe.name}/{name}", making, fill)

    def making_data(self, config: SftConfig | AnswersConfig | ClassifyConfig) -> dict[str, Step]:
        """The stages that make some of the data, by name."""
        return {each.stage: self.step(each.stage) for each in config.data if each.stage is not None}

    def directories(self, steps: Mapping[str, Step]) -> dict[str, Path]:
        """What steps made, or make now, by their names."""
        return {name: self.store.get(step).directory for name, step in steps.items()}

    def tell(self, lines: list[str]) -> None:
        """Say what came of a stage, below its line."""
        for line in lines:
            self.console.say(f"  {line}")
