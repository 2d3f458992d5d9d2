"""A save as other programs run it: one GGUF file, or one directory without an adapter."""

from polyana.export.export import Exported, Merging, export_gguf, export_merged
from polyana.export.gguf_file import Kind

__all__ = ["Exported", "Kind", "Merging", "export_gguf", "export_merged"]
