"""Saves without a model, for tests of what happens to them."""

import hashlib
import json
import random

from polyana.registry import Repository


def make_save(repository: Repository, step: int, size: int = 2000, sha256: bool = False, **metrics):
    """A commit of step `step`; only its weights and its card differ from the others'. `sha256`: its files are named as
    earlier versions did."""
    files = repository.arriving(step)
    (files / "model.safetensors").write_bytes(random.Random(f"{repository.run} {step}").randbytes(size))
    (files / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    (files / "tokenizer.json").write_text('{"same": "in every save"}')
    (files / "README.md").write_text(f"---\nlibrary_name: transformers\n---\n# After {step} steps\n")
    known = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files.iterdir()} if sha256 else None
    return repository.commit(
        files, step=step, tokens=step * 10, epoch=step / 100, message=f"step {step} of 900",
        metrics={name.replace("_", "/"): value for name, value in metrics.items()}, recipe="0123", known=known,
    )  # fmt: skip


def make_run(hub, run="demo-pretrain-2026-11-22_01.02.03", steps=(100, 200, 300), best=200, sha256=()):
    """A repository with a save at each step, and `best`. `sha256`: which are as earlier versions made them."""
    repository = Repository(hub, run)
    commits = {
        step: make_save(repository, step, sha256=step in sha256, eval_loss=abs(step - best) / 100 + 1) for step in steps
    }
    repository.set_ref("best", commits[best].id)
    return repository
