"""Writes docs/recipe.md: every setting of every stage, from the configs themselves.

python docs/make_reference.py
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from polyana.config import Config, config_classes, kind_of
from polyana.evaluate import TASK_KINDS
from polyana.recipe import KINDS

HEAD = """\
# Every setting

Written by `docs/make_reference.py` from the configs; a test holds the two together.

A recipe has `name` (default: the file's name), `seed` (default 0) and `stages`; each stage has a name of your choosing
and a `kind`. A setting whose value is another stage takes that stage's name.
"""

SUITES = """
# Every setting of a suite

A suite is a file of its own, for `polyana evaluate --suite FILE` (evaluation.md): `name` (default: the file's name) and
`tasks`, each with a name of your choosing and a `kind`.
"""


def reference() -> str:
    parts = [HEAD]
    for kind, config in KINDS.items():
        parts.append(f"\n## kind: {kind}\n\n{_sentence(config)}\n\n" + _table(config))
    parts.append(SUITES)
    for kind, task in TASK_KINDS.items():
        parts.append(f"\n## In a suite, kind: {kind}\n\n{_sentence(task)}\n\n" + _table(task))
    return "".join(parts)


def _table(config: type[Config], prefix: str = "") -> str:
    rows, inner_tables = [], []
    for name, field in config.model_fields.items():
        if name == "kind" and len(get_args(field.annotation)) == 1:
            continue
        inner = config_classes(field.annotation)
        shown = f"{prefix}{name}"
        if len(inner) > 1:
            kinds = ", ".join(f"`{kind_of(each)}`" for each in inner)
            none = field.get_default(call_default_factory=True, validated_data={}) == []
            default = "none" if none else f"`{kind_of(inner[0])}`"
            rows.append(
                f"| `{shown}` | {default} | one of {kinds}{f'; {field.description}' if field.description else ''} |\n"
            )
            for each in inner:
                inner_tables.append(f"\n`{shown}: {{kind: {kind_of(each)}}}`: {_sentence(each)}\n\n")
                inner_tables.append(_table(each, f"{shown}."))
        elif inner:
            plural = get_origin(field.annotation) is list
            inner_tables.append(f"\n`{shown}`{' (a list)' if plural else ''}: {_sentence(inner[0])}\n\n")
            inner_tables.append(_table(inner[0], f"{shown}[]." if plural else f"{shown}."))
        else:
            rows.append(f"| `{shown}` | {_default(field)} | {_says(field)} |\n")
    return "| setting | default | |\n|---|---|---|\n" + "".join(rows) + "".join(inner_tables)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return "none" if value is None else f"`{value}`"


def _says(field: FieldInfo) -> str:
    """The description, and the names to choose from."""
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    chosen = "one of " + ", ".join(f"`{choice}`" for choice in choices) if choices else ""
    return "; ".join(part for part in (chosen, field.description or "") if part)


def _sentence(config: type[Config]) -> str:
    return re.sub(r"\s+", " ", (config.__doc__ or "").strip())


if __name__ == "__main__":
    Path(__file__).with_name("recipe.md").write_text(reference(), encoding="utf-8")
