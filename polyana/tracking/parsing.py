"""Long files are parsed by two processes, this one and one that it starts for the while.

Parsing is what reading a long file costs, and one process of Python does it on one core. `python -m
polyana.tracking.parsing FILE` is the other one: it is given an open file's number, on stdin lines "BEGIN END", and
answers with pickled Rows, a length of 8 bytes before each; an empty answer says that it is there.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Generator
from contextlib import suppress
from itertools import pairwise
from queue import SimpleQueue
from typing import BinaryIO

from polyana.tracking.rows import Rows, read_lines

__all__ = ["parse_spans"]

_SPAN = 8 << 20  # bytes parsed at one request: 40 ms of work, many times what asking costs
_AHEAD = 2  # spans that the other process has before it, so that it need not wait while this one stores; guess
_LENGTH = 8  # bytes


def parse_spans(file: int, begin: int, end: int) -> Generator[tuple[int, int, Rows], None, None]:
    """(begin, end, what they say) of the lines of an open file from byte `begin` to `end`, span by span, in order.

    Ends with the last whole line. Whoever stops early ends the other process, too.
    """
    spans = list(pairwise(_bounds(file, begin, end)))
    waiting, done = deque(range(len(spans))), dict[int, Rows]()
    other = _Other(file)
    try:
        for place, span in enumerate(spans):
            while place not in done:
                while waiting and other.is_free:
                    other.ask(waiting.popleft(), spans)
                if waiting:
                    mine = waiting.popleft()
                    rows = Rows()
                    read_lines(file, *spans[mine], rows)
                    done[mine] = rows
                    other.collect(done, waiting, wait=False)
                else:
                    other.collect(done, waiting, wait=True)
            yield *span, done.pop(place)
    finally:
        other.end()


def _bounds(file: int, begin: int, end: int) -> list[int]:
    """Bytes at which lines begin, about a span apart; the last one: where the last whole line ends."""
    bounds = [begin]
    while bounds[-1] + _SPAN < end:
        at = _line_end(file, bounds[-1] + _SPAN, end)
        if at is None:
            break
        bounds.append(at)
    back = end
    while back > bounds[-1]:  # the last line may be torn
        start = max(bounds[-1], back - (1 << 16))
        found = os.pread(file, back - start, start).rfind(b"\n")
        if found >= 0:
            return bounds if start + found + 1 == bounds[-1] else [*bounds, start + found + 1]
        back = start
    return bounds


def _line_end(file: int, begin: int, end: int) -> int | None:
    """The byte behind the first line end from `begin` on."""
    while begin < end:
        piece = os.pread(file, min(1 << 16, end - begin), begin)
        found = piece.find(b"\n")
        if found >= 0:
            return begin + found + 1
        begin += len(piece) or end
    return None


class _Other:
    """The other process. What it was asked for and has not answered when it dies is to be done here."""

    def __init__(self, file: int) -> None:
        self._asked: deque[int] = deque()
        self._answers: SimpleQueue[bytes | None] = SimpleQueue()
        self._is_there = self._is_gone = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "polyana.tracking.parsing", str(file)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, pass_fds=(file,),
            start_new_session=True,  # Ctrl-C is for this process, which ends the other one
        )  # fmt: skip
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: PT018
        self._requests: BinaryIO = self._process.stdin  # type: ignore[assignment]
        self._listener = threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True)
        self._listener.start()

    @property
    def is_free(self) -> bool:
        return self._is_there and not self._is_gone and len(self._asked) < _AHEAD

    def ask(self, place: int, spans: list[tuple[int, int]]) -> None:
        self._asked.append(place)
        with suppress(BrokenPipeError):  # then `collect` hears of its end
            self._requests.write(b"%d %d\n" % spans[place])
            self._requests.flush()

    def collect(self, done: dict[int, Rows], waiting: deque[int], wait: bool) -> None:
        """Put what has been answered into `done`, and back into `waiting` what will never be."""
        while not self._is_gone and (wait or not self._answers.empty()):
            answer = self._answers.get()
            if answer is None:
                self._is_gone = True
                waiting.extendleft(reversed(self._asked))
                self._asked.clear()
            elif not answer:
                self._is_there = True
            else:
                done[self._asked.popleft()] = pickle.loads(answer)
            wait = False

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._listener.join()
        with suppress(BrokenPipeError):
            self._requests.close()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _listen(self, stream: BinaryIO) -> None:
        while len(head := stream.read(_LENGTH)) == _LENGTH:
            length = int.from_bytes(head, "little")
            answer = stream.read(length)
            if len(answer) < length:
                break
            self._answers.put(answer)
        self._answers.put(None)


def main() -> None:
    """The other process: ends when nobody asks any more."""
    file, out = int(sys.argv[1]), sys.stdout.buffer

    def answer(content: bytes) -> None:
        out.write(len(content).to_bytes(_LENGTH, "little"))
        out.write(content)
        out.flush()

    answer(b"")
    for line in sys.stdin.buffer:
        begin, end = map(int, line.split())
        rows = Rows()
        read_lines(file, begin, end, rows)
        answer(pickle.dumps(rows, protocol=pickle.HIGHEST_PROTOCOL))


if __name__ == "__main__":
    main()
