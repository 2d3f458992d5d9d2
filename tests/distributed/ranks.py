"""Several runs one after another in the processes that torchrun has started.

    torchrun --nproc-per-node N ranks.py CASES.json

A case: {"home", "recipe", "overrides", "stop_after": a step or null, "trouble": "nan", "error" or null, "adapter": what
to train in place of all weights, or null}. Stop signal
and trouble come to the last rank alone. Rank 0 writes what was raised to HOME/raised.txt. Not a test itself.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))
from adapted import train_an_adapter

from polyana.errors import PolyanaError
from polyana.recipe import load_recipe
from polyana.run import run_recipe
from polyana.tasks import LanguageModelTask
from polyana.tracking import Console
from polyana.train import Trainer

LAST = int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1
between_steps, loss = Trainer._between_steps, LanguageModelTask.loss
begin, save = LanguageModelTask.__init__, LanguageModelTask.save_settings


def run(case: dict) -> None:
    def stopping(self, signals):
        if LAST and self.position.step == case["stop_after"]:
            signals.received = signal.SIGTERM
        between_steps(self, signals)

    def troubled(self, batch):
        output = loss(self, batch)
        if LAST and self.model.training and case["trouble"] == "nan":
            output.total.data.fill_(float("nan"))
        if LAST and self.model.training and case["trouble"] == "error":
            raise LookupError("this rank's own mistake")
        return output

    Trainer._between_steps, LanguageModelTask.loss = stopping, troubled
    LanguageModelTask.__init__, LanguageModelTask.save_settings = begin, save
    if case["adapter"]:
        train_an_adapter(setattr, case["adapter"])
    os.environ["POLYANA_HOME"] = case["home"]
    raised = ""
    try:
        run_recipe(load_recipe(case["recipe"], case["overrides"]), console=Console(sys.stdout))
    except PolyanaError as error:
        raised = f"{type(error).__name__}: {error}"
    if os.environ["RANK"] == "0":
        Path(case["home"], "raised.txt").write_text(raised)


torch.set_num_threads(1)
for each in json.loads(Path(sys.argv[1]).read_text()):
    run({"stop_after": None, "trouble": None, "adapter": None} | each)
