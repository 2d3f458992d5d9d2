"""Saves answer over OpenAI's protocol. `polyana serve` starts it."""

from polyana.serve.engine import Engine
from polyana.serve.saves import Save, Saves
from polyana.serve.server import open_server

__all__ = ["Engine", "Save", "Saves", "open_server"]
