"""Where everything is kept."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["home_directory"]


def home_directory() -> Path:
    """$POLYANA_HOME, else .polyana in the working directory."""
    return Path(os.environ.get("POLYANA_HOME") or ".polyana").absolute()
