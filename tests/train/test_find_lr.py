"""The range test on losses known in advance, and in a run."""

import io
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from conftest import newest_run

from polyana.errors import Interrupted, TrainingFailed
from polyana.run import run_recipe
from polyana.tracking import Console
from polyana.train.find_lr import find_lr
from polyana.train.trainer import Trainer


def test_it_finds_the_valley_and_stops_on_the_way_up():
    tried = []

    def step(number, lr):
        tried.append(lr)
        return 1.0 if lr < 1e-2 else 1000.0

    test = find_lr(step)
    assert tried[0] == pytest.approx(1e-6)
    assert all(b / a == pytest.approx(10 ** (6 / 99)) for a, b in pairwise(tried))
    assert tried[-1] < 1.2e-2  # four times the lowest, at once
    assert test.smoothed[:-1] == pytest.approx([1.0] * (len(tried) - 1))


@pytest.mark.parametrize("steepest", [1e-4, 1e-3, 1e-2])
def test_the_suggestion_is_where_a_logistic_curve_is_steepest(steepest):
    """A running mean that weighs the past with 0.9 lags by up to 9 steps, a factor of 3.5."""
    test = find_lr(lambda _, lr: 10 - 4 / (1 + (steepest / lr) ** 2))
    assert steepest < test.suggestion < 3.5 * steepest


def test_a_loss_that_is_not_finite_ends_it_but_not_at_once():
    def step(number, lr):
        if number == 7:
            raise TrainingFailed("the loss is nan")
        return 3.0

    assert len(find_lr(step).rates) == 7
    with pytest.raises(TrainingFailed):
        find_lr(lambda _, lr: step(7, lr))


def test_what_it_leaves_behind(tiny, home, load, monkeypatch):
    said = io.StringIO()
    recipe = load(tiny, "stages.pretrain.train.find_lr=true")
    assert recipe.hash == load(tiny).hash
    run_recipe(recipe, console=Console(said))
    run = newest_run(home)
    rows = [tuple(map(float, line.split(","))) for line in (run / "find_lr.csv").read_text().splitlines()[1:]]
    assert len(rows) > 50
    picture = ElementTree.parse(run / "find_lr.svg").getroot()
    kinds = [element.tag.rpartition("}")[2] for element in picture]
    assert kinds.count("circle") == len(rows)
    assert kinds.count("polyline") == 1
    falls = {rows[i][0]: rows[i - 1][2] - rows[i + 1][2] for i in range(1, len(rows) - 1)}
    assert f"suggests lr {max(falls, key=falls.get):.1e}; the recipe's, which is used, is 1.0e-02" in said.getvalue()


def test_a_resumed_run_does_not_repeat_it(tiny, home, load, monkeypatch):
    original = Trainer._step

    def dying(self, gauge):
        if self.position.step == 5:
            raise Interrupted(9, "killed")
        original(self, gauge)

    recipe = load(tiny, "stages.pretrain.train.find_lr=true")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", dying)
        with pytest.raises(Interrupted):
            run_recipe(recipe, console=Console(io.StringIO()))
    said = io.StringIO()
    run_recipe(recipe, console=Console(said))
    assert "going on after step 4" in said.getvalue()
    assert "range test" not in said.getvalue()
