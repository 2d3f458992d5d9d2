"""What the registry costs: `make bench-registry [ARGS=--quick]`; exit code 1 when a bar is missed.

    commit    a commit of a model of 135 million parameters, in fp32, against transformers' `save_pretrained` of the
              same, put on the disk as a commit is (fsync). Beside it stands, without a bar: against a plain one, which
              is left in the page cache, and what the disk alone takes for the bytes; and all into memory (tmpfs)
    waiting   how long training stands still for it: what is lent and taken back while a step's worth of matrix products
              goes on, as a share of `save_pretrained`
    log       `polyana models log` of 300 commits of a 100 MB adapter, a process of its own (--sparse: no bytes in them)
    gc        bytes that it says it has freed against what the disk has more

Ours and theirs alternate; ratios are of medians. Run it on quiet cores.
"""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import torch
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers.utils import logging

from polyana.models import names_to_store, save_settings, weights_to_store, write_tensors
from polyana.registry import Repository
from polyana.storage import disk_used, flush_to_disk
from polyana.train.lending import Lent

RUN = "bench-pretrain-2026-11-29_01.02.03"
ADAPTER = 100_000_000  # bytes


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def model_of(quick: bool) -> torch.nn.Module:
    """The shape of SmolLM2-135M; a third of its layers when it should be quick."""
    return AutoModelForCausalLM.from_config(
        LlamaConfig(
            hidden_size=576, intermediate_size=1536, num_hidden_layers=10 if quick else 30, num_attention_heads=9,
            num_key_value_heads=3, vocab_size=49152, tie_word_embeddings=True,
        )
    )  # fmt: skip


class Model:
    """What is saved, and into which repository."""

    def __init__(self, place: Path, quick: bool) -> None:
        self.model = model_of(quick)
        self.repository, self._settings = Repository(place / "hub", RUN), place / "settings"
        save_settings(self.model, self._settings)
        weights = {name: each.detach() for name, each in self.model.state_dict(keep_vars=True).items()}
        names = names_to_store(weights, weights_to_store(self.model, weights))
        assert names is not None
        self.stored = {name: weights[own] for name, own in names.items()}
        self._step = 0

    def change(self) -> None:
        """A step of training; else the content would be there already."""
        with torch.no_grad():
            next(self.model.parameters()).add_(1.0)

    def lend(self) -> Lent:
        return Lent(self.stored.values(), lambda: 10**12)

    def commit(self, lent: Lent) -> None:
        self._step += 1
        files = self.repository.arriving(self._step)
        known = {"model.safetensors": write_tensors(files / "model.safetensors", self.stored, lent.copy)}
        lent.give_back(self.stored.values())
        for path in self._settings.iterdir():
            shutil.copy(path, files)
        self.repository.commit(files, self._step, self._step, 0.0, "", {}, "r", known=known)

    def clean(self, *more: Path) -> None:
        """Forget all commits, and what else was written; the disk has nothing left to do."""
        for path in more:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        for each in self.repository.commits():
            self.repository.remove(each)
        self.repository.collect()
        os.sync()


def race_commits(place: Path, rounds: int, quick: bool) -> dict[str, float]:
    """Medians of seconds, all at `place`: `plain` of save_pretrained, `durable` of one with fsync, `commit`, and
    `disk`, the same bytes from memory to the disk and nothing else. Each begins with a disk that has nothing to do, and
    each is the first of a round as often as any other.

    Before `plain` and `durable` one is made that is not measured: memory that a virtual machine has given back to its
    host costs up to half a second to get again, and save_pretrained alone asks for that much.
    """
    saved, target = Model(place, quick), place / "saved"
    size = sum(each.nbytes for each in saved.stored.values())
    content = mmap.mmap(-1, size)
    content[:] = os.urandom(1 << 20) * (size >> 20) + bytes(size % (1 << 20))

    def plain() -> None:
        saved.model.save_pretrained(target)  # type: ignore[operator]

    def durable() -> None:
        plain()
        flush_to_disk(*target.iterdir(), target)

    works = {
        "plain": plain, "durable": durable, "disk": lambda: write_directly(target, content),
        "commit": lambda: saved.commit(saved.lend()),
    }  # fmt: skip
    taken: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds):
        names = list(works)[turn % len(works) :] + list(works)[: turn % len(works)]
        for name in names:
            saved.change()
            if name in ("plain", "durable"):
                plain()
                saved.clean(target)
            taken[name].append(timed(works[name]))
            saved.clean(target)
    return {name: median(seconds) for name, seconds in taken.items()}


