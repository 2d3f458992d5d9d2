"""What stages make from the same input stays the same, or their VERSION is raised: else a cached result would be taken
for one that the new code would not make. And twenty steps of training stay the same twenty losses.

After a change that is meant:  POLYANA_GOLDEN=write pytest tests/golden
"""

import hashlib
import io
import json
import os
from pathlib import Path

import pytest
import zstandard
from conftest import metrics_of, newest_run

from polyana import corpus, data, tasks, tokenizer
from polyana.run import run_recipe
from polyana.tracking import Console

GOLDEN = Path(__file__).with_name("golden.json")
VERSIONS = {"corpus": corpus.VERSION, "tokenizer": tokenizer.VERSION, "tokens": data.VERSION, "pretrain": tasks.VERSION}
FILES = {"corpus": "*.jsonl.zst", "tokenizer": "tokenizer.json", "tokens": "*.tokens"}


def content(path: Path) -> bytes:
    """What a file holds, however well this version of zstd compresses it."""
    if path.suffix == ".zst":
        with zstandard.open(path, "rb") as stream:
            return stream.read()
    return path.read_bytes()


@pytest.fixture
def made(tiny, home, load, tmp_path) -> dict:
    """What the tiny recipe makes here and now, with some text that is hard on the corpus stage."""
    (tmp_path / "texts" / "hard.txt").write_bytes(
        "\ufeffЭто\u0301 —\u00a0text \r\nwith\u2028odd \x07 ends \n\n\n\nand cafe\u0301".encode()
    )
    (tmp_path / "texts" / "cp1251.txt").write_bytes(
        ("Все счастливые семьи похожи друг на друга. " * 5).encode("cp1251")
    )
    overrides = ["stages.pretrain.train.duration=20 steps", "stages.pretrain.model.dropout=0"]
    run_recipe(load(tiny, *overrides), console=Console(io.StringIO()))
    found: dict = {}
    for kind, pattern in FILES.items():
        (stage,) = (home / "stages").glob(f"{kind}-*")
        digests = {path.name: hashlib.sha256(content(path)).hexdigest() for path in sorted(stage.glob(pattern))}
        found[kind] = {"version": VERSIONS[kind], "files": digests}
    losses = metrics_of(newest_run(home))["train/loss"]
    found["pretrain"] = {"version": tasks.VERSION, "losses": [round(losses[step], 5) for step in range(1, 21)]}
    if os.environ.get("POLYANA_GOLDEN") == "write":
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
    return found


def test_what_stages_make_has_not_changed_under_the_same_version(made):
    golden = json.loads(GOLDEN.read_text())
    for kind in FILES:
        assert made[kind]["version"] == golden[kind]["version"], f"{kind}: record the new version's output"
        assert made[kind] == golden[kind], f"polyana/{kind} makes something else now: raise its VERSION"


def test_twenty_steps_are_the_twenty_steps_they_were(made):
    golden = json.loads(GOLDEN.read_text())["pretrain"]
    assert made["pretrain"]["version"] == golden["version"]
    # Another processor sums in another order: fp32 losses then differ in the fifth digit after twenty steps.
    assert made["pretrain"]["losses"] == pytest.approx(golden["losses"], rel=5e-4)
