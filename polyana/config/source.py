"""YAML with line numbers.

A `Source` is plain data plus the place each value came from, so that every complaint can name file and line.
YAML 1.2 is read (ruamel.yaml): `6e-4` is a number and `no` is a word, which PyYAML gets wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from polyana.errors import Problem, UserError

__all__ = ["KeyPath", "Source", "dump_yaml", "read_yaml", "read_yaml_text"]

KeyPath = tuple[str | int, ...]


@dataclass
class Source:
    """What one file says, and where it says it."""

    name: str  # as shown in messages: the file's path
    data: dict[str, Any]
    places: dict[KeyPath, str] = field(default_factory=dict)  # "recipe.yaml:14", or "--set a.b=c"

    def where(self, path: KeyPath) -> str:
        """The place of `path`, or of the nearest thing around it that the file does contain."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return self.name

    def override(self, assignment: str) -> None:
        """Apply one `--set key.path=value`; the value is read as YAML. Raises UserError if it is no assignment."""
        place = f"--set {assignment}"
        key, separator, text = assignment.partition("=")
        if not separator or not key:
            raise UserError(Problem(place, "write it as key.path=value, as in stages.pretrain.train.lr=3e-4"))
        value = read_yaml_text(f"value: {text}", place).data["value"]
        path: list[str | int] = []
        target: Any = self.data
        *groups, last = key.split(".")
        for part in groups:
            if path == ["stages"] and part not in target:
                raise UserError(Problem(place, f"there is no stage `{part}`{closest(part, list(target))}"))
            index = _index(target, part, place)
            path.append(index)
            if isinstance(target, dict):
                target.setdefault(part, {})
            target = target[index]
        index = _index(target, last, place)
        target[index] = value
        self._replace_places((*path, index), place)

    def _replace_places(self, path: KeyPath, place: str) -> None:
        for known in [known for known in self.places if known[: len(path)] == path]:
            del self.places[known]
        self.places[path] = place


def _index(target: Any, part: str, place: str) -> str | int:
    """How `part` of a dotted key finds its way into `target`: a list is entered by number, from 0."""
    if isinstance(target, dict):
        return part
    if isinstance(target, list) and part.isdigit() and int(part) < len(target):
        return int(part)
    what = f"a list of {len(target)}, entered by number from 0" if isinstance(target, list) else f"a value: {target}"
    raise UserError(Problem(place, f"`{part}` is not found: what stands before it is {what}"))


def read_yaml(path: Path) -> Source:
    """Read a YAML file whose top is a mapping. Raises UserError with file and line if it is not one."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(Problem(str(path), "there is no such file")) from None
    except IsADirectoryError:
        raise UserError(Problem(str(path), "is a directory; name the YAML file in it")) from None
    except UnicodeDecodeError as error:
        raise UserError(Problem(str(path), f"is not UTF-8 text (byte {error.start}); save it as UTF-8")) from None
    except OSError as error:
        raise UserError(Problem(str(path), f"cannot be read: {error.strerror}")) from None
    return read_yaml_text(text, str(path))


def read_yaml_text(text: str, name: str) -> Source:
    """As `read_yaml`, from a string; `name` stands for the file in messages."""
    loader = YAML(typ="safe", pure=True)
    try:
        node = loader.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark is not None else name
        raise UserError(Problem(where, f"is not valid YAML: {error.problem or error.context}")) from None
    except YAMLError as error:
        raise UserError(Problem(name, f"is not valid YAML: {error}")) from None
    if not isinstance(node, MappingNode):
        raise UserError(Problem(name, "should be settings, one `key: value` a line"))
    reader = _Reader(loader, name)
    try:
        data = reader.value(node, ())
    except MarkedYAMLError as error:
        where = f"{name}:{error.problem_mark.line + 1}" if error.problem_mark is not None else name
        raise UserError(Problem(where, f"is no plain data: {error.problem}")) from None
    if reader.problems:
        raise UserError(reader.problems)
    return Source(name, data, reader.places)


class _Reader:
    """Turns YAML nodes into data, noting the line of each."""

    def __init__(self, loader: YAML, name: str) -> None:
        self.loader = loader
        self.name = name
        self.places: dict[KeyPath, str] = {}
        self.problems: list[Problem] = []
        self.open_nodes: set[int] = set()

    def place(self, node: Node) -> str:
        return f"{self.name}:{node.start_mark.line + 1}"

    def value(self, node: Node, path: KeyPath) -> Any:
        self.places.setdefault(path, self.place(node))
        if isinstance(node, ScalarNode):
            if str(node.tag).endswith(":timestamp"):  # a date is text to us
                return node.value
            return self.loader.constructor.construct_object(node)
        if id(node) in self.open_nodes:
            self.problems.append(Problem(self.place(node), "an alias (*name) stands inside its own anchor"))
            return None
        self.open_nodes.add(id(node))
        try:
            if isinstance(node, SequenceNode):
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._mapping(node, path)
        finally:
            self.open_nodes.discard(id(node))

    def _mapping(self, node: Node, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            if key == "<<":
                inherited = self.value(value_node, path)
                for mapping in reversed(inherited if isinstance(inherited, list) else [inherited]):  # the first wins
                    merged.update(mapping if isinstance(mapping, dict) else {})
                continue
            key_path = (*path, key)
            if key in result:
                first = self.places[key_path]
                self.problems.append(Problem(self.place(key_node), f"`{key}` is given twice; the first is at {first}"))
            self.places[key_path] = self.place(key_node)
            result[key] = self.value(value_node, key_path)
        return merged | result


def dump_yaml(data: dict[str, Any]) -> str:
    """`data` as YAML text, keys in the given order."""
    from io import StringIO

    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # its annotation says None
    writer.allow_unicode = True
    writer.width = 110
    stream = StringIO()
    writer.dump(data, stream)
    return stream.getvalue()


_ELSEWHERE = {
    "learning_rate": "lr", "batch_size": "batch", "per_device_train_batch_size": "micro_batch", "epochs": "duration",
    "num_train_epochs": "duration", "max_steps": "duration", "lr_scheduler_type": "schedule", "min_lr": "final_lr",
    "warmup_steps": "warmup", "warmup_ratio": "warmup", "max_grad_norm": "clip", "grad_clip": "clip",
    "save_steps": "every", "eval_steps": "every", "save_total_limit": "keep", "n_layer": "layers",
    "num_hidden_layers": "layers", "n_embd": "width", "hidden_size": "width", "n_head": "heads",
    "num_attention_heads": "heads", "block_size": "context", "max_seq_length": "context", "type": "kind",
    "early_stopping_patience": "patience", "max_new_tokens": "max_tokens", "optim": "optimizer",
    "bf16": "precision", "dtype": "precision",
}  # fmt: skip
"""What other trainers call some of our settings."""


def closest(word: str, known: Sequence[str]) -> str:
    """ "; did you mean `x`?" with the known name nearest to `word`, or "" when none is near."""
    from difflib import get_close_matches

    names = {name: name for name in known} | {theirs: ours for theirs, ours in _ELSEWHERE.items() if ours in known}
    near = get_close_matches(word, names, n=1, cutoff=0.6)
    return f"; did you mean `{names[near[0]]}`?" if near else ""
