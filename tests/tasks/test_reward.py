"""A reward model is what unmodified transformers makes of its files, and learns who is preferred."""

import io

import pytest
import torch
from aligned import write_recipe
from conftest import metrics_of, newest_run

from polyana.errors import UserError
from polyana.models import merge_adapter, padding_token
from polyana.pipeline import Pipeline
from polyana.registry import Repository
from polyana.run import run_recipe
from polyana.storage import home_directory
from polyana.tracking import Console

QUIET = Console(io.StringIO())


@pytest.fixture
def recipe(tmp_path, home):
    path = write_recipe(tmp_path, "reward")
    path.write_text(path.read_text().replace("    adapter: {rank: 4}\n", ""))
    return path


def task_of(recipe):
    return Pipeline(recipe, home_directory(), QUIET).task("align")


def texts_of(task, items):
    """The whole token ids of each item's two answers."""
    shards = task._sequences.shards
    starts = [*shards.document_starts(), len(shards)]
    return [
        torch.from_numpy(shards.read(starts[2 * item + side], starts[2 * item + side + 1])[0])
        for item in items
        for side in (0, 1)
    ]


def test_it_learns_and_unmodified_transformers_gives_the_same_rewards(recipe, load):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    run_recipe(load(recipe, "stages.align.train.duration=12 steps"), console=QUIET)
    directory = newest_run(home_directory())
    metrics = metrics_of(directory)
    assert metrics["eval/loss"][12] < metrics["eval/loss"][0]
    assert metrics["eval/rewards/accuracies"][12] > 0.9
    repository = Repository(home_directory() / "hub", directory.name)
    saved = repository.snapshot(repository.resolve("main"))
    model = AutoModelForSequenceClassification.from_pretrained(saved).eval()
    tokenizer = AutoTokenizer.from_pretrained(saved)
    assert model.config.num_labels == 1
    assert tokenizer.pad_token_id == model.config.pad_token_id

    task = task_of(load(recipe))
    task.model.load_state_dict(model.state_dict())
    batch = task.batch(0, 6)
    with torch.no_grad():
        output = task.loss(batch)
        texts = texts_of(task, batch.items)
        alone = torch.cat([model(input_ids=text[None]).logits[0] for text in texts])
        padded = tokenizer.pad(
            {"input_ids": [text.tolist() for text in texts]}, padding_side="right", return_tensors="pt"
        )
        together = model(**padded).logits[:, 0]
    assert torch.allclose(alone, together, atol=1e-5), "transformers looks for the end somewhere else"
    chosen, rejected = alone.view(-1, 2).T
    assert output.metrics["rewards/chosen"][0] == pytest.approx(chosen.sum().item(), abs=1e-4)
    assert output.metrics["rewards/rejected"][0] == pytest.approx(rejected.sum().item(), abs=1e-4)
    wanted = -torch.nn.functional.logsigmoid(chosen - rejected).sum()
    assert float(output.total) == pytest.approx(wanted.item(), rel=1e-4)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_an_adapter_trains_the_head_too_and_peft_loads_both(recipe, load, tmp_path, polyana):
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    shown = polyana(
        "run", recipe, "--set", "stages.align.adapter={rank: 4}", "--set", "stages.align.train.duration=12 steps"
    )
    directory = newest_run(home_directory())
    assert f"Try next:\n  polyana models show {directory.name}@best\n" in shown.stdout
    metrics = metrics_of(directory)
    assert metrics["eval/loss"][12] < metrics["eval/loss"][0]
    repository = Repository(home_directory() / "hub", directory.name)
    saved = repository.snapshot(repository.resolve("main"))
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=1)
    model = PeftModel.from_pretrained(base, saved).eval()
    task = task_of(load(recipe))
    batch = task._held_out.of(range(task._held_out.held))
    rewards = []
    shards = task._held_out.shards
    starts = [*shards.document_starts(), len(shards)]
    with torch.no_grad():
        for document in range(2 * len(batch.items)):
            text = torch.from_numpy(shards.read(starts[document], starts[document + 1])[0])
            rewards.append(float(model(input_ids=text[None]).logits[0, 0]))
    chosen, rejected = torch.tensor(rewards).view(-1, 2).T
    assert (chosen - rejected).mean().item() == pytest.approx(metrics["eval/rewards/margins"][12], abs=1e-4)
    merged = merge_adapter(tmp_path / "base", saved, tmp_path / "merged")
    assert merged.off < 1e-4
    whole = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
    assert whole.config.pad_token_id == AutoTokenizer.from_pretrained(saved).pad_token_id
    with torch.no_grad():
        assert float(whole(input_ids=text[None]).logits[0, 0]) == pytest.approx(rewards[-1], abs=1e-4)


def test_margins_and_centring_change_the_loss_and_parts_do_not(recipe, load, tmp_path):
    import json

    rows = [json.loads(line) | {"margin": number % 3} for number, line in
            enumerate((tmp_path / "pairs.jsonl").read_text().splitlines())]  # fmt: skip
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {}
    for change in ("{}", "{margin: 1}", "{centering: 0.5}"):
        task = task_of(load(recipe, f"stages.align.loss={change}"))
        batch = task.batch(0, 6)
        with torch.no_grad():
            found[change] = float(task.loss(batch).total)
            parts = sum(float(task.loss(part).total) for part in batch.micro_batches(1))
        assert parts == pytest.approx(found[change], abs=1e-5)
    assert len(set(found.values())) == 3


def test_a_margin_that_no_pair_has_is_told(recipe, load):
    with pytest.raises(UserError, match=r"no pair has one; leave it out"):
        task_of(load(recipe, "stages.align.loss.margin=1"))


def test_a_reward_model_writes_nothing(recipe, load):
    with pytest.raises(UserError, match="writes nothing"):
        load(recipe, "stages.align.sample={prompts: [Hello]}")


class _Tokenizer:
    def __init__(self, **ids):
        for name in ("pad", "unk", "bos", "eos"):
            setattr(self, f"{name}_token_id", ids.get(name))


@pytest.mark.parametrize(
    ("ids", "ends", "found"),
    [
        ({"pad": 1, "eos": 2}, {2}, 1),
        ({"pad": 2, "eos": 2, "unk": 0}, {2}, 0),  # SmolLM2's padding is what ends its turns
        ({"pad": 2, "eos": 2, "bos": 5}, {2}, 5),
        ({"eos": 2, "bos": 2}, {2}, 2),  # GPT-2 has one token for all
    ],
)
def test_what_ends_texts_does_not_pad_them(ids, ends, found):
    assert padding_token(_Tokenizer(**ids), ends) == found
