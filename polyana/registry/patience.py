"""What to do when a store does not answer: wait and try again, for as long as makes sense, and say so in plain words.

No message of ours ever holds a token or a signed address, whatever a library puts into its errors.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from polyana.errors import PolyanaError, UserError

__all__ = ["Patience", "Unreachable", "plain"]

_FIRST, _LONGEST = 1.0, 60.0  # seconds between two tries; they double; guess
_LONGEST_LIMITED = 300.0  # when the Hub says "too many requests" and not for how long; guess: its limits are hourly
_HURRIED = 30.0  # seconds without progress when training is over; guess
_SOON = (408, 409, 412, 425)  # a lost race, or a request that was too slow
_REFUSALS = ("Credentials", "Validation", "NotImplemented", "Offline")  # in names of errors that another try repeats


class Unreachable(PolyanaError):
    """A store did not answer for as long as we would wait. What was sent until then stays sent."""


def plain(error: BaseException) -> str:
    """An error in one line that may be printed and stored: its first two lines, nothing secret in them."""
    while isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # huggingface_hub's `Error while uploading ...`
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:2])[:400] or type(error).__name__
    with suppress(Exception):  # whatever a broken token file makes it raise
        from huggingface_hub import get_token

        if token := get_token():
            text = text.replace(token, "[token]")
    text = re.sub(r"(https?://)[^/\s@]+@", r"\1", text)
    text = re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]*", r"\1", text)  # what a signed address is signed with
    return re.sub(r"\b(hf|api)_[A-Za-z0-9]{8,}\b|[Bb]earer\s+\S+", "[token]", text)


class Patience:
    """How long, and how, to go on trying. `longest`: seconds without any progress; None for ever."""

    def __init__(self, longest: float | None, say: Callable[[str], None], hurry: threading.Event | None = None) -> None:
        """`hurry`: when it is set, the next try is made at once, and 30 seconds without progress are enough."""
        self._longest, self._say, self._hurry = longest, say, hurry or threading.Event()
        self._hurried = False
        self.progress()

    def progress(self) -> None:
        """Something went well: what fails next is a new trouble."""
        self._pause, self._waited, self._told = _FIRST, 0.0, False

    def after(self, error: Exception, what: str) -> None:
        """Return when it makes sense to try again.

        Raises UserError when no other try would help, and Unreachable when it has lasted too long; `what` was done.
        """
        status, asked = _status(error), _asked_to_wait(error)
        if not _may_pass(error, status):
            raise UserError(f"{what}: {plain(error)}") from None
        if self._hurry.is_set() and not self._hurried:
            self._hurried, self._longest = True, min(self._longest or _HURRIED, _HURRIED)
            self._pause, self._waited = _FIRST, 0.0
        pause = self._pause * random.uniform(0.75, 1.25)
        if status in _SOON:
            pause = min(pause, 2 * _FIRST)
        self._pause = min(2 * self._pause, _LONGEST_LIMITED if status == 429 else _LONGEST)
        if asked is not None:
            pause = asked + random.uniform(0, 1)
        if asked is None or self._hurried:  # else the server knows better
            self._waited += pause
        if self._longest is not None and self._waited > self._longest:
            raise Unreachable(f"{what}: {plain(error)}") from None
        if asked is not None and asked > _LONGEST:
            self._say(f"{what}: asked to wait {asked / 60:.0f} minutes (the Hub takes 128 commits an hour)")
        elif not self._told:
            self._say(f"{what}: {plain(error)}; trying again")
        self._told = True
        (self._hurry.wait if not self._hurried else time.sleep)(pause)


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error is about."""
    found: BaseException | None = error
    while found is not None:
        status = getattr(getattr(found, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
        found = found.__cause__
    return None


def _asked_to_wait(error: BaseException) -> float | None:
    """Seconds that the server wants, by Retry-After (RFC 9110, section 10.2.3) or by the Hub's `ratelimit`."""
    from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]  # public, but not by mark

    found: BaseException | None = error
    while found is not None and not hasattr(found, "response"):
        found = found.__cause__
    headers = getattr(getattr(found, "response", None), "headers", None)
    if headers is None or not hasattr(headers, "get"):
        return None
    after = headers.get("Retry-After")
    if after is not None and str(after).isdigit():
        return float(after)
    if after is not None:
        from email.utils import parsedate_to_datetime

        with suppress(ValueError, TypeError):
            return max(0.0, parsedate_to_datetime(str(after)).timestamp() - time.time())
    limit = parse_ratelimit_headers(headers)
    return float(limit.reset_in_seconds) if limit is not None and limit.remaining == 0 else None


def _may_pass(error: Exception, status: int | None) -> bool:
    """Whether the same thing may succeed later."""
    if isinstance(error, RuntimeError | json.JSONDecodeError):
        return True  # of an upload, whose signed address may be too old; or an answer that was cut off
    if status is not None:
        return status == 429 or status in _SOON or status >= 500
    if isinstance(error, PolyanaError | PermissionError | FileNotFoundError | ImportError | ValueError | TypeError):
        return False
    return not any(word in type(error).__name__ for word in _REFUSALS)
