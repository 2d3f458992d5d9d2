"""The command line as a user meets it: results on stdout, talk on stderr, exit codes, advice that can be typed."""

import json
import re

import pytest
from conftest import newest_run
from typer.testing import CliRunner

from polyana.cli import app


@pytest.fixture
def trained(tiny, home, polyana_process):
    """A finished run of the tiny recipe: what its process said."""
    return polyana_process("run", tiny)


def test_a_run_ends_with_a_table_samples_the_model_and_what_to_try(trained, tiny, home, polyana):
    said = trained.stdout
    for row in (
        "eval loss",
        "perplexity",
        "bits per byte",
        "character trigram",
        "tokens per second",
        "wall time",
        "disk",
    ):
        assert row in said
    assert "step 0: The people" in said
    assert "step 12: The people" in said
    place = re.search(r"The best model: (.+)", said)[1]
    assert (tiny.parent / place / "model.safetensors").exists()
    advice = re.findall(r"^  polyana (.+)$", said, re.MULTILINE)
    assert len(advice) == 3
    for line in advice:  # each can be typed as it stands
        arguments = [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', line)]
        polyana(*arguments)


def test_what_is_finished_is_kept_and_its_result_shown_again(trained, tiny, polyana):
    again = polyana("run", tiny)
    assert again.stderr.count("unchanged, kept") == 3
    assert "eval loss" in again.stdout
    assert re.search(r"wall time +│ 0:0\d this time \(training steps 0:0\d in all\)", again.stdout)
    (summary,) = json.loads(polyana("run", tiny, "--json").stdout).values()
    assert summary["steps"] == 12
    text = tiny.read_text()
    tiny.write_text(text + text[text.index("  pretrain:") :].replace("pretrain:", "again:", 1))
    both = polyana("run", tiny).stdout
    assert re.search(r"^All of it took 0:\d\d\.$", both, re.MULTILINE)
    assert both.count("training steps took") == 2  # and none calls the time of both its own
    assert "wall time" not in both
    more = polyana("run", tiny, "--set", "stages.pretrain.train.lr=2e-2").stderr
    assert "corpus       unchanged, kept" in more
    assert "pretrain     train.lr was 0.01, is 0.02" in more


def test_the_resolved_recipe_in_the_run_is_the_same_run(trained, home, polyana):
    run = newest_run(home)
    assert "pretrain     unchanged, kept" in polyana("run", run / "recipe.yaml").stderr
    assert len(list((home / "runs").iterdir())) == 1


def test_resume_needs_something_to_resume_and_fresh_begins_anew(trained, tiny, home, polyana):
    assert "no interrupted run" in polyana("run", tiny, "--resume", check=2).stderr
    assert "choose one" in polyana("run", tiny, "--resume", "--fresh", check=2).stderr
    polyana("run", tiny, "--fresh")
    assert len(list((home / "runs").iterdir())) == 2


def test_one_stage_and_what_it_needs(tiny, home, polyana):
    said = polyana("run", tiny, "--stage", "tokenizer").stderr
    assert "corpus" in said
    assert not (home / "runs").exists()


def test_mistakes_exit_with_2_and_say_where(tiny, polyana):
    tiny.write_text(tiny.read_text().replace("lr: 1e-2", "learnign_rate: 1e-2").replace("seed: 7", "seed: x"))
    said = polyana("run", tiny, check=2)
    assert said.stdout == ""
    assert f"{tiny}:2  `seed: x` should be a whole number" in said.stderr
    assert "unknown key `learnign_rate`; did you mean `lr`?" in said.stderr
    assert "Traceback" not in said.stderr


def test_missing_text_is_found_before_anything_runs(tiny, home, polyana):
    tiny.write_text(tiny.read_text().replace("{path: texts}", "{path: nowhere}, {path: elsewhere}"))
    said = polyana("run", tiny, check=2).stderr.splitlines()
    assert [line.split("  ")[0] for line in said] == [f"{tiny}:6"] * 2
    assert "`nowhere` does not exist" in said[0]
    assert not home.exists()


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("stages.pretrain.model.context=100000", "too few for one block of `context: 100000`"),
        ("stages.corpus.min_characters=100000", "the corpus is empty: of 12 documents none was kept"),
        ("stages.pretrain.train.warmup=2000 tokens", "(16 steps) do not fit into `duration: 12 steps`"),
    ],
)
def test_what_only_shows_on_the_way_is_explained_too(tiny, polyana, override, says):
    process = polyana("run", tiny, "--set", override, check=None)
    assert process.returncode in (1, 2)
    assert says in process.stderr
    assert "Traceback" not in process.stderr


