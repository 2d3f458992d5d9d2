"""Preference learning against transformers and plain autograd, one answer at a time; parts against whole batches."""

import io
import json
import shutil
import signal
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from aligned import watched, write_base, write_recipe, write_rows
from conftest import CLOCKED, metrics_of, newest_run
from safetensors.torch import load_file

from polyana.data import answers
from polyana.errors import Interrupted, UserError
from polyana.pipeline import Pipeline
from polyana.registry import Repository
from polyana.run import run_recipe
from polyana.storage import home_directory
from polyana.tasks import reference
from polyana.tracking import Console
from polyana.train import Trainer

QUIET = Console(io.StringIO())
FULL = "stages.align.adapter=full"
KINDS = ["dpo", "robust", "ipo", "kto", "orpo", "simpo", "cpo"]


@pytest.fixture
def recipe(tmp_path, home) -> Path:
    return write_recipe(tmp_path)


def loss(kind: str, **more) -> str:
    return f"stages.align.loss={json.dumps({'kind': kind, **more})}"


def task_of(recipe):
    """The task of a recipe, its weights moved a little so that it is not its own reference."""
    task = Pipeline(recipe, home_directory(), QUIET).task("align")
    torch.manual_seed(11)
    with torch.no_grad():
        for weight in task.model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * 0.05)
    task.model.train()
    return task


def learn(task, batch, size: int):
    """(loss, gradients) of a batch in parts of `size` items, as a step takes them."""
    parts = batch.micro_batches(size)
    task.model.zero_grad()

    def over(compute):
        return tuple(map(sum, zip(*(compute(part) for part in parts), strict=True)))

    with torch.no_grad():
        task.foresee(over)
    total = count = 0.0
    metrics: dict[str, list[float]] = {}
    for part in parts:
        output = task.loss(part)
        output.total.backward()
        total, count = total + float(output.reported), count + output.count
        for name, pair in output.metrics.items():
            metrics[name] = [a + b for a, b in zip(metrics.get(name, [0.0, 0.0]), pair, strict=True)]
    gradients = [weight.grad / count for weight in task.model.parameters() if weight.grad is not None]
    return total / count, gradients, {name: a / b for name, (a, b) in metrics.items() if b}


def test_the_loss_is_that_of_transformers_on_each_answer_alone(recipe, load, tmp_path, monkeypatch):
    from transformers import AutoModelForCausalLM

    monkeypatch.setattr(answers, "_SHARED", 70)  # tokens, so that short prompts are computed twice
    task = task_of(load(recipe, FULL))
    batch = task.batch(0, 6)
    assert any(batch.shared), "no prompt is computed once"
    assert not all(batch.shared), "every prompt is computed once"
    found, gradients, metrics = learn(task, batch, 6)

    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    model.load_state_dict(task.model.state_dict())
    shards, starts = task._sequences.shards, [*task._sequences.shards.document_starts(), len(task._sequences.shards)]

    def log_prob(model, document):
        tokens = torch.from_numpy(shards.read(starts[document], starts[document + 1])[0])
        counts = torch.from_numpy(shards.weights(starts[document], starts[document + 1]))[1:] > 0
        logits = model(input_ids=tokens[None]).logits[0, :-1].log_softmax(-1)
        return logits.gather(1, tokens[1:, None])[:, 0][counts].sum()

    losses = []
    for item in batch.items:
        with torch.no_grad():
            before = log_prob(base, 2 * item) - log_prob(base, 2 * item + 1)
        after = log_prob(model, 2 * item) - log_prob(model, 2 * item + 1)
        losses.append(-torch.nn.functional.logsigmoid(0.1 * (after - before)))
    wanted = torch.stack(losses).mean()
    wanted.backward()
    assert found == pytest.approx(wanted.item(), abs=1e-5)
    for ours, theirs in zip(gradients, (weight.grad for weight in model.parameters()), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5, rtol=1e-3)
    assert metrics["rewards/accuracies"] == pytest.approx(np.mean([each.item() < np.log(2) for each in losses]))


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_batch_are_learned_as_the_whole(kind, recipe, load):
    task = task_of(load(recipe, loss(kind)))
    batch = task.batch(0, 8)
    whole = learn(task, batch, 8)
    assert whole[0] != 0
    assert any(gradient.abs().max() > 0 for gradient in whole[1])
    for size in (1, 3):
        found, gradients, metrics = learn(task, batch, size)
        assert found == pytest.approx(whole[0], rel=1e-6, abs=1e-6)
        assert all(torch.allclose(a, b, atol=1e-6, rtol=1e-4) for a, b in zip(gradients, whole[1], strict=True))
        assert metrics == pytest.approx(whole[2], abs=1e-4)


