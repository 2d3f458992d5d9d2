"""What a run was trained on and what it held out, for those who measure its saves."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import chain, groupby, pairwise
from operator import attrgetter
from pathlib import Path
from typing import Any

from polyana.corpus import Corpus
from polyana.data import TokenData, TokenShards
from polyana.errors import Damaged, UserError
from polyana.evaluate import HeldOutExamples, HeldOutText, Test, TranslationSuiteConfig
from polyana.parallel import ParallelText
from polyana.recipe import load_recipe
from polyana.storage import read_json
from polyana.tasks import TranslateConfig, translation_test
from polyana.tracking import RunDirectory, find_runs

__all__ = ["TrainingText", "TrainingTextGone", "surroundings_of"]


class TrainingTextGone(Exception):
    """Why the text that a run was trained on is not there to look anything up in."""


class TrainingText:
    """All the text that a run's model was trained on in this home. `name`: the same for the same text. `note`: what it
    leaves out."""

    def __init__(self, parts: list[tuple[str, Path]], note: str) -> None:
        self._parts, self.note = parts, note
        self.name = "+".join(path.name for _, path in parts)

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(_texts(kind, path) for kind, path in self._parts)


def surroundings_of(home: Path, run: RunDirectory) -> RunSurroundings:
    return RunSurroundings(home, run)


class RunSurroundings:
    """What a suite takes from the run whose model it measures (evaluate.Surroundings)."""

    def __init__(self, home: Path, run: RunDirectory) -> None:
        self._home, self._run = home, run

    def held_out(self) -> HeldOutText | HeldOutExamples:
        data = self._data()
        if data.name.startswith("tokens-"):
            documents = list(Corpus(self._stage(self._inputs(data)["corpus"], "corpus")).documents("eval"))
            if not documents:
                raise UserError(f"{self._run.name} held no text out; name texts with --data, or in a suite's file")
            return HeldOutText(documents)
        if data.name.partition("-")[0] not in ("examples", "units"):
            raise UserError(
                f"{self._run.name} learned from judged answers; name texts with --data, or in a suite's file"
            )
        shards = TokenData(data).shards("eval")
        if not len(shards):
            raise UserError(f"{self._run.name} held no examples out; name texts with --data, or in a suite's file")
        return HeldOutExamples(shards, _decoder(data))

    def translation(self, config: TranslationSuiteConfig, base: Path) -> Test:
        recipe = self._run.path / "recipe.yaml"
        learned = load_recipe(recipe).stages[self._run.about()["stage"]] if recipe.exists() else None
        if not isinstance(learned, TranslateConfig):
            raise UserError(f"{self._run.name} has not learned to translate; a stage of `kind: translate` does")
        return translation_test(config, base, learned, self._data() if config.source is None else None)

    def training_text(self) -> TrainingText:
        """Raises TrainingTextGone."""
        try:
            return TrainingText(*self._training_text(self._run))
        except (UserError, Damaged, OSError, KeyError) as error:
            raise TrainingTextGone(str(error) if isinstance(error, UserError) else "its files are gone") from None

    def _training_text(self, run: RunDirectory) -> tuple[list[tuple[str, Path]], str]:
        data = self._data(run)
        inputs = self._inputs(data)
        if data.name.startswith("tokens-"):
            return [("corpus", self._stage(inputs["corpus"], "corpus"))], ""
        own = ("parallel", self._stage(inputs["parallel"], "parallel text")) if "parallel" in inputs else ("data", data)
        below, note = self._below(inputs.get("base"))
        return [*below, own], note

    def _below(self, base: Any) -> tuple[list[tuple[str, Path]], str]:
        """The training text of the model that a fine-tuning began with."""
        directory = self._stages.get(str(base)[:16])
        while directory is not None and directory.name.startswith("start-"):  # the base with more tokens, or a new one
            base = self._inputs(directory).get("base")
            if base is None:
                return [], ""
            directory = self._stages.get(str(base)[:16])
        trained = self._inputs(directory).get("stage") if directory is not None else None
        runs = [run for run in find_runs(self._home / "runs") if run.about().get("fingerprint") == trained]
        if trained is None or not runs:
            return [], "what its base was trained on is not known"
        try:
            return self._training_text(runs[-1])
        except (UserError, Damaged, OSError, KeyError):
            return [], "what its base was trained on is gone"

    @cached_property
    def _stages(self) -> dict[str, Path]:
        return {path.name.rpartition("-")[2]: path for path in (self._home / "stages").glob("*-*")}

    def _data(self, run: RunDirectory | None = None) -> Path:
        run = run or self._run
        name = run.about().get("data") if (run.path / "run.json").exists() else None
        if name is None:
            raise UserError(f"nothing here says what {run.name} was trained on and what it held out")
        return self._stage(str(name).rpartition("-")[2], "data")

    def _stage(self, fingerprint: str, what: str) -> Path:
        found = self._stages.get(fingerprint[:16])
        if found is None:
            raise UserError(f"the {what} of {self._run.name} was deleted from {self._home / 'stages'}")
        return found

    def _inputs(self, stage: Path) -> dict[str, Any]:
        return dict(read_json(stage / "artifact.json")["inputs"])


def _texts(kind: str, path: Path) -> Iterator[str]:
    if kind == "corpus":
        yield from (document.text for document in Corpus(path).documents("train"))
    elif kind == "parallel":
        for _, found in groupby(ParallelText(path).segments("train"), attrgetter("document")):
            segments = list(found)
            yield " ".join(segment.source for segment in segments)
            yield " ".join(segment.target for segment in segments)
    else:
        shards, decode = TokenData(path).shards("train"), _decoder(path)
        yield from (decode(ids) for ids in _documents(shards))


def _documents(shards: TokenShards) -> Iterator[list[int]]:
    starts = [*shards.document_starts().tolist(), len(shards)]
    for first, last in pairwise(starts):
        yield shards.read(first, last)[0].tolist()


def _decoder(directory: Path) -> Any:
    """Token ids to text, by the tokenizer that lies beside examples."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory)
    return lambda ids: str(tokenizer.decode(ids, skip_special_tokens=True))
