"""Tasks of EleutherAI's lm-evaluation-harness, computed by lm-eval itself in a process of its own.

lm-eval loads the revision by its repository's name from the registry, as any Hugging Face tool would; nothing of ours
stands between it and the model. There is no network: tasks whose data lie here are read from `include`
(`dataset_path: json` with `data_files`), and others where Hugging Face's data sets have been fetched before.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from polyana.config import Config, KeyPath, read_yaml
from polyana.errors import PolyanaError, UserError
from polyana.evaluate.items import Better, Item, Metric, Scored
from polyana.evaluate.likelihood import Subject
from polyana.storage import sha256_of

__all__ = ["LmEvalConfig", "LmEvalTest"]

_Z = 1.959964  # the normal distribution is not further from 0 than with 95 %
_SHOWN = 600  # characters of a question


class LmEvalConfig(Config):
    """Tasks of lm-eval, by its own package (extra `lm-eval`). Its metrics keep their names: `TASK.acc`."""

    kind: Literal["lm_eval"]
    tasks: list[str] = Field(min_length=1, description="names of its tasks, or of those in `include`")
    include: str | None = Field(
        None, description="a directory of tasks of your own, as lm-eval writes them", json_schema_extra={"path": True}
    )
    shots: int | None = Field(None, ge=0, description="solved examples before each question; default: as the task says")
    limit: int | None = Field(None, ge=1, description="of each task only the first so many questions")
    chat: bool = Field(False, description="ask in the model's chat template")
    batch: int = Field(16, ge=1, description="questions computed at once")
    python: str | None = Field(
        None, description="the Python of another environment where lm-eval is installed; default: this one"
    )

    def problems(self) -> Iterator[tuple[KeyPath, str]]:
        if self.python is None and find_spec("lm_eval") is None:
            yield (
                (),
                "lm-eval is not installed here; run: pip install 'polyana[lm-eval]', or say where it is: `python:`",
            )


class LmEvalTest:
    """What lm-eval is to be asked for."""

    def __init__(self, config: LmEvalConfig, base: Path) -> None:
        self._config, self._base = config, base
        self._include = base / Path(config.include).expanduser() if config.include else None
        if self._include is not None and not self._include.is_dir():
            raise UserError(f"`include: {config.include}` is no directory (looked for {self._include})")

    @property
    def items(self) -> int:
        return len(self._config.tasks)

    def content(self) -> Any:
        """The tasks' own files and the data that they name; what lm-eval brings itself is its version's."""
        files = sorted(path for path in self._include.rglob("*") if path.is_file()) if self._include else []
        data = {path for file in files if file.suffix in (".yaml", ".yml") for path in self._data_of(file)}
        return [self._version(), [sha256_of(path) for path in (*files, *sorted(data))]]

    def _version(self) -> str:
        if self._config.python is not None:
            return self._config.python
        from importlib.metadata import version

        return version("lm-eval")

    def _data_of(self, task: Path) -> Iterator[Path]:
        try:
            settings = read_yaml(task).data.get("dataset_kwargs")
        except UserError:  # lm-eval's own tags, as !function
            return
        named = settings.get("data_files") if isinstance(settings, dict) else None
        for each in named.values() if isinstance(named, dict) else [named]:
            for name in each if isinstance(each, list) else [each]:
                if isinstance(name, str) and (path := self._base / name).is_file():
                    yield path

    def score(self, subject: Subject, show: Callable[[int], None]) -> Scored:
        with tempfile.TemporaryDirectory() as place:
            self._run(subject, Path(place))
            results = [json.loads(path.read_text("utf-8")) for path in sorted(Path(place).rglob("results_*.json"))]
            if len(results) != 1:
                raise PolyanaError("lm-eval ended without a result")
            samples = {
                task: [json.loads(line) for path in sorted(Path(place).rglob(f"samples_{task}_*.jsonl"))
                       for line in path.read_text("utf-8").splitlines()]
                for task in results[0]["configs"]
            }  # fmt: skip
        show(self.items)
        return _scored(results[0], samples)

    def _run(self, subject: Subject, output: Path) -> None:
        config, adapter = self._config, subject.base is not None
        model = {
            "pretrained": str(subject.base) if adapter else subject.repository,
            **({"peft": str(subject.directory), "tokenizer": str(subject.directory)} if adapter else {}),
            **({} if adapter else {"revision": subject.commit}),
            "dtype": str(subject.precision.dtype).removeprefix("torch."),
        }
        told: list[str] = [
            "run", "--model", "hf", "--model_args", ",".join(f"{name}={value}" for name, value in model.items()),
            "--tasks", ",".join(config.tasks), "--batch_size", str(config.batch), "--output_path", str(output),
            "--log_samples", "--device", str(subject.precision.device),
        ]  # fmt: skip
        told += ["--include_path", str(self._include.resolve())] if self._include else []
        told += ["--num_fewshot", str(config.shots)] if config.shots is not None else []
        told += ["--limit", str(config.limit)] if config.limit is not None else []
        told += ["--apply_chat_template"] if config.chat else []
        offline = {"HF_HUB_CACHE": str(subject.hub.resolve()), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
        python = config.python or sys.executable
        try:
            process = subprocess.run(
                [python, "-m", "lm_eval", *told], cwd=self._base, env=os.environ | offline, capture_output=True,
                text=True, check=False,
            )  # fmt: skip
        except OSError as error:
            raise UserError(f"lm-eval: `{python}` cannot be started: {error.strerror}") from None
        if process.returncode:
            lines = [line for line in process.stderr.strip().splitlines() if line.strip()] or ["it said nothing"]
            mend = ": pip install 'lm-eval[hf]' there" if "No module named lm_eval" in lines[-1] else ""
            raise PolyanaError(f"lm-eval did not run: {lines[-1]}{mend}")


def _scored(results: dict[str, Any], samples: dict[str, list[dict[str, Any]]]) -> Scored:
    """Its samples as items, where a metric is their mean; else what it says itself, with its standard error."""
    items, metrics, better = list[Item](), dict[str, Metric](), dict[str, Better]()
    for task, rows in samples.items():
        told = {
            tuple(key.split(",", 1)): value
            for key, value in results["results"].get(task, {}).items()
            if "," in key and "_stderr," not in key and isinstance(value, int | float)
        }
        by_document = dict[int, list[dict[str, Any]]]()
        for row in rows:
            by_document.setdefault(int(row["doc_id"]), []).append(row)
        averaged = {
            key for key, value in told.items()
            if (values := [row[key[0]] for row in rows if row["filter"] == key[1] and _is_number(row.get(key[0]))])
            and abs(sum(values) / len(values) - value) < 1e-9 + 1e-6 * abs(value)
        }  # fmt: skip
        for number, of_one in by_document.items():
            scores = {
                _called(task, name, kind): (float(row[name]), 1.0)
                for row in of_one for name, kind in averaged if row["filter"] == kind and _is_number(row.get(name))
            }  # fmt: skip
            words = "\n".join(_strings(of_one[0]["doc"]))
            shown = {"question": words[:_SHOWN], "right": str(of_one[0]["target"]), "answer": _answer(of_one[0])}
            items.append(Item(f"{task}/{number}", f"{task}/{number}", scores, shown, words))
        ways = results.get("higher_is_better", {}).get(task, {})
        for (name, kind), value in told.items():
            if ways.get(name) is not None:
                better[_called(task, name, kind)] = "higher" if ways[name] else "lower"
            if (name, kind) not in averaged:
                error = results["results"][task].get(f"{name}_stderr,{kind}")
                reach = _Z * error if isinstance(error, int | float) else None
                low, high = (None, None) if reach is None else (value - reach, value + reach)
                metrics[_called(task, name, kind)] = Metric(float(value), low, high, len(by_document), len(by_document))
    return Scored(items, metrics, better)


def _called(task: str, metric: str, kind: str) -> str:
    return f"{task}.{metric}" if kind == "none" else f"{task}.{metric} {kind}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _answer(row: dict[str, Any]) -> str:
    """What was answered: a text, or log p of each choice."""
    found = row.get("filtered_resps")
    if isinstance(found, list) and found and isinstance(found[0], list):
        return ", ".join(f"{float(each[0]):.2f}" for each in found if each)
    return str(found[0] if isinstance(found, list) and found else found)[:_SHOWN]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _strings(each)
