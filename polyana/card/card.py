"""The README.md of a save: what it is, what it has learned from and how, how well, and how to load it.

It says nothing that another clock, another machine or another attempt would say otherwise, so that a run that was
killed and resumed makes the same commits, bit for bit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polyana.card.curves import CurveReader
from polyana.card.picture import draw
from polyana.registry import Ranking

__all__ = ["Facts", "ModelCard"]


_KINDS = {  # of stages: what comes of them in words, and what the Hub calls the use of it
    "pretrain": ("a language model trained from scratch", "text-generation"),
    "sft": ("fine-tuned on examples of what it should say", "text-generation"),
    "translate": ("a model that has learned to translate", "translation"),
    "preference": ("aligned with what people prefer", "text-generation"),
    "classify": ("a classifier of texts, which has learned what mistakes cost", "text-classification"),
    "reward": ("a reward model: a number for any prompt and answer", "text-classification"),
}


@dataclass(frozen=True)
class Facts:
    """What is known of a run before it begins.

    name: RECIPE-STAGE. settings: the recipe's, as YAML. data: lines of Markdown. licences: of what it is made from,
    None where nothing says. base: what an adapter or a tuned model began as; base_model: that on the Hub. question: how
    it is asked about "...", as text or as a chat's messages. best_by: the metric that training picks the best save by,
    `-metric` where more is better.
    """

    name: str
    kind: str
    architecture: str
    parameters: int
    trained: int
    settings: str
    data: Sequence[str]
    seed: int
    licences: Mapping[str, str | None] = field(default_factory=dict)
    base: str | None = None
    base_model: str | None = None
    adapter: str | None = None
    chats: bool = False
    languages: Sequence[str] = ()
    datasets: Sequence[str] = ()
    question: str | Sequence[Mapping[str, str]] = "..."
    best_by: str = "eval/loss"


class ModelCard:
    """Written into each save of one run."""

    def __init__(self, facts: Facts, metrics: Path) -> None:
        """`metrics`: the directory of the run's."""
        self._facts, self._curves = facts, CurveReader(metrics)
        self._ranking = Ranking.of(facts.best_by)

    def write(self, directory: Path, step: int, tokens: int, epoch: float, metrics: Mapping[str, float]) -> None:
        """README.md and curves.png, of the save in `directory`."""
        train, evaluation = self._curves.curves(step)
        if train or evaluation:
            (directory / "curves.png").write_bytes(draw(train, evaluation))
        by = self._ranking.metric
        shown = {name: value for name, value in metrics.items() if name.startswith("eval/") or name == by}
        parts = [
            _front(self._facts, shown), self._about(step, tokens, epoch), self._measured(train, evaluation, shown),
            self._learned_from(), self._recipe(), _loading(self._facts),
        ]  # fmt: skip
        (directory / "README.md").write_text("\n".join(parts), encoding="utf-8")

    def _about(self, step: int, tokens: int, epoch: float) -> str:
        facts = self._facts
        what, _ = _KINDS[facts.kind]
        if facts.adapter:
            size = (
                f"An adapter ({facts.adapter}) of {facts.trained:,} numbers over {facts.parameters - facts.trained:,}"
            )
        else:
            size = f"{facts.parameters:,} parameters"
        lines = [f"# {facts.name}", "", f"`{facts.architecture}`, {what} with Polyana. {size}; step {step:,}: "
                 f"{tokens:,} tokens, {epoch:.2f} epochs.", ""]  # fmt: skip
        if facts.base:
            lines += [f"It began as `{facts.base}`.", ""]
        return "\n".join(lines)

    def _measured(
        self, train: Sequence[tuple[int, float]], evaluation: Sequence[tuple[int, float]], shown: Mapping[str, float]
    ) -> str:
        lines = ["## How well", ""]
        if train or evaluation:
            told = "loss by step: training in blue" + (", held-out data in red" if evaluation else "")
            lines += [f"![{told}](curves.png)", "", f"{told[0].upper()}{told[1:]}.", ""]
        if shown:
            lines += ["| on held-out data | |", "|---|--:|"]
            lines += [f"| {name.removeprefix('eval/')} | {value:.6g} |" for name, value in shown.items()]
            if (by := self._ranking.metric) in shown:
                name = by.removeprefix("eval/")
                lines += ["", f"Of a training's saves the best is the one with the {self._ranking.way} {name}."]
        else:
            lines += ["Nothing was held out, so nothing was measured."]
        return "\n".join([*lines, ""])

    def _learned_from(self) -> str:
        licences = [
            f"| {_cell(name)} | {licence or 'unknown: nothing that came with it says'} |"
            for name, licence in self._facts.licences.items()
        ]
        table = ["| made from | licence |", "|---|---|", *licences, ""] if licences else []
        return "\n".join(["## What it has learned from", "", *self._facts.data, "", *table])

    def _recipe(self) -> str:
        return "\n".join(
            ["## The recipe", "", f"Seed {self._facts.seed}; what is not written here has its default.", "", "```yaml",
             self._facts.settings.rstrip(), "```", ""]
        )  # fmt: skip


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _front(facts: Facts, metrics: Mapping[str, float]) -> str:
    """The Hub's metadata."""
    from huggingface_hub import EvalResult, ModelCardData

    names = {"eval/loss": "loss", "eval/perplexity": "perplexity", "eval/bleu": "bleu", "eval/chrf": "chrf"}
    _, task = _KINDS[facts.kind]
    results = [
        EvalResult(task_type=task, dataset_type="held-out", dataset_name=f"held-out data of {facts.name}",
                   metric_type=names[name], metric_name=name, metric_value=value)
        for name, value in metrics.items() if name in names
    ]  # fmt: skip
    about: dict[str, Any] = {"eval_results": results, "model_name": facts.name} if results else {}
    known = set(facts.licences.values())
    # of several the strictest holds, which is for people to say; and the Hub reads one name, no expression
    licence = next((one for one in known if len(known) == 1 and one and re.fullmatch(r"[\w.+-]+", one)), None)
    data = ModelCardData(
        language=list(facts.languages) or None, license=licence, base_model=facts.base_model,
        datasets=list(facts.datasets) or None, library_name="peft" if facts.adapter else "transformers",
        pipeline_tag=task, tags=["polyana", facts.kind, *([facts.adapter.partition(",")[0]] if facts.adapter else [])],
        **about,
    )  # fmt: skip
    return f"---\n{data.to_yaml()}\n---\n"


