"""The probe: an operation that does not exist in a precision is named before training, and nothing is changed."""

import io
from dataclasses import replace

import pytest
import torch

from polyana.errors import UserError
from polyana.models import hidden_states
from polyana.pipeline import Pipeline
from polyana.run import run_recipe
from polyana.storage import home_directory
from polyana.tasks import LanguageModelTask
from polyana.tracking import Console
from polyana.train import LossOutput, choose_precision, probe

QUIET = Console(io.StringIO())


class UniformTask(LanguageModelTask):
    """Pushes states apart too (uniformity: Wang and Isola 2020, section 4.1.2), by torch's pdist: on CPUs torch 2.13
    has it in fp32 only, and autocast does not know it."""

    def loss(self, batch):
        output = super().loss(batch)
        states = hidden_states(self.model, batch.tokens_N, batch.position_N, batch.lengths).to(self.precision.dtype)
        apart = torch.nn.functional.pdist(states).float().pow(2).mul(-2).exp().mean().log()
        return LossOutput(output.total + apart, output.count)


@pytest.fixture
def task(tiny, load):
    recipe = load(tiny)
    return Pipeline(recipe, home_directory(), QUIET).task("pretrain")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_an_operation_without_a_kernel_is_named_with_the_line_and_what_works(precision, tiny, home, load, monkeypatch):
    monkeypatch.setattr("polyana.tasks.pretrain.LanguageModelTask", UniformTask)
    with pytest.raises(UserError) as caught:
        run_recipe(load(tiny, f"stages.pretrain.train.precision={precision}"), console=QUIET)
    assert not (home / "runs").exists()  # before anything of a run is there
    (problem,) = caught.value.problems
    name = {"bf16": "BFloat16", "fp16": "Half"}[precision]
    assert problem.what == (
        f"`precision: {precision}`: the operation `aten::_pdist_forward` of this model does not work in {precision} on "
        f"cpu: \"pdist\" not implemented for '{name}'. Write `precision: fp32`, which works"
    )
    assert "precision" in problem.where  # --set; a file's line is tested below
    assert not (home / "runs").exists()
    run_recipe(load(tiny), console=QUIET)  # what it says works


def test_the_letter_has_the_line_of_the_recipe(tiny, load, monkeypatch):
    monkeypatch.setattr("polyana.tasks.pretrain.LanguageModelTask", UniformTask)
    tiny.write_text(tiny.read_text().replace("precision: fp32", "precision: bf16"))
    with pytest.raises(UserError) as caught:
        run_recipe(load(tiny), console=QUIET)
    assert caught.value.problems[0].where == f"{tiny}:14"


def test_an_error_of_every_precision_passes_as_it_is(task, monkeypatch):
    def broken(self, batch):
        raise ValueError("no such thing")

    monkeypatch.setattr(LanguageModelTask, "loss", broken)
    for wanted in ("fp32", "bf16"):
        task.precision = choose_precision(wanted)
        with pytest.raises(ValueError, match="no such thing"):
            probe(task, "here")


@pytest.mark.parametrize("works", [True, False])
def test_it_changes_nothing(task, works):
    task.precision = replace(task.precision, dtype=torch.bfloat16)
    task.model.register_buffer("seen", torch.zeros(()))
    task.model.base_model.register_forward_pre_hook(lambda *_: task.model.seen.add_(1) and None)
    if not works:
        task.__class__ = UniformTask
    task.model.eval()
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    random, precision = torch.get_rng_state(), task.precision
    if works:
        probe(task, "here")
    else:
        with pytest.raises(UserError):
            probe(task, "here")
    assert all(torch.equal(value, before[name]) for name, value in task.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in task.model.parameters())
    assert not task.model.training
    assert task.precision is precision


def test_it_is_short(task, monkeypatch):
    seen = []
    original = LanguageModelTask.loss
    monkeypatch.setattr(LanguageModelTask, "loss", lambda self, batch: seen.append(batch) or original(self, batch))
    probe(task, "here")
    (batch,) = seen
    assert batch.sequences == 1
    assert batch.tokens <= 32
    assert batch.labelled > 0
