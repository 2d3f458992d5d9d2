"""POST /api/runs/NAME/generate: a save writes, as server-sent events, in a process of its own.

The process runs at the lowest priority (or POLYANA_NICE's) and on one thread, so training is not slowed; one at a time,
and it ends when the browser goes. It stays for a minute after its last text, for its libraries take seconds to load;
the model is let go of at once. `python -m polyana.dashboard.generate` is that process: JSON requests on stdin, one a
line, on stdout a JSON line for each piece of text.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from polyana.dashboard.errors import Refused
from polyana.dashboard.runs import Catalogue
from polyana.errors import PolyanaError
from polyana.tracking import aside

__all__ = ["Writer"]

_WARM = 60.0  # seconds that the process waits for another request, with the memory of its libraries, 0.5 GB; guess
_DEFAULTS: dict[str, Any] = {"max_tokens": 100, "temperature": 0.8, "top_p": 1.0, "seed": 0}  # as `polyana generate`


class Writer:
    """Lets saves write, one at a time."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._writing: str | None = None
        self._process: _Process | None = None
        self._rest: asyncio.TimerHandle | None = None
        self._ending = set[asyncio.Task[str]]()

    def begin(self, name: str, body: Any) -> AsyncIterator[bytes]:
        """The events of one request. Raises Refused when it is not understood or another save is writing."""
        request = self._read(name, body)
        if self._writing is not None:
            raise Refused(409, f"{self._writing} is writing; wait for it or stop it")
        return self._events(request)

    def _read(self, name: str, body: Any) -> dict[str, Any]:
        self._catalogue.run(name)
        if not isinstance(body, dict) or not isinstance(body.get("prompt"), str):
            raise Refused(400, "`prompt` should be a text")
        if not isinstance(body.get("revision", "main"), str):
            raise Refused(400, "`revision` should be a text, as best or step-500")
        settings = {key: body[key] for key in _DEFAULTS if body.get(key) is not None}
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in settings.values()):
            raise Refused(400, f"{', '.join(_DEFAULTS)} should be numbers")
        return {
            "home": str(self._catalogue.home),
            "model": f"{name}@{body.get('revision') or 'main'}",
            "prompt": body["prompt"],
            "settings": _DEFAULTS | settings,
        }

    async def _events(self, request: dict[str, Any]) -> AsyncIterator[bytes]:
        if self._writing is not None:  # another one has been quicker
            yield _event("error", {"error": f"{self._writing} is writing; wait for it or stop it"})
            return
        self._writing, began, is_whole = request["model"], time.monotonic(), False
        if self._rest is not None:
            self._rest.cancel()
        try:
            if self._process is None or self._process.is_over:
                self._process = await _Process.begin()
            async for kind, data in self._process.answers(request):
                is_whole = kind in ("done", "error")
                if kind == "done":
                    data["seconds"] = round(time.monotonic() - began, 3)
                yield _event(kind, data)
            if not is_whole:
                yield _event("error", {"error": f"the process that writes has died: {await self._process.complaint()}"})
        finally:
            self._writing = None
            if is_whole:
                self._rest = asyncio.get_running_loop().call_later(_WARM, self.close)
            else:
                self.close()  # it writes for nobody

    def close(self) -> None:
        """End the process."""
        if self._rest is not None:
            self._rest.cancel()
        if self._process is not None:
            self._process.kill()
            ending = asyncio.ensure_future(self._process.complaint())
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
        self._process = self._rest = None

    async def end(self) -> None:
        """End the process with the server, and wait for those that were told to end before."""
        self.close()
        await asyncio.gather(*self._ending)


class _Process:
    """The process that writes; it ends with this one, for it reads on from stdin."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None  # noqa: PT018
        self._process, self._requests, self._answers = process, process.stdin, process.stdout
        self._complaint = asyncio.create_task(process.stderr.read())

    @classmethod
    async def begin(cls) -> _Process:
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable, "-m", "polyana.dashboard.generate", stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                start_new_session=True,  # a priority counts among those of one session alone
                env=os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}, limit=1 << 20,
            )
        )  # fmt: skip

    @property
    def is_over(self) -> bool:
        return self._process.returncode is not None

    async def answers(self, request: dict[str, Any]) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """(kind, data) up to `done` or `error`; ends without when the process dies."""
        self._requests.write(json.dumps(request).encode() + b"\n")
        async for line in self._answers:
            kind, data = json.loads(line)
            yield kind, data
            if kind in ("done", "error"):
                return

    async def complaint(self) -> str:
        """The last that it says before it dies."""
        await self._process.wait()
        said = (await self._complaint).decode("utf-8", "replace").strip().splitlines()
        return said[-1] if said else "it was killed"

    def kill(self) -> None:
        if not self.is_over:
            self._process.kill()


def _event(kind: str, data: dict[str, Any]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()


def _load(name: str, home: Path) -> tuple[Any, Any]:
    """(model, tokenizer) of RUN@REV; again where a training has let go of the save while it was being read."""
    import transformers  # noqa: F401 (takes seconds, which should not lie between finding the save and reading it)

    from polyana.generation import load_for_generation
    from polyana.revisions import find_revision
    from polyana.tracking import Console

    while True:
        revision = find_revision(name, home)  # a UserError when there is no such save any more
        try:
            return load_for_generation(revision.directory, revision.base(Console()))
        except Exception:
            if revision.directory.exists():
                raise


def _write(request: dict[str, Any], tell: Callable[[str, dict[str, Any]], None]) -> None:
    try:
        from pydantic import ValidationError

        from polyana.generation import GenerationConfig, as_question, generate

        try:
            settings = GenerationConfig(**request["settings"])
        except ValidationError as error:
            tell("error", {"error": "; ".join(f"`{each['loc'][0]}`: {each['msg']}" for each in error.errors())})
            return
        model, tokenizer = _load(request["model"], Path(request["home"]))
        asked = as_question(tokenizer, request["prompt"])
        generate(model, tokenizer, asked, settings, lambda text: tell("token", {"text": text}) if text else None)
    except (PolyanaError, OSError) as error:
        tell("error", {"error": str(error)})
        return
    tell("done", {})


def main() -> None:
    """The process that writes; ends when nobody can ask any more."""
    aside.lower_priority(aside.wanted_priority())
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    out, sys.stdout = sys.stdout, sys.stderr  # libraries that print must not be taken for the model

    def tell(kind: str, data: dict[str, Any]) -> None:
        out.write(json.dumps([kind, data]) + "\n")
        out.flush()

    for line in sys.stdin:
        _write(json.loads(line), tell)
        gc.collect()  # of a model nothing stays


if __name__ == "__main__":
    main()
