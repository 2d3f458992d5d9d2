"""How many layers are computed again: none where memory suffices, as few as it takes where it does not."""

import io

import pytest
from conftest import CLOCKED, metrics_of, newest_run

from polyana.distributed import Strategy, World
from polyana.pipeline import Pipeline
from polyana.run import run_recipe
from polyana.storage import home_directory
from polyana.tracking import Console
from polyana.train import TrainingPlan, choose_checkpointing


@pytest.fixture
def choose(tiny, load, home):
    """(recipe's setting, bytes available) -> the choice."""
    recipe = load(tiny, "stages.pretrain.model.layers=4")
    config = recipe.stages["pretrain"].train
    task = Pipeline(recipe, home_directory(), Console(io.StringIO())).task("pretrain")
    plan = TrainingPlan.of(config, task.per_epoch, task.tokens_per_epoch, task.context)

    def choose(wanted, available):
        strategy = Strategy(World(), task.precision.device)
        changed = config.model_copy(update={"checkpointing": wanted})
        return choose_checkpointing(changed, plan, task, strategy, available)

    return choose


def test_as_few_layers_as_memory_asks_for(choose):
    chosen = [choose("auto", kilobytes * 1000).recomputed for kilobytes in range(100, 8000, 100)]
    assert chosen == sorted(chosen, reverse=True)
    assert set(chosen) == {0, 2, 3, 4}  # one alone saves nothing: it is held while it is computed again
    assert chosen[0] == 4
    assert chosen[-1] == 0
    assert "may not fit: write a smaller `micro_batch`" in str(choose("auto", 100_000))
    chosen, why = choose("auto", 10**9).choice
    assert chosen == "none"
    assert "are available" in why


@pytest.mark.parametrize(("wanted", "count"), [(True, 4), (False, 0), (3, 3)])
def test_what_the_recipe_says_counts(choose, wanted, count):
    choice = choose(wanted, 1)
    assert (choice.recomputed, choice.reason) == (count, "as the recipe says")


def test_more_layers_than_there_are_is_a_mistake(tiny, load):
    with pytest.raises(Exception, match="the model has 2 layers; write true for all"):
        load(tiny, "stages.pretrain.train.checkpointing=3")


def test_training_is_the_same_to_the_last_bit(tiny, load, home):
    def train(checkpointing):
        out = io.StringIO()
        recipe = load(tiny, f"stages.pretrain.train.checkpointing={checkpointing}", "stages.pretrain.model.dropout=0.1")
        run_recipe(recipe, fresh=True, console=Console(out))
        metrics = metrics_of(newest_run(home))
        return {name: values for name, values in metrics.items() if name not in CLOCKED}, out.getvalue()

    (plain, silent), (again, told) = train("false"), train("true")
    assert plain == again
    assert "computed again" not in silent
    assert "the backward pass computes 2 of 2 layers again: as the recipe says" in " ".join(told.split())