def _written(words: object) -> str:
    """As Python has it."""
    return json.dumps(words, ensure_ascii=False)


def _loading(facts: Facts) -> str:
    """How five tools load it."""
    judges = facts.kind in ("reward", "classify")
    model = "AutoModelForSequenceClassification" if judges else "AutoModelForCausalLM"
    asked = f'ids = tokenizer({_written(facts.question)}, return_tensors="pt")'
    if facts.chats:
        chat = [{"role": "user", "content": facts.question}] if isinstance(facts.question, str) else facts.question
        chat = [*chat, {"role": "assistant", "content": "..."}] if judges else chat
        settings = ("" if judges else "add_generation_prompt=True, ") + 'return_tensors="pt", return_dict=True'
        asked = f"ids = tokenizer.apply_chat_template({_written(chat)}, {settings})"
    shown = "model(**ids).logits" if judges else "tokenizer.decode(model.generate(**ids, max_new_tokens=60)[0])"
    serving = "vllm serve MODEL" + (" --task classify" if judges else "")
    alone = "`get_peft_model(model, LoraConfig(...))` puts a new adapter on it"
    if facts.adapter:
        serving = "vllm serve BASE --enable-lora --lora-modules tuned=MODEL   # BASE: as adapter_config.json names it"
        alone = '`PeftModel.from_pretrained(base, "MODEL")`, and `.merge_and_unload()` puts it into its base'
    verb = "chat" if facts.chats else "generate"
    verb = {"translate": "translate"}.get(facts.kind, "models show" if judges else verb)
    again = f"polyana {verb} {facts.name}@best" + {"translate": " FILE", "generate": ' "..."'}.get(verb, "")
    written = f"""llama.cpp, from a Polyana home that has the run (`--dtype q8_0` makes it a quarter as large):

    polyana models export {facts.name}@best --to gguf --output model.gguf
    llama-cli -m model.gguf
"""
    return f"""## How to load it

MODEL is this repository's name on the Hub, or the directory of this file.

transformers{" with peft installed" if facts.adapter else ""}:

```python
from transformers import {model}, AutoTokenizer

model = {model}.from_pretrained("MODEL")
tokenizer = AutoTokenizer.from_pretrained("MODEL")
{asked}
print({shown})
```

peft: {alone}.

vLLM:

    {serving}

{"llama.cpp has no place for its head." if judges else written}
Polyana:

    {again}
"""
