"""spaCy pipelines as pip installs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def lay_out(place: Path, name: str, pipeline: Any) -> None:
    """Put a pipeline into a directory for `sys.path` as the package `name`, a language and an underscore in front."""
    pipeline.meta |= {"name": name.partition("_")[2], "version": "0.0.1"}
    (place / name).mkdir()
    pipeline.to_disk(place / name / f"{name}-0.0.1")
    (place / name / "meta.json").write_bytes((place / name / f"{name}-0.0.1" / "meta.json").read_bytes())
    (place / name / "__init__.py").write_text(
        "from spacy.util import load_model_from_init_py\n\n\ndef load(**overrides):\n"
        "    return load_model_from_init_py(__file__, **overrides)\n"
    )
    information = place / f"{name}-0.0.1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.0.1\n")