def test_runs_lists_runs_with_a_curve(trained, home, polyana):
    said = polyana("runs").stdout
    assert newest_run(home).name in said
    assert "finished" in said
    assert re.search("[▁▂▃▄▅▆▇█]{12}", said), "a table in a pipe is cut off"
    (row,) = json.loads(polyana("runs", "--json").stdout)
    assert row["step"] == 12
    assert len(row["curve"]) == 12


def test_what_best_is_picked_by_is_said_unless_it_is_the_loss(trained, tiny, home, polyana):
    assert "best by" not in trained.stdout + polyana("runs").stdout
    name = newest_run(home).name
    value = json.loads(polyana("models", "pick", name, "--by", "eval/perplexity", "--max", "--json").stdout)["value"]
    (row,) = json.loads(polyana("runs", "--json").stdout)
    step = row["best"]["step"]
    assert row["best"] == {"step": step, "eval/loss": row["best"]["eval/loss"], "by": "eval/perplexity",
                           "lowest": False, "value": value}  # fmt: skip
    words = f"eval/perplexity {value:.4g} at {step}, more is better"
    assert words in polyana("runs").stdout
    assert re.search(rf"best by +│ {re.escape(words)}", polyana("run", tiny).stdout)
    polyana("models", "pick", name, "--by", "eval/bits_per_byte")
    assert re.search(r"best by +│ eval/bits_per_byte [\d.]+ at 12, less is better", polyana("run", tiny).stdout)


def test_runs_without_any_run(polyana, home):
    assert "no runs" in polyana("runs").stdout


def test_generate_any_revision(trained, home, polyana):
    run = newest_run(home).name
    best = polyana("generate", f"{run}@best", "The people", "--max-tokens", "8").stdout
    assert best.startswith("The people")
    assert best == polyana("generate", "tiny-pretrain@step-12", "The people", "--max-tokens", "8").stdout
    longer = [polyana("generate", f"{run}@step-{step}", "The people", "--max-tokens", "30").stdout for step in (8, 12)]
    assert longer[0] != longer[1]
    assert best != polyana("generate", run, "The people", "--max-tokens", "8", "--seed", "3").stdout
    assert (
        "has no revision `step-5`; it has: best, main, step-8, step-12"
        in polyana("generate", f"{run}@step-5", "x", check=2).stderr
    )
    assert "did you mean `tiny-pretrain`?" in polyana("generate", "tiny-pretrian", "x", check=2).stderr


def test_a_damaged_checkpoint_is_named(trained, home, polyana):
    (hub,) = (home / "hub").iterdir()
    weights = (hub / "snapshots" / (hub / "refs" / "main").read_text() / "model.safetensors").resolve()
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    said = polyana("generate", "tiny-pretrain@main", "x", check=1).stderr
    assert "model.safetensors is damaged: its checksum is not its name; the commit before it is" in said
    polyana("generate", "tiny-pretrain@step-8", "x")


def test_a_damaged_shard_is_named_and_made_again(trained, tiny, home, polyana):
    (shard,) = (home / "stages").glob("tokens-*/train-00000.tokens")
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    said = polyana("run", tiny, "--fresh").stderr
    assert "train-00000.tokens is damaged (its checksum is not the one it was written with): making it again" in said


def test_show_the_data(trained, tiny, home, polyana):
    batch = polyana("show", "batch", tiny, "--step", "3", "--rows", "1").stdout
    assert "sequence 1: 32 tokens of texts/" in batch
    assert batch.count("|") >= 32
    assert "has 12 steps" in polyana("show", "batch", tiny, "--step", "13", check=2).stderr
    corpus = polyana("show", "corpus", tiny).stdout
    assert re.search(r"read +12 documents", corpus)
    assert re.search(r"read +12 documents +\S+ kB  \N{FULL BLOCK}{40}\n", corpus)
    page = re.search(r"examples of each reason.*: (\S+report\.html)", corpus)[1]
    assert "12 of 12 documents stay" in (home.parent / page).read_text("utf-8")
    assert json.loads(polyana("show", "corpus", tiny, "--json").stdout)["total"]["read"]["documents"] == 12
    tokenizer = polyana("show", "tokenizer", tiny).stdout
    assert "400 tokens in the vocabulary" in tokenizer
    assert tokenizer.count("  as ") == 10


def test_help_reads_well():
    for arguments in ([], ["run"], ["runs"], ["generate"], ["show"], ["show", "batch"]):
        said = CliRunner().invoke(app, [*arguments, "--help"])
        assert said.exit_code == 0
        assert "Usage:" in said.output
    main = CliRunner().invoke(app, ["--help"]).output
    for verb in ("run", "runs", "generate", "show"):
        assert verb in main