def waiting(place: Path, rounds: int, quick: bool) -> float:
    """Median of the seconds that training stands still for a commit, beside a step's worth of matrix products: lending
    the weights and taking them back."""
    saved, left, taken = Model(place, quick), torch.randn(2048, 2048), []
    with ThreadPoolExecutor(1) as thread:
        for _ in range(rounds):
            saved.change()
            began = time.perf_counter()
            lent = saved.lend()
            pending = thread.submit(saved.commit, lent)
            lending = time.perf_counter() - began
            until = time.perf_counter() + (1.5 if quick else 3.0)
            while time.perf_counter() < until:
                left @ left
            taken.append(lending + timed(lent.take_back))
            pending.result()
            saved.clean()
    return median(taken)


def write_directly(path: Path, content: mmap.mmap) -> None:
    """Hand all of `content` to the disk, past the cache, nothing else to do."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
    whole = memoryview(content)[: len(content) // 4096 * 4096]
    while whole:
        whole = whole[os.write(descriptor, whole[: 1 << 20]) :]
    os.fsync(descriptor)
    os.close(descriptor)


def log_of_many(place: Path, commits: int, rounds: int, *, real: bool) -> tuple[float, float]:
    """(seconds for a log, bytes freed over bytes that are there again). `real`: weights that take room on the disk, 30
    GB of 300 commits; else a hole of the same size."""
    repository = Repository(place / "hub", RUN)
    weights = torch.randn(ADAPTER // 4 - 1000)
    for step in range(1, commits + 1):
        files = repository.arriving(step)
        known = {}
        if real:
            weights[0] = step
            known["adapter_model.safetensors"] = write_tensors(files / "adapter_model.safetensors", {"lora": weights})
        else:
            with (files / "adapter_model.safetensors").open("wb") as file:
                file.write(str(step).encode())
                file.truncate(ADAPTER)
        (files / "adapter_config.json").write_text("{}")
        metrics = {"eval/loss": 2 + 1 / step, "eval/perplexity": 8.0, "eval/bits_per_byte": 1.0}
        repository.commit(files, step, step * 1000, step / 100, f"step {step} of {commits}", metrics, "r", known=known)
    command = [sys.executable, "-m", "polyana", "models", "log", RUN]
    environment = os.environ | {"POLYANA_HOME": str(place)}

    def log() -> None:
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)

    log()
    seconds = median(timed(log) for _ in range(rounds))
    before, freed = disk_used(place), 0
    for each in repository.commits()[: commits // 2]:
        freed += repository.remove(each)
    freed += repository.collect()
    return seconds, freed / (before - disk_used(place))


def bar(name: str, ratio: float, target: float, *, met: bool | None = None, besides: str = "") -> bool:
    met = ratio <= target if met is None else met
    more = f"  ({besides})" if besides else ""
    print(f"BAR {name} ratio={ratio:.3f} target={target:g} {'PASS' if met else 'SHORT'}{more}", flush=True)
    return met


def main() -> None:
    quick = "--quick" in sys.argv
    rounds = 4 if quick else 8  # each of the four begins as often
    logging.disable_progress_bar()
    met = []
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        inside = race_commits(Path(memory), rounds, quick)
        print("in memory:", *(f"{name} {seconds:.3f} s" for name, seconds in inside.items()), flush=True)
        print(f"in memory a commit takes {inside['commit'] / inside['plain']:.2f} of a save_pretrained")
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_PLACE")) as directory:
        place = Path(directory)
        disk = race_commits(place / "commits", rounds, quick)
        print("on a disk:", *(f"{name} {seconds:.3f} s" for name, seconds in disk.items()), flush=True)
        cached, floor = disk["commit"] / disk["plain"], disk["disk"] / disk["plain"]
        on_disk = disk["commit"] / disk["durable"]
        besides = f"of a plain one, which is not on the disk yet: {cached:.2f}, where the disk alone takes {floor:.2f}"
        met.append(bar("commit_against_save_pretrained_on_disk", on_disk, 1.2, besides=besides))
        waited = waiting(place / "waiting", rounds, quick)
        met.append(bar("waiting_share_of_save_pretrained", waited / disk["plain"], 0.05))
        commits = 60 if quick else 300
        seconds, exact = log_of_many(place / "many", commits, 5, real="--sparse" not in sys.argv)
        met.append(bar(f"log_of_{commits}_commits_seconds", seconds, 0.3))
        met.append(bar("gc_bytes_said_over_freed", exact, 1, met=exact == 1))
    sys.exit(0 if all(met) else 1)


main()
