"""`polyana doctor`: here all is well; broken installations are made on the path of a process of its own.

A broken installation is a package and its dist-info in a directory that PYTHONPATH names first. What fails in it is
real: torch itself says that the operator does not exist.
"""

import io
import json
import os
import shlex
import sys

import pytest
import torch
from packaging.requirements import Requirement

from polyana import doctor
from polyana.doctor import Finding


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(doctor, "_TRIAL", 0.01)


@pytest.fixture
def install(tmp_path):
    """install(name, version, code, *requirements): a package at the head of the path; None for metadata only."""
    site = tmp_path / "site"

    def install(name: str, version: str, code: str | None = None, *requirements: str) -> None:
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        lines = [f"Requires-Dist: {requirement}\n" for requirement in requirements]
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{''.join(lines)}\n")
        if code is not None:
            package = site / name.replace("-", "_")
            package.mkdir()
            (package / "__init__.py").write_text(code)

    return install


@pytest.fixture
def examined(tmp_path, home, polyana_process):
    """examined(exit_code): the findings in that installation, by topic and what they are about."""

    def examined(code: int, **environment: str) -> dict[tuple[str, str], dict]:
        path = os.pathsep.join(filter(None, [str(tmp_path / "site"), os.environ.get("PYTHONPATH")]))
        said = polyana_process("doctor", "--json", check=code, **({"PYTHONPATH": path} | environment))
        result = json.loads(said.stdout)
        assert result["well"] == (code == 0)
        return {(each["topic"], each["what"]): each for each in result["findings"]}

    return examined


def test_here_all_is_well(quick, home, polyana):
    said = polyana("doctor").stdout
    assert said.rstrip().endswith("all is well")
    for topic in ("devices", "processor", "room", "precisions", "attention", "compile", "versions"):
        assert f"\n{topic} " in f"\n{said}"
    found = json.loads(polyana("doctor", "--json").stdout)["findings"]
    by_name = {each["what"]: each for each in found}
    assert by_name["fp32 on cpu"]["numbers"]["gflops"] > 0
    assert by_name["sdpa"]["found"] == "works"
    assert by_name["fit"]["numbers"]["torch"] == torch.__version__
    assert by_name["disk"]["found"].endswith(str(home))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert by_name["memory"]["numbers"]["total"] == pytest.approx(memory, rel=0.01)


def test_an_attention_works_as_it_says(quick):
    """Tried here again by hand, on whatever device this is."""
    states = {each.what: each.state for each in doctor._attention()}
    assert states["sdpa"] == states["sdpa math"] == "well"
    if not torch.cuda.is_available():
        assert states["sdpa cudnn"] == states["varlen"] == "note"


def test_a_torchvision_for_another_torch_is_named_and_mended(install, examined):
    """What torchvision's own package does when its compiled part was built for another torch."""
    code = "import torch\ntorch.library.register_fake('torchvision::nms')(lambda *_: None)\n"
    install("torchvision", "0.15.0", code)
    found = examined(1)["clashes", "torchvision"]
    assert "cannot be imported: RuntimeError: operator torchvision::nms does not exist" in found["found"]
    assert found["mend"] == f"{shlex.quote(sys.executable)} -m pip uninstall -y torchvision"
    assert "pytorch/vision#8985" in found["source"]


def test_what_only_fails_through_another_is_not_to_be_installed_again(install, monkeypatch, tmp_path):
    """As when pip chose torchvision and torchaudio beside torch's CPU build: transformers could not be imported."""
    install("torchvision", "0.15.0", "raise OSError('undefined symbol: _ZN5torch3jit')")
    install("transformers", "5.23.0", "import torchvision")
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.syspath_prepend(tmp_path / "site")
    found = {each.what: each for each in doctor._imports()}
    assert "uninstall -y torchvision" in found["torchvision"].mend
    assert found["transformers"].state == "broken"
    assert found["transformers"].found.endswith("; it may work once torchvision is mended")
    assert not found["transformers"].mend


