"""The revisions that are served: loaded, pinned in their registry, and followed where their name moves on."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterable, MutableMapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyana.errors import PolyanaError, UserError
from polyana.generation import load_for_generation
from polyana.models import longest_text
from polyana.registry import Commit, Repository
from polyana.serve.logprobs import TokenTexts
from polyana.serve.refused import Refused

__all__ = ["Hold", "Loaded", "Save", "Saves"]

_LOOK = 1.0  # seconds between two looks at whether a name has moved on; guess


@dataclass(frozen=True)
class Save:
    """A revision's files. `base`: the directory of the model below, where it is an adapter."""

    repository: Repository
    commit: Commit
    directory: Path
    base: Path | None


Hold = Callable[[str], AbstractContextManager[Save]]
"""RUN[@REV] -> the save, whose files stay until the block ends. Raises UserError where there is none."""


class Loaded:
    """A save that is ready to write. `name`: as it was asked for; `bases`: models below adapters, loaded once each."""

    def __init__(self, name: str, save: Save, bases: MutableMapping[Path, Any]) -> None:
        self.name, self.save = name, save
        self.held = ExitStack()
        """What is undone when it is let go."""
        self.model, self.tokenizer = load_for_generation(save.directory, save.base, bases)
        self.tokenizer("a")  # it is set up by its first use, which should not be that of two threads
        self.context = longest_text(self.model)
        stated = self.model.generation_config.eos_token_id
        self.ends = set(stated if isinstance(stated, list) else [stated])
        """The tokens at which transformers stops."""
        self.token_texts = TokenTexts(self.tokenizer)
        self.users, self.is_served = 0, True

    def __str__(self) -> str:
        return f"{self.save.repository.run}@step-{self.save.commit.step}"

    @property
    def reference(self) -> str:
        """What of its name may move on, as `best`."""
        return self.name.partition("@")[2] or "main"

    @property
    def names(self) -> set[str]:
        """By what it may be asked for."""
        runs, commit = (self.name.partition("@")[0], self.save.repository.run), self.save.commit
        references = (self.reference, f"step-{commit.step}", commit.id)
        return {self.name, *(f"{run}@{each}" for run in runs for each in references)}

    def about(self) -> dict[str, Any]:
        """As OpenAI lists a model, and which save it is."""
        commit = self.save.commit
        return {
            "id": self.name, "object": "model", "created": int(commit.time), "owned_by": "polyana",
            "run": self.save.repository.run, "step": commit.step, "commit": commit.id, "context": self.context,
            "chat": self.tokenizer.chat_template is not None,
        }  # fmt: skip

    def has_moved(self) -> bool:
        """Whether its name stands for another commit by now."""
        return self.save.repository.refs().get(self.reference, self.save.commit.id) != self.save.commit.id

    def let_go(self) -> None:
        """Forget the model, and let retention have the files."""
        self.model = self.tokenizer = None
        gc.collect()
        self.held.close()


class Saves:
    """What is served, by name. All but `load` belongs to one event loop. `by`: who the pins say it is."""

    def __init__(self, hold: Hold, by: str, say: Callable[[str], None]) -> None:
        self._hold, self._by, self._say = hold, by, say
        self._served: dict[str, Loaded] = {}
        self._failed: dict[str, str] = {}
        self._bases: dict[Path, Any] = {}  # a run's base never changes, so none is ever let go

    def load(self, names: Iterable[str]) -> None:
        """Hold, pin and load them. Raises UserError."""
        for name in names:
            if name in self._served:
                raise UserError(f"{name} is named twice")
            self._served[name] = self._load(name, name)
            self._say(f"{name} is {self._served[name]}, commit {self._served[name].save.commit.id}")

    def all(self) -> list[Loaded]:
        return list(self._served.values())

    def find(self, name: str) -> Loaded:
        """The save that a request names. Raises Refused."""
        found = self._served.get(name) or next((each for each in self.all() if name in each.names), None)
        if found is None:
            known = ", ".join(self._served)
            raise Refused(
                404, f"the model `{name}` is not served here; there is: {known}", param="model", code="model_not_found"
            )
        return found

    def take(self, name: str) -> Loaded:
        """As `find`; it stays loaded until it is given back."""
        found = self.find(name)
        found.users += 1
        return found

    def give(self, loaded: Loaded) -> None:
        loaded.users -= 1
        if not loaded.users and not loaded.is_served:
            loaded.let_go()

    async def follow(self) -> None:
        """For ever: where a name has moved on, load what it stands for beside the old one, which answers meanwhile and
        ends what it has begun."""
        while True:
            await asyncio.sleep(_LOOK)
            for old in self.all():
                if await asyncio.to_thread(old.has_moved):
                    await self._renew(old)

    async def _renew(self, old: Loaded) -> None:
        try:
            new = await asyncio.to_thread(self._load, old.name, f"{old.save.repository.run}@{old.reference}")
        except (PolyanaError, OSError, RuntimeError) as error:
            if self._failed.get(old.name) != str(error):  # tried again, told once
                self._failed[old.name] = str(error)
                self._say(f"{old.name} stays at {old}: {error}")
            return
        self._failed.pop(old.name, None)
        self._served[old.name], old.is_served = new, False
        self._say(f"{old.name} is {new} now, commit {new.save.commit.id}")
        if not old.users:
            old.let_go()

    def _load(self, name: str, revision: str) -> Loaded:
        with ExitStack() as held:
            save = held.enter_context(self._hold(revision))
            held.enter_context(save.repository.serving(save.commit, self._by))
            try:
                loaded = Loaded(name, save, self._bases)
            except UserError as error:
                raise UserError(f"{name}: {error}") from None
            loaded.held = held.pop_all()
            return loaded

    def close(self) -> None:
        for loaded in self.all():
            loaded.let_go()
        self._served.clear()
