"""Saves without a model, for tests of what happens to them."""

import json
import random

from polyana.registry import Repository


def make_save(repository: Repository, step: int, size: int = 2000, **metrics):
    """A commit of step `step`; only its weights and its card differ from the others'."""
    files = repository.arriving(step)
    (files / "model.safetensors").write_bytes(random.Random(f"{repository.run} {step}").randbytes(size))
    (files / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    (files / "tokenizer.json").write_text('{"same": "in every save"}')
    (files / "README.md").write_text(f"---\nlibrary_name: transformers\n---\n# After {step} steps\n")
    return repository.commit(
        files, step=step, tokens=step * 10, epoch=step / 100, message=f"step {step} of 900",
        metrics={name.replace("_", "/"): value for name, value in metrics.items()}, recipe="0123",
    )  # fmt: skip


def make_run(hub, run="demo-pretrain-2026-11-22_01.02.03", steps=(100, 200, 300), best=200):
    """A repository with a save at each step, and `best`."""
    repository = Repository(hub, run)
    commits = {step: make_save(repository, step, eval_loss=abs(step - best) / 100 + 1) for step in steps}
    repository.set_ref("best", commits[best].id)
    return repository
