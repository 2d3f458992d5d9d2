"""`keep`, and above all its `total`."""

import io

import pytest

from polyana.errors import UserError
from polyana.registry import Commit, KeepConfig, Ranking, Repository, going
from polyana.run import run_recipe
from polyana.tracking import Console

QUIET = Console(io.StringIO())


def commits(losses):
    return [Commit(f"{step:040}", None, step, 0, 0.0, "", {"eval/loss": loss} if loss else {}, "",
                   {"model": f"m{step}", "tokenizer": "t"}, 0.0) for step, loss in losses.items()]  # fmt: skip


SIZES = {"t": 10} | {f"m{step}": 100 for step in range(20)}
LOSSES = {1: 5.0, 2: 1.0, 3: 4.0, 4: 2.0, 5: 6.0, 6: 7.0}


def steps_that_go(keep, protected=(), **more):
    found = commits(LOSSES)
    ids = [each.id for each in found if each.step in protected]
    return [each.step for each in going(found, KeepConfig.model_validate(keep), Ranking(), ids, SIZES, **more)]


def test_each_wish_keeps_its_own():
    assert steps_that_go({"best": 1, "last": 1}) == [1, 3, 4, 5]
    assert steps_that_go({"best": 2, "last": 2, "every": "3 steps"}) == [1]
    assert steps_that_go({"best": 1, "last": 2}, coming=1) == [1, 3, 4, 5], "the newest of two is yet to come"
    assert steps_that_go({"best": 1, "last": 1}, protected=(1, 6), coming=1) == [3, 4, 5]


def test_what_total_forbids_goes_in_order_multiples_then_old_then_worse_and_never_what_is_protected():
    everything = {"best": 2, "last": 2, "every": "1 steps"}
    assert steps_that_go(everything) == []
    for total, gone in (
        (610, []),
        (609, [1]),
        (500, [1, 3]),
        (400, [1, 3, 5]),
        (300, [1, 3, 5, 6]),
        (200, [1, 3, 4, 5, 6]),
    ):
        assert steps_that_go(everything | {"total": f"{total} bytes"}) == gone, total
    assert steps_that_go(everything | {"total": "1 bytes"}, protected=(2, 6)) == [1, 3, 4, 5]
    assert steps_that_go(everything | {"total": "500 bytes"}, needed=100) == [1, 3, 5], "there must be room for another"


def test_a_total_that_could_never_do_is_refused_before_training(tiny, load, home):
    with pytest.raises(
        UserError, match=r"`keep: \{total: 300 kB\}` holds less than 3 saves of 15\d kB.*write at least 4"
    ):
        run_recipe(load(tiny, "stages.pretrain.save.keep.total=300 kB"), console=QUIET)


def test_the_best_stays_within_the_total_while_training_goes_on(tiny, load, home):
    """Six saves, room for four with the one that is being made."""
    keep = ["stages.pretrain.save.every=2 steps", "stages.pretrain.save.keep.last=6"]
    summary = run_recipe(load(tiny, *keep, "stages.pretrain.save.keep.total=700 kB"), console=QUIET)["pretrain"]
    repository = Repository(home / "hub", summary["run"])
    assert [commit.step for commit in repository.commits()] == [6, 8, 10, 12]
    assert sum(repository.blob_sizes().values()) <= 700_000
    assert repository.resolve("best").step == summary["best_step"]
