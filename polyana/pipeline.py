"""What each stage of a recipe is made from, and how: the steps that run.py takes in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from polyana import corpus, data, examples, parallel, scores, synthesis, tasks, tokenizer
from polyana.config import KeyPath
from polyana.corpus import ClassifierConfig, Corpus, CorpusConfig, NgramsConfig, QualityConfig
from polyana.distributed import World
from polyana.errors import Problem, UserError
from polyana.evaluate import EvaluateConfig, stage_and_revision, suite_files, trigram_bits_per_byte
from polyana.examples import ExamplesConfig, example_inputs, prompt_inputs, template_inputs, with_stages
from polyana.models import (
    BASE_VERSION,
    BaseReference,
    base_inputs,
    bytes_of,
    check_packing,
    convert_base,
    copy_model,
    count_parameters,
    licence_of_directory,
    merge_adapter,
    parse_base,
)
from polyana.parallel import ParallelText
from polyana.recipe import Recipe
from polyana.registry import Repository, find_repository
from polyana.rewards import Needs, PartConfig, Reward, open_reward
from polyana.runs import Ingredients, Runs, train
from polyana.storage import (
    ArtifactStore,
    ContentDigests,
    Making,
    Step,
    locked,
    read_json,
    show_bytes,
    write_json,
)
from polyana.synthesis import SynthesizeConfig
from polyana.tasks import (
    GOLD_VERSION,
    REFERENCE_VERSION,
    START_VERSION,
    UNITS_VERSION,
    AnswersConfig,
    FineTuneConfig,
    LanguageModelTask,
    PreferenceConfig,
    PretrainConfig,
    SftConfig,
    TrainingStageConfig,
    TranslateConfig,
    asked_in,
    build_answers,
    build_examples,
    build_reference,
    build_start,
    build_units,
    learned_texts,
    outline_model,
    start_identity,
    write_gold,
)
from polyana.tokenizer import TextTokenizer, TokenizerConfig
from polyana.tracking import Console
from polyana.train import TrainingPlan, available_bytes, choose_precision, optimizer_bytes, probe

__all__ = ["Pipeline"]


@contextmanager
def _blaming(where: str) -> Iterator[None]:
    """Give a place in the recipe to problems that have none."""
    try:
        yield
    except UserError as error:
        raise UserError([Problem(problem.where or where, problem.what) for problem in error.problems]) from None


def _fingerprints(steps: Mapping[str, Step]) -> dict[str, str]:
    return {name: step.making.fingerprint for name, step in steps.items()}


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
            case ClassifierConfig() as config:
                return self.classifier(name, config)
            case CorpusConfig() as config:
                return self.corpus(name, config)
            case NgramsConfig() as config:
                return self.ngrams(name, config)
            case QualityConfig() as config:
                return self.quality(name, config)
            case TokenizerConfig() as config:
                return self.tokenizer(name, config)
            case EvaluateConfig() as config:
                return self.evaluation(name, config)
            case SynthesizeConfig() as config:
                return self.synthesis(name, config)
            case TrainingStageConfig() as config:
                return self.training(name, config)

    def classifier(self, name: str, config: ClassifierConfig) -> Step:
        inputs = corpus.classifier_inputs(config, self.recipe.base, self.digests, partial(self.recipe.where, name))
        self.digests.save()

        def fill(directory: Path) -> None:
            report = corpus.build_classifier(config, self.recipe.base, directory, self.console)
            self._tell(corpus.classifier_report_lines(report))

        return self._step(name, Making("classifier", corpus.CLASSIFIER_VERSION, config.identity(), inputs), fill)

    def corpus(self, name: str, config: CorpusConfig) -> Step:
        where = partial(self.recipe.where, name)
        inputs = corpus.corpus_inputs(config, self.recipe.base, self.digests, where)
        self.digests.save()
        judges = {stage: self.step(stage) for stage in config.judges}
        inputs |= {f"stages.{stage}": step.making.fingerprint for stage, step in judges.items()}
        counter = None
        if config.tokenizer is not None:
            counter = tokenizer.TokenCounter(corpus.tokenizer_directory(config.tokenizer, self.recipe.base))
        embedders = {written: self._embedder(name, place, written) for place, written in config.embedders.items()}
        inputs |= {
            f"steps.{place}.model": embedders[each].making.fingerprint for place, each in config.embedders.items()
        }

        def fill(directory: Path) -> None:
            workshop = self.home / "mill" / f"{self.recipe.name}-{name}"
            workshop.mkdir(parents=True, exist_ok=True)
            busy = f"{self.recipe.name}/{name} is being made by another process"
            with locked(workshop.with_suffix(".lock"), busy):
                models = {each: self.store.get(step).directory for each, step in (judges | embedders).items()}
                with _blaming(where()):
                    report = corpus.build_corpus(
                        config, self.recipe.base, directory, self.console, workshop=workshop, inputs=inputs,
                        models=models, count_tokens=counter,
                    )  # fmt: skip
            self._tell(corpus.report_lines(report, self.store.place(making)))

        making = Making("corpus", corpus.VERSION, config.identity(), inputs)
        return self._step(name, making, fill)

    def _embedder(self, name: str, place: int, written: str) -> Step:
        """The model that a corpus's step asks for vectors, as an ordinary directory."""
        return self._read_only(name, written, ("steps", place, "model"), "embedder")

    def _read_only(self, name: str, written: str, at: KeyPath, need: Needs) -> Step:
        """A model that is read and not learned on from, which the setting at `at` names."""
        where = self.recipe.where(name, *at)
        try:
            reference = parse_base(written)
        except ValueError as error:
            raise UserError([Problem(where, str(error))]) from None
        if reference.kind in ("stage", "run") and need == "embedder":
            raise UserError([Problem(where, f"`{written}` is no path; write a directory as `./{written}`")])
        if reference.kind in ("stage", "run"):
            return self.base(name, written, at)
        inputs = base_inputs(reference, self.recipe.base, self.digests, lambda *_: where, "model")

        def fill(directory: Path) -> None:
            with _blaming(where):
                if need == "sequence_classifier":
                    copy_model(reference, inputs, self.recipe.base, directory)
                else:
                    convert_base(reference, inputs, self.recipe.base, directory, self.console, "model")

        kind = "embedder" if need == "embedder" else "scorer"
        return self._step(kind, Making(kind, BASE_VERSION, {}, inputs), fill)

    def ngrams(self, name: str, config: NgramsConfig) -> Step:
        inputs = corpus.ngrams_inputs(config, self.recipe.base, self.digests, partial(self.recipe.where, name))
        self.digests.save()

        def fill(directory: Path) -> None:
            report = corpus.build_ngrams(config, self.recipe.base, directory, self.console)
            self._tell(corpus.ngrams_report_lines(report))

        return self._step(name, Making("ngrams", corpus.NGRAMS_VERSION, config.identity(), inputs), fill)

    def quality(self, name: str, config: QualityConfig) -> Step:
        inputs = corpus.quality_inputs(config, self.recipe.base, self.digests, partial(self.recipe.where, name))
        self.digests.save()

        def fill(directory: Path) -> None:
            report = corpus.build_quality(config, self.recipe.base, directory, self.console)
            self._tell(corpus.quality_report_lines(report))

        return self._step(name, Making("quality", corpus.QUALITY_VERSION, config.identity(), inputs), fill)

    def tokenizer(self, name: str, config: TokenizerConfig) -> Step:
        text = self.step(config.corpus)
        where = partial(self.recipe.where, name)
        inputs = tokenizer.tokenizer_inputs(config, self.recipe.base, self.digests, where)
        inputs["corpus"] = text.making.fingerprint

        def fill(directory: Path) -> None:
            documents = Corpus(self.store.get(text).directory)
            tokenizer.build_tokenizer(config, self.recipe.base, documents, directory, self.console)
            self._tell(tokenizer.report_lines(directory))

        return self._step(name, Making("tokenizer", tokenizer.VERSION, config.identity(), inputs), fill)

    def tokens(self, config: PretrainConfig) -> Step:
        """Made once for each pair of corpus and tokenizer, whichever stages train on it."""
        text, cutter = self.step(config.corpus), self.step(config.tokenizer)
        inputs = {"corpus": text.making.fingerprint, "tokenizer": cutter.making.fingerprint}

        def fill(directory: Path) -> None:
            documents, words = (
                Corpus(self.store.get(text).directory),
                TextTokenizer(self.store.get(cutter).directory),
            )
            data.tokenise(documents, words, directory, self.console)

        return self._step("tokens", Making("tokens", data.VERSION, {}, inputs), fill)

    def baseline(self, config: PretrainConfig) -> Step:
        """Bits per byte of a character trigram on the held-out documents; null when nothing is held out."""
        text = self.step(config.corpus)

        def fill(directory: Path) -> None:
            documents, bits = Corpus(self.store.get(text).directory), None
            if documents.report["total"]["eval"]["documents"]:
                train, held_out = ((item.text for item in documents.documents(part)) for part in ("train", "eval"))
                bits = trigram_bits_per_byte(train, held_out)
            write_json(directory / "baseline.json", {"trigram_bits_per_byte": bits})

        return self._step("baseline", Making("baseline", 1, {}, {"corpus": text.making.fingerprint}), fill)

    def start(self, name: str, config: FineTuneConfig) -> Step:
        """The model that a stage starts from, as an ordinary directory: its base, one with more tokens, a new one."""
        base, settings = self.base(name, config.base) if config.base is not None else None, start_identity(config)
        if base is not None and not settings:
            return base
        inputs: dict[str, Any] = {"base": base.making.fingerprint} if base is not None else {"seed": self.recipe.seed}
        text, made = None, dict[str, Step]()
        if base is None or config.vocabulary.pieces:
            if isinstance(config, TranslateConfig):
                text = self.parallel(name, config)
                inputs["text"] = text.making.fingerprint
            elif isinstance(config, SftConfig):
                where, made = partial(self.recipe.where, name), self._making_data(config)
                inputs |= example_inputs(config, self.recipe.base, self.digests, where, _fingerprints(made))
                settings |= {each: config.identity()[each] for each in ("data", "held_out")}

        def fill(directory: Path) -> None:
            below = self.store.get(base).directory if base is not None else None
            found = with_stages(config, self._directories(made))
            with _blaming(self.recipe.where(name)):
                told = build_start(config, below, partial(self._texts, found, text), self.recipe.seed, directory)
            if below is not None:
                known = read_json(below / "base.json") if (below / "base.json").exists() else {}
                write_json(directory / "base.json", {"licence": known.get("licence")})
            self._tell(told)

        return self._step("start", Making("start", START_VERSION, settings, inputs), fill)

    def _texts(self, config: FineTuneConfig, text: Step | None) -> Iterable[str]:
        """What a stage is trained on, before it is tokens."""
        if text is not None:
            return ParallelText(self.store.get(text).directory).texts("train")
        assert isinstance(config, SftConfig)
        return learned_texts(config, self.recipe.base)

    def base(self, name: str, written: str, at: KeyPath = ("base",)) -> Step:
        """The model that `base: ...` of a stage names, or another setting at `at`, as an ordinary directory."""
        reference, where = parse_base(written), self.recipe.where(name, *at)
        if reference.kind == "stage":
            trained, revision = self.step(reference.name), reference.revision or "best"

            def fill_from_stage(directory: Path) -> None:
                self.store.get(trained)
                run = self.runs.of(trained.making)
                assert run is not None
                repository = Repository(self.home / "hub", run.name)
                commit = repository.resolve(revision)
                below = self.recipe.stages[reference.name]
                if "adapter_config.json" in commit.files:
                    assert isinstance(below, FineTuneConfig)
                    beneath = self.store.get(self.start(reference.name, below)).directory
                    merge_adapter(beneath, repository.snapshot(commit), directory)
                else:
                    for file in commit.files:
                        repository.link(commit, file, directory / file)
                write_json(directory / "base.json", {"licence": licence_of_directory(repository.snapshot(commit))})

            inputs: dict[str, Any] = {"stage": trained.making.fingerprint, "revision": revision}
            return self._step("base", Making("base", BASE_VERSION, {}, inputs), fill_from_stage)
        if reference.kind == "run":
            return self._base_of_run(reference, where)
        inputs = dict(base_inputs(reference, self.recipe.base, self.digests, lambda *_: where))

        def fill(directory: Path) -> None:
            with _blaming(where):
                licence = convert_base(reference, inputs, self.recipe.base, directory, self.console)
            place = {"name": reference.name, "revision": inputs["commit"]} if reference.kind == "hub" else {}
            write_json(directory / "base.json", place | {"licence": licence})

        return self._step("base", Making("base", BASE_VERSION, {}, inputs), fill)

    def _base_of_run(self, reference: BaseReference, where: str) -> Step:
        """A model of the registry, whoever has trained it."""
        with _blaming(where):
            repository = find_repository(self.home / "hub", reference.name)
            commit = repository.resolve(reference.revision or ("best" if "best" in repository.refs() else "main"))
            if "adapter_config.json" in commit.files:
                merge = f"polyana models export {repository.run}@step-{commit.step} --to merged"
                raise UserError(
                    f"`base: {reference}` is an adapter; make it one model with its base, as `{merge}` does"
                )

        def fill(directory: Path) -> None:
            with _blaming(where), repository.holding(commit):
                here = BaseReference("path", str(repository.snapshot(commit)))
                convert_base(here, {}, self.recipe.base, directory, self.console)

        return self._step("base", Making("base", BASE_VERSION, {}, {"commit": commit.id}), fill)

    def examples(self, name: str, config: SftConfig) -> Step:
        """Tokens and weights of what is to be learned, in the base's own tokens."""
        base, where, made = self.start(name, config), partial(self.recipe.where, name), self._making_data(config)
        inputs = example_inputs(config, self.recipe.base, self.digests, where, _fingerprints(made))
        inputs["base"] = base.making.fingerprint

        def fill(directory: Path) -> None:
            below, found = self.store.get(base).directory, with_stages(config, self._directories(made))
            with _blaming(where()):
                report = build_examples(found, self.recipe.base, below, directory)
            self._tell(examples.report_lines(report))

        making = Making("examples", examples.VERSION, config.examples_identity(), inputs)
        return self._step("examples", making, fill)

    def answers(self, name: str, config: AnswersConfig) -> Step:
        """Tokens of judged answers, in the base's own, with a report of what they are like."""
        base, where, made = self.start(name, config), partial(self.recipe.where, name), self._making_data(config)
        inputs = example_inputs(config, self.recipe.base, self.digests, where, _fingerprints(made))
        inputs["base"] = base.making.fingerprint

        def fill(directory: Path) -> None:
            below, found = self.store.get(base).directory, with_stages(config, self._directories(made))
            with _blaming(where()):
                report = build_answers(found, self.recipe.base, below, directory)
            self._tell(examples.report_lines(report)[1:])
            self._tell(examples.preference_report_lines(report["preferences"]))

        making = Making("answers", examples.PREFERENCES_VERSION, config.answers_identity(), inputs)
        return self._step("answers", making, fill)

    def reference(self, name: str, config: PreferenceConfig, items: Step) -> Step:
        """The same with what the reference, which is the base, makes of each answer."""
        base = self.start(name, config)
        inputs = {"answers": items.making.fingerprint, "base": base.making.fingerprint}
        settings = {"precision": choose_precision(config.train.precision).format}
        making = Making("reference", REFERENCE_VERSION, settings, inputs)

        def fill(directory: Path) -> None:
            data, below = self.store.get(items).directory, self.store.get(base).directory
            workshop = self.home / "reference" / making.fingerprint[:16]
            workshop.parent.mkdir(parents=True, exist_ok=True)
            with locked(workshop.with_suffix(".lock"), "these log-probabilities are being computed by another process"):
                build_reference(config, data, below, workshop, directory, self.console)

        return self._step("reference", making, fill)

    def synthesis(self, name: str, config: SynthesizeConfig) -> Step:
        """Answers to prompts, scored, and pairs of them."""
        where = partial(self.recipe.where, name)
        inputs = prompt_inputs(config.prompts, self.recipe.base, self.digests, where)
        if config.corrupt is not None and config.corrupt.foreign is not None:
            foreign = self.recipe.base / Path(config.corrupt.foreign).expanduser()
            if not foreign.is_file():
                what = f"`{config.corrupt.foreign}` does not exist (looked for {foreign})"
                raise UserError(Problem(where("corrupt", "foreign"), what))
            inputs["foreign"] = self.digests.of(foreign)
        self.digests.save()
        revisions = {each: self.base(name, each, ("of", place)) for place, each in enumerate(config.of)}
        inputs |= {f"of.{place}": step.making.fingerprint for place, step in enumerate(revisions.values())}
        models = self.reward_models(name, ("reward",), config.reward)
        inputs |= {f"reward.{part}": _fingerprints(steps) for part, steps in models.items() if steps}

        def fill(directory: Path) -> None:
            workshop = self.home / "synthesis" / f"{self.recipe.name}-{name}"
            workshop.mkdir(parents=True, exist_ok=True)
            busy = f"{self.recipe.name}/{name} is being made by another process"
            with locked(workshop.with_suffix(".lock"), busy), _blaming(where()):
                answering = {each: (self.store.get(step).directory, step.making.fingerprint)
                             for each, step in revisions.items()}  # fmt: skip
                reward = self.reward(config.reward, models, next(place for place, _ in answering.values()))
                report = synthesis.build_synthesis(
                    config, self.recipe.base, answering, reward, self.recipe.seed, workshop, directory, self.console
                )
            self._tell(synthesis.report_lines(report))

        settings = config.identity() | {"seed": self.recipe.seed}
        return self._step(name, Making("synthesize", synthesis.SYNTHESIS_VERSION, settings, inputs), fill)

    def reward_models(
        self, name: str, setting: KeyPath, parts: Sequence[PartConfig]
    ) -> dict[str, dict[str, Step]]:  # fmt: skip
        """What the models are made from that a reward's parts name: by part, then by setting."""
        found: dict[str, dict[str, Step]] = {}
        for place, part in enumerate(parts):
            steps = found[part.called] = {}
            for each, need in part.needs.items():
                written, at = str(getattr(part, each)), (*setting, place, each)
                if need == "stage":
                    steps[each] = self.step(written)
                elif need == "causal":
                    steps[each] = self.base(name, written, at)
                else:
                    steps[each] = self._read_only(name, written, at, need)
        return found

    def reward(self, parts: Sequence[PartConfig], models: dict[str, dict[str, Step]], answering: Path) -> Reward:
        """The reward, ready to score. `answering`: the directory of the model whose tokens an answer's length is in."""
        from transformers import AutoTokenizer

        tokenizer: Any = AutoTokenizer.from_pretrained(answering, local_files_only=True)
        count = lambda text: len(tokenizer.encode(text, add_special_tokens=False))  # noqa: E731
        places = {part: self._directories(steps) for part, steps in models.items()}
        contents = {part: _fingerprints(steps) for part, steps in models.items()}
        return open_reward(parts, places, count, self.recipe.base, contents)

    def gold(self, name: str, config: PreferenceConfig) -> Step:
        """Prompts, and what answers to them are worth, to which training is held."""
        gold = config.gold
        assert gold is not None
        where, made = partial(self.recipe.where, name), self._making_data(config)
        proxy, owner = gold.proxy, name
        at: KeyPath = ("gold", "proxy")
        if not proxy:
            owner, at = next((each.stage for each in config.data if each.stage is not None), ""), ("reward",)
            maker = self.recipe.stages.get(owner)
            if not isinstance(maker, SynthesizeConfig):
                what = "write `proxy`, what the preferences were made by; none of the data come from a `synthesize`"
                raise UserError(Problem(where("gold"), what))
            proxy = maker.reward
        models = {
            "reward": self.reward_models(name, ("gold", "reward"), gold.reward),
            "proxy": self.reward_models(owner, at, proxy),
        }
        inputs = prompt_inputs(gold.prompts, self.recipe.base, self.digests, partial(where, "gold"))
        inputs |= {f"data.{stage}": step.making.fingerprint for stage, step in made.items()}
        inputs |= {
            f"{each}.{part}": _fingerprints(steps)
            for each, parts in models.items()
            for part, steps in parts.items()
            if steps
        }
        self.digests.save()

        def fill(directory: Path) -> None:
            places = {
                each: {part: self._directories(steps) for part, steps in parts.items()}
                for each, parts in models.items()
            }
            found = with_stages(config, self._directories(made))
            with _blaming(where("gold")):
                told = write_gold(gold, proxy, places, self.recipe.base, asked_in(found, self.recipe.base), directory)
            self._tell(told)

        settings = gold.measuring_identity() | {"proxy": [part.identity() for part in proxy]}
        return self._step("gold", Making("gold", GOLD_VERSION, settings, inputs), fill)

    def _making_data(self, config: ExamplesConfig | AnswersConfig) -> dict[str, Step]:
        """The stages that make some of the data."""
        return {each.stage: self.step(each.stage) for each in config.data if each.stage is not None}

    def _directories(self, steps: Mapping[str, Step]) -> dict[str, Path]:
        """What steps made, or make now, by their names."""
        return {name: self.store.get(step).directory for name, step in steps.items()}

    def parallel(self, name: str, config: TranslateConfig) -> Step:
        """Parallel text, cleaned and split; made once for all stages that read the same."""
        cache, where = self.home / "packages", partial(self.recipe.where, name)
        inputs = parallel.parallel_inputs(config, self.recipe.base, cache, self.digests, where)
        self.digests.save()

        def fill(directory: Path) -> None:
            with _blaming(where("data")):
                report = parallel.build_parallel(config, self.recipe.base, cache, directory, self.console)
            self._tell(parallel.report_lines(report))

        return self._step("parallel", Making("parallel", parallel.VERSION, config.text_identity(), inputs), fill)

    def units(self, name: str, config: TranslateConfig) -> Step:
        """What is asked and what is to be answered, in the base's own tokens."""
        base, text, where = self.start(name, config), self.parallel(name, config), partial(self.recipe.where, name)
        inputs = template_inputs(config, self.recipe.base, self.digests, where)
        inputs |= {"base": base.making.fingerprint, "parallel": text.making.fingerprint}

        def fill(directory: Path) -> None:
            below = self.store.get(base).directory
            sentences, seed = self.store.get(text).directory, self.recipe.seed
            with _blaming(where()):
                report = build_units(config, self.recipe.base, sentences, below, seed, directory)
            self._tell([*report["units"], *examples.report_lines(report)])

        settings = config.units_identity() | {"seed": self.recipe.seed}
        return self._step("units", Making("units", UNITS_VERSION, settings, inputs), fill)

    def before(self, name: str, config: TrainingStageConfig) -> dict[str, Step]:
        """What a training stage needs and no stage of the recipe is: `data`, its shards; `start`, what its model begins
        as; others by their name."""
        if isinstance(config, SftConfig):
            return {"start": self.start(name, config), "data": self.examples(name, config)}
        if isinstance(config, TranslateConfig):
            text, shards = self.parallel(name, config), self.units(name, config)
            return {"start": self.start(name, config), "text": text, "data": shards}
        if isinstance(config, AnswersConfig):
            items = self.answers(name, config)
            found = {"start": self.start(name, config), "data": items}
            if isinstance(config, PreferenceConfig) and config.gold is not None:
                found["gold"] = self.gold(name, config)
            if isinstance(config, PreferenceConfig) and config.chosen_reference == "stored":
                return found | {"items": items, "data": self.reference(name, config, items)}
            return found
        assert isinstance(config, PretrainConfig)
        return {"data": self.tokens(config), "start": self.step(config.tokenizer), "baseline": self.baseline(config)}

    def ingredients(self, name: str, config: TrainingStageConfig) -> Ingredients:
        """What a training stage trains on, made now if it is not there yet."""
        before = self.before(name, config)
        found = {what: self.store.get(before[what]).directory for what in ("data", "start", "gold") if what in before}
        text = self.store.find(self.step(config.corpus).making) if isinstance(config, PretrainConfig) else None
        return Ingredients(name, **found, text=text.directory if text is not None else None)

    def task(self, name: str) -> LanguageModelTask:
        """The task of the training stage `name`."""
        config = self.recipe.stages[name]
        assert isinstance(config, TrainingStageConfig)
        return self.ingredients(name, config).task(self.recipe)

    def training(self, name: str, config: TrainingStageConfig) -> Step:
        if self.world.size > 1 and config.train.strategy == "single":
            what = (
                f"`strategy: single` is for one process, and {self.world.size} were started; write auto, ddp or fsdp2"
            )
            raise UserError(Problem(self.recipe.where(name, "train", "strategy"), what))
        where = self.recipe.where(name, "train", "precision")
        try:
            choose_precision(config.train.precision)
        except UserError as error:
            raise UserError(Problem(where, error.problems[0].what)) from None
        settings = config.identity() | {"seed": self.recipe.seed}
        before = self.before(name, config)
        inputs = dict(before["data"].making.inputs)
        if "gold" in before:  # by which the best is picked
            inputs["gold"] = before["gold"].making.fingerprint
        making = Making(config.kind, tasks.VERSION, settings, inputs)

        def fill(directory: Path) -> None:
            ingredients = self.ingredients(name, config)
            self._check_memory(name, config, ingredients)
            with _blaming(self.recipe.where(name)):
                task = ingredients.task(self.recipe)
            try:
                TrainingPlan.of(config.train, task.per_epoch, task.tokens_per_epoch, task.context)
            except UserError as error:
                warmup = self.recipe.where(name, "train", "warmup")
                raise UserError(Problem(warmup, error.problems[0].what)) from None
            probe(task, where)
            check_packing(task.model)
            baseline = self.before(name, config).get("baseline")
            to_beat = read_json(self.store.get(baseline).directory / "baseline.json") if baseline else {}
            run = self.runs.of(making) or self.runs.begin(self.recipe, name, making, self.console)
            summary = train(run, self.recipe, ingredients, task, to_beat, self.world, self.console)
            write_json(directory / "summary.json", summary)

        return self._step(name, making, fill)

    def evaluation(self, name: str, config: EvaluateConfig) -> Step:
        """What saves of stages score on suites; kept with the saves, too."""
        measured = [(self.step(stage), stage, revision) for stage, revision in map(stage_and_revision, config.of)]
        files, problems = dict[str, Path](), list[Problem]()
        for index, suite in enumerate(config.suites):
            try:
                files |= {f"{index}/{inner}": path for inner, path in suite_files(suite, self.recipe.base).items()}
            except UserError as error:
                where = self.recipe.where(name, "suites", index)
                problems += [Problem(problem.where or where, problem.what) for problem in error.problems]
        if problems:
            raise UserError(problems)
        inputs: dict[str, Any] = {inner: self.digests.of(path) for inner, path in files.items()}
        self.digests.save()
        inputs["of"] = [[step.making.fingerprint, revision] for step, _, revision in measured]

        def fill(directory: Path) -> None:
            with _blaming(self.recipe.where(name)):
                saves = [self._saved(*each) for each in measured]
                told = scores.evaluate_all(
                    saves, config.suites, self.recipe.base, directory, self.console, config.precision
                )
            self._tell(told)

        return self._step(name, Making("evaluate", scores.VERSION, config.identity(), inputs), fill)

    def _saved(self, trained: Step, stage: str, revision: str) -> scores.Saved:
        """A save of a stage of this recipe, which is trained now if it is not yet."""
        self.store.get(trained)
        run, below = self.runs.of(trained.making), self.recipe.stages[stage]
        assert run is not None
        repository = Repository(self.home / "hub", run.name)
        commit = repository.resolve(revision)

        def base() -> Path | None:
            if "adapter_config.json" not in commit.files:
                return None
            assert isinstance(below, FineTuneConfig)
            return Path(self.store.get(self.start(stage, below)).directory)

        return scores.Saved(self.home, run, commit, repository.snapshot(commit), base)

    def _check_memory(self, name: str, config: TrainingStageConfig, ingredients: Ingredients) -> None:
        """Raises UserError for a model that cannot be held here, before the system kills whatever is largest."""
        with torch.device("meta"), _blaming(self.recipe.where(name)):
            model = outline_model(config, ingredients.start)
        trained = 4 * count_parameters(model)
        held = sum(map(bytes_of, model.parameters())) + trained + optimizer_bytes(model, config.train.optimizer)
        device = choose_precision(config.train.precision).device
        # each process on this machine holds all of it; fsdp2 parts it among them
        copies = self.world.local_size if device.type == "cpu" else 1
        needed = held * copies / (self.world.size if config.train.strategy == "fsdp2" else 1)
        available = available_bytes(device)
        if needed > available:
            what = (
                f"weights, gradients and optimizer need {show_bytes(needed)}, and {show_bytes(available)} of memory "
                "are available; `polyana plan` says what would fit"
            )
            raise UserError(Problem(self.recipe.where(name), what))

    def _step(self, name: str, making: Making, fill: Any) -> Step:
        return Step(f"{self.recipe.name}/{name}", making, fill)

    def _tell(self, lines: list[str]) -> None:
        for line in lines:
            self.console.say(f"  {line}")
