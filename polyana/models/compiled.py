"""A model's layers through torch.compile: fewer passes over memory, for half a minute or more at the start."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from polyana.errors import PolyanaError

__all__ = ["CompilerMissing", "compile_blocks", "try_compiler"]

_DAMAGED = re.compile(r"(/\S+\.so): (?:file too short|invalid ELF header|cannot read file data)")  # as dlopen says it


class CompilerMissing(Exception):
    """Says what is missing for torch.compile on a CPU."""


def try_compiler() -> str:
    """The C++ compiler that torch.compile uses on a CPU, tried on one line: it must find Python's headers and OpenMP.

    Takes about a second. Raises CompilerMissing.
    """
    name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")  # torch/_inductor/config.py
    compiler = shutil.which(name)
    if compiler is None:
        raise CompilerMissing(f"no compiler `{name}`")
    openmp = ["-fopenmp"] if sys.platform == "linux" else []
    header = "#include <omp.h>\n" if openmp else ""
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "trial.cpp"
        source.write_text(f"#include <Python.h>\n{header}int one() {{ return 1; }}\n")
        include = f"-I{sysconfig.get_paths()['include']}"
        command = [compiler, "-shared", "-fPIC", *openmp, include, str(source), "-o", f"{directory}/trial.so"]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        errors = [line.rpartition("error:")[2] for line in process.stderr.splitlines() if "error:" in line]
        raise CompilerMissing(f"{compiler} fails: {(errors or ['it says no more'])[0].strip()}")
    return compiler


def compile_blocks(blocks: Sequence[nn.Module]) -> None:
    """Let each layer compute in training by compiled code, in place; its parameters stay as they are.

    The layers share one compiled form. Evaluation and writing stay as they were: they would each be compiled anew.
    `fullgraph`: a part that cannot be compiled is an error and never a slow detour.
    """
    for block in blocks:
        _compile(block)


def _compile(block: nn.Module) -> None:
    plain = block.forward
    compiled = torch.compile(plain, fullgraph=True, dynamic=False)

    from torch._inductor.runtime.cache_dir_utils import cache_dir

    def forward(*arguments: Any, **settings: Any) -> Any:
        if not block.training:
            return plain(*arguments, **settings)
        try:
            return compiled(*arguments, **settings)
        except Exception as error:
            found = _DAMAGED.search(str(error))
            if found is None or not Path(found[1]).is_relative_to(cache_dir()):
                raise
            Path(found[1]).unlink(missing_ok=True)
            raise PolyanaError(
                f"{found[1]}, left by a run that was stopped while it compiled, was damaged; it is deleted now, "
                "so run the same command again"
            ) from None

    block.forward = forward