def test_packages_outside_what_polyana_and_others_require(install, examined):
    install("transformers", "4.57.1")
    install("flash-attn", "2.8.3", "raise ImportError('flash_attn_2_cuda.so: undefined symbol: _ZN3c105ErrorC2E')")
    install("torchaudio", "2.6.0", "", "torch==2.6.0")
    install("somebodys-tool", "1.0", "", "numpy<2", "absent>=3", "rich>=1; python_version < '3'")
    found = examined(1)
    version = found["versions", "transformers"]
    assert version["state"] == "broken"
    assert version["found"].startswith("4.57.1, but Polyana needs")
    asked = Requirement(shlex.split(version["mend"])[-1])
    assert asked.name == "transformers"
    assert not asked.specifier.contains("4.57.1")
    assert asked.specifier.contains("5.23.0")
    assert "undefined symbol" in found["clashes", "flash-attn"]["found"]
    assert found["clashes", "torchaudio"]["found"] == f"2.6.0 needs torch==2.6.0, not {torch.__version__}"
    tool = found["clashes", "somebodys-tool"]
    assert tool["state"] == "note"
    assert tool["found"].startswith("1.0 needs numpy<2, not ")


def test_a_torch_that_cannot_be_imported_is_said_in_words(install, examined):
    install("torch", torch.__version__, "raise ImportError('libcudart.so.13: cannot open shared object file')")
    found = examined(1)["versions", "torch"]
    assert found["found"] == "cannot be imported: libcudart.so.13: cannot open shared object file"
    assert "install --force-reinstall torch" in found["mend"]


def test_without_a_compiler_it_says_so_and_is_well_all_the_same(examined, tmp_path):
    found = examined(0, PATH=str(tmp_path))["compile", "C++"]
    assert found["state"] == "note"
    assert "no compiler" in found["found"]


def test_a_compiler_that_fails_is_not_called_good(monkeypatch, tmp_path):
    headers = tmp_path / "headers"
    headers.mkdir()
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"include": str(headers)})  # as without python3-dev
    (found,) = doctor._compiler()
    assert found.state == "note"
    assert "Python.h" in found.found or "no compiler" in found.found


@pytest.mark.parametrize(
    ("nvidia", "cuda", "available", "expected"),
    [
        (True, None, False, "is the build for CPUs: the GPU is not used"),
        (True, "13.0", False, "is built for CUDA 13.0 and finds no GPU that it can use"),
        (True, "13.0", True, None),
        (False, None, False, None),
    ],
)
def test_torchs_build_beside_the_gpu(nvidia, cuda, available, expected):
    found = list(doctor._gpu_clash(nvidia, cuda, None, available, "2.13.0+cpu"))
    assert bool(found) == (expected is not None)
    if expected:
        assert expected in found[0].found
        assert found[0].state == "broken"
        assert found[0].mend


def test_crowded_cores_are_seen_and_how_many_are_free():
    assert doctor._crowding(2, 2, 0.3).state == "well"
    crowded = doctor._crowding(8, 8, 3.1)
    assert crowded.state == "note"
    assert crowded.mend == "OMP_NUM_THREADS=5 polyana run RECIPE"
    assert doctor._crowding(2, 2, 9.0).mend.startswith("OMP_NUM_THREADS=1 ")


def test_a_format_that_does_not_work_is_broken_only_where_it_is_needed(monkeypatch):
    def rate(device, dtype):
        if dtype != torch.bfloat16:
            raise RuntimeError(f"\"addmm\" not implemented for '{dtype}'. More words")
        return 1.0

    monkeypatch.setattr(doctor, "_rate", rate)
    found = {each.what: each for each in doctor._precisions()}
    assert found["bf16 on cpu"].state == "well"
    assert found["fp32 on cpu"].state == "broken"
    assert found["fp16 on cpu"].state == "note"
    assert found["fp32 on cpu"].found == "does not work: \"addmm\" not implemented for 'torch.float32'"


def test_the_picture_ends_with_what_to_type():
    from rich.console import Console

    findings = [
        Finding(
            "versions", "numpy", "1.26, but Polyana needs >=2", "broken", "pip install 'numpy>=2'", "pyproject.toml"
        ),
        Finding("processor", "cores", "crowded", "note", "OMP_NUM_THREADS=1 polyana run RECIPE"),
    ]
    stream = io.StringIO()
    Console(width=100, file=stream).print(doctor.picture(findings))
    text = stream.getvalue()
    assert "all is well" not in text
    assert text.index("OMP_NUM_THREADS=1") < text.index("broken, mend with") < text.index("    pip install 'numpy>=2'")