def test_the_reference_is_the_same_wherever_it_comes_from(recipe, load):
    found = []
    for source in ("adapter_off", "stored", "model"):
        task = task_of(load(recipe, f"stages.align.reference={source}"))
        found.append(learn(task, task.batch(0, 6), 6)[0])
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    assert found[0] == pytest.approx(found[2], abs=1e-6)


def test_before_anything_is_learned_the_model_is_its_reference(recipe, load):
    for override in (FULL, "stages.align.adapter={rank: 2}"):
        task = Pipeline(load(recipe, override), home_directory(), QUIET).task("align")
        task.model.train()
        assert learn(task, task.batch(0, 4), 4)[0] == pytest.approx(np.log(2), abs=1e-6)


@pytest.mark.parametrize("source", ["stored", "model"])
def test_the_reference_knows_the_tokens_that_a_template_adds(source, recipe, load, tmp_path):
    shutil.rmtree(tmp_path / "base")
    write_base(tmp_path, marks=())
    settings = (FULL, f"stages.align.reference={source}", "stages.align.eval.every=2 steps", watched(max_tokens=4))
    write_rows(tmp_path / "gold.jsonl", [{"prompt": f"What is {n}?"} for n in range(16)])
    metrics = metrics_of(run(load(recipe, *settings)))
    assert metrics["eval/loss"][0] == pytest.approx(np.log(2), abs=1e-6)
    assert metrics["gold/kl"][0] == pytest.approx(0, abs=1e-6)


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="needs bitsandbytes")
@pytest.mark.parametrize("source", ["stored", "model"])
def test_the_reference_of_a_base_in_4_bits_is_in_4_bits_too(source, recipe, load):
    override = ("stages.align.adapter={kind: qlora, rank: 2}", f"stages.align.reference={source}")
    task = Pipeline(load(recipe, *override), home_directory(), QUIET).task("align")
    task.precision.prepare(task.model)
    assert learn(task, task.batch(0, 4), 4)[0] == pytest.approx(np.log(2), abs=1e-6)


def test_an_accuracy_counts_ties_as_wrong(recipe, load):
    """At the start, when model and reference are the same, all are ties."""
    for kind in ("dpo", "kto"):
        task = Pipeline(load(recipe, loss(kind)), home_directory(), QUIET).task("align")
        assert learn(task, task.batch(0, 8), 8)[2]["rewards/accuracies"] == 0


def test_kto_does_not_depend_on_what_shares_a_batch(recipe, load):
    """Its KL is of answers that are fixed beforehand: a batch of one is as right as any."""
    task = task_of(load(recipe, loss("kto")))
    kls = []
    for number in range(4):
        learn(task, task.batch(number, 1), 1)
        kls.append(task._kl)
    sequences, ratios = task._sequences, []
    for item in task.batch(0, 4).items:
        own, other = sequences.of([item], "first"), sequences.of([item], "second")
        assert not torch.equal(own.tokens_N, other.tokens_N)
        ratios.append(task._mismatched(sequences, [item])[0])
    assert kls == pytest.approx([max(0.0, ratio) for ratio in ratios], abs=1e-5)
    learn(task, task.batch(0, 4), 2)
    assert task._kl == pytest.approx(max(0.0, np.mean(ratios)), abs=1e-5)


def test_kto_weighs_or_resamples_a_rare_kind(recipe, load, tmp_path):
    rows = [{"prompt": f"What is {n}?", "completion": f"It is {n}.", "label": n % 20 != 0} for n in range(200)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = task_of(load(recipe, loss("kto")))
    desirable = task._sequences.facts["desirable"]
    good, bad = int(desirable.sum()), int((~desirable).sum())
    assert task._weights == pytest.approx((1.0, good / bad / (4 / 3)))
    assert task.per_epoch == good + bad
    task = task_of(load(recipe, loss("kto", balance="resample")))
    assert task._weights == (1.0, 1.0)
    seen = task.batch(0, task.per_epoch).facts["desirable"]
    assert (int(seen.sum()), int((~seen).sum())) == (good, good)
    task = task_of(load(recipe, loss("kto", balance="none", lambda_U=3)))
    assert task._weights == (1.0, 3.0)


def run(recipe) -> Path:
    run_recipe(recipe, console=QUIET)
    return newest_run(home_directory())


def curve(directory: Path) -> dict:
    return {name: points for name, points in metrics_of(directory).items() if name not in CLOCKED}


def saved(directory: Path, revision: str = "main") -> Path:
    repository = Repository(home_directory() / "hub", directory.name)
    return repository.snapshot(repository.resolve(revision))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize("kind", ["dpo", "kto"])
def test_it_learns_what_is_preferred_and_peft_loads_it(kind, recipe, load, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    metrics = metrics_of(directory := run(load(recipe, loss(kind), "stages.align.train.duration=12 steps")))
    assert metrics["eval/loss"][12] < metrics["eval/loss"][0]
    assert metrics["eval/rewards/accuracies"][12] > 0.8
    assert metrics["rewards/chosen"][12] > metrics["rewards/rejected"][12]
    if kind == "kto":
        assert set(metrics["kl"]) == set(range(1, 13))
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert PeftModel.from_pretrained(base, saved(directory)) is not None


@pytest.mark.parametrize("balance", ["weights", "resample"])
def test_kto_learns_of_one_bad_answer_in_a_hundred(balance, recipe, load, tmp_path):
    rows = [
        {"prompt": f"Where is key {n}?", "completion": f"Please look in box {n}.", "label": True} for n in range(297)
    ]
    rows += [
        {"prompt": f"Where is cup {n}?", "completion": f"box {n}! Are you blind?", "label": False} for n in range(3)
    ]
    write_rows(tmp_path / "pairs.jsonl", rows)
    settings = (loss("kto", balance=balance), "stages.align.train.duration=30 steps", "stages.align.held_out=0")
    run(load(recipe, *settings, "stages.align.train.batch=16 sequences"))
    metrics = metrics_of(newest_run(home_directory()))
    assert np.isfinite(list(metrics["train/loss"].values())).all()
    rejected = list(metrics["rewards/rejected"].values())  # of the steps that saw one
    assert rejected[-1] < -0.02 < 0 < metrics["rewards/chosen"][30]


def test_it_begins_with_any_save_of_a_run_that_another_recipe_trained(recipe, load, tmp_path):
    """An adapter, as one model with its base: what it finds likely is what the run had found at that step."""
    first = run(load(recipe, "stages.align.save={every: 2 steps, keep: {last: 9}}"))
    (tmp_path / "other.yaml").write_text(recipe.read_text().replace("name: aligned", "name: other"))
    second = run(load(tmp_path / "other.yaml", f"stages.align.base=run:{first.name}@step-2", loss("kto")))
    for name in ("eval/logps/chosen", "eval/logps/rejected"):
        assert curve(second)[name][0] == pytest.approx(curve(first)[name][2], abs=1e-4)
        assert curve(first)[name][0] != pytest.approx(curve(first)[name][2], abs=1e-2)
    for base in (tmp_path / "home" / "stages").glob("base-*"):
        shutil.rmtree(base)
    with pytest.raises(UserError, match=r"is not here any more; `polyana models export .* --to merged`"):
        run(load(tmp_path / "other.yaml", f"stages.align.base=run:{first.name}@step-4"))


def test_it_goes_on_where_it_was_stopped_to_the_last_bit(recipe, load, tmp_path, monkeypatch):
    settings = (loss("kto"), "stages.align.train.duration=6 steps", "stages.align.save.every=2 steps")
    monkeypatch.setenv("POLYANA_HOME", str(tmp_path / "whole"))
    whole = run(load(recipe, *settings))
    weights, losses = load_file(saved(whole) / "adapter_model.safetensors"), curve(whole)
    monkeypatch.setenv("POLYANA_HOME", str(tmp_path / "stopped"))
    between = Trainer._between_steps

    def stopping(self, signals):
        if self.position.step == 3:
            signals.received = signal.SIGTERM
        between(self, signals)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_between_steps", stopping)
        with pytest.raises(Interrupted):
            run(load(recipe, *settings))
    directory = run(load(recipe, *settings))
    assert {name: points for name, points in curve(directory).items() if not name.startswith("eval/")} == {
        name: points for name, points in losses.items() if not name.startswith("eval/")
    }
    again = load_file(saved(directory) / "adapter_model.safetensors")
    assert all(torch.equal(again[name], weights[name]) for name in weights)


def test_a_reference_that_was_stopped_goes_on_and_comes_to_the_same(recipe, load, home, monkeypatch):
    monkeypatch.setattr(reference, "EVAL_TOKENS", 200)
    monkeypatch.setattr(reference, "_KEPT_EVERY", 1)
    pipeline = Pipeline(load(recipe, FULL), home_directory(), QUIET)
    step = pipeline.before("align", pipeline.recipe.stages["align"])["data"]
    whole = np.load(pipeline.store.get(step).directory / "reference.npz")
    monkeypatch.setenv("POLYANA_HOME", str(home.parent / "again"))
    pipeline = Pipeline(load(recipe, FULL), home_directory(), QUIET)
    step, scored = pipeline.before("align", pipeline.recipe.stages["align"])["data"], []
    score = reference.score_documents

    def broken(model, sequences, batches, precision, keep):
        def counting(items, found):
            scored.append((sequences.held, items))
            keep(items, found)
            if len(scored) == 3:
                raise KeyboardInterrupt

        score(model, sequences, batches, precision, counting)

    monkeypatch.setattr(reference, "score_documents", broken)
    with pytest.raises(KeyboardInterrupt):
        pipeline.store.get(step)
    found = np.load(pipeline.store.get(step).directory / "reference.npz")
    assert len(scored) == len(set(scored)), "what was done is done again"
    assert len(scored) > 6
    for split in ("train", "eval"):
        assert np.array_equal(found[split], whole[split])
        assert np.isfinite(found[split]).all()


def test_two_processes_learn_what_one_does(recipe, load, torchrun, tmp_path, monkeypatch):
    shared = ["stages.align.train.batch=5 sequences", "stages.align.train.micro_batch=1 sequences"]
    whole = [*shared, loss("ipo"), FULL, "stages.align.train.lr=1e-3"]
    settings = {"ddp": [*shared, loss("kto")], "fsdp2": whole}
    alone, cases = {}, []
    for strategy, overrides in settings.items():
        monkeypatch.setenv("POLYANA_HOME", str(tmp_path / f"one-{strategy}"))
        alone[strategy] = curve(run(load(recipe, *overrides)))
        spread = [*overrides, f"stages.align.train.strategy={strategy}"]
        cases.append({"home": str(tmp_path / strategy), "recipe": str(recipe), "overrides": spread})
    process = torchrun(2, cases)
    assert process.returncode == 0, process.stdout + process.stderr
    for strategy, one in alone.items():
        assert (tmp_path / strategy / "raised.txt").read_text() == ""
        both = curve(newest_run(tmp_path / strategy))
        names = [name for name in one if not name.startswith(("train/tokens", "train/epoch"))]
        assert {"train/loss", "eval/loss", "rewards/chosen", "eval/rewards/accuracies"} <= set(names)
        for name in names:
            assert both[name] == pytest.approx(one[name], rel=1e-3, abs=1e-4), (strategy, name)


@pytest.mark.parametrize(
    ("change", "letter"),
    [
        (loss("simpo"), None),
        ("stages.align.train.z_loss=1e-4", "it would do nothing"),
        ("stages.align.good_from=3", "only `loss: kto`"),
        ("stages.align.vocabulary={tokens: [hello]}", "in an sft stage before it"),
        ("stages.align.reference=adapter_off", None),
    ],
)
def test_what_would_do_nothing_is_refused(change, letter, recipe, load):
    if letter is None:
        more = "stages.align.reference=stored" if "simpo" in change else FULL
        with pytest.raises(UserError, match=r"has no reference|no adapter to switch off"):
            load(recipe, change, more)
        return
    with pytest.raises(UserError, match=letter):
        load(recipe, change)
