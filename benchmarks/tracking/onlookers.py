"""Three people who look at all charts, without their browsers: `python onlookers.py ADDRESS COUNT`, told by lines of
stdin to come ("look") and to go ("leave"). Standard library only.

Each asks what the page asks when it is opened, and then, as often as the page at most, for the new points of the charts
that a window of 1280 x 800 has in sight (frontend/src/charts/use-series.ts). What comes is read and not drawn, as if
the browsers were on other machines.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys
import threading
import time
from typing import Any
from urllib.parse import quote, urlsplit

METRICS = ("train/loss", "eval/loss", "train/lr", "train/grad_norm", "train/tokens_per_second", "train/mfu")
PAUSE = 0.7  # seconds between two questions for new points: LIVE_PAUSE of the page


class Onlooker:
    """One person. `leave` from another thread ends `look`."""

    def __init__(self, host: str) -> None:
        self._host, self._connection = host, http.client.HTTPConnection(host, timeout=60)
        self._events: socket.socket | None = None
        self._has_left = False

    def leave(self) -> None:
        self._has_left = True
        if self._events is not None:
            self._events.shutdown(socket.SHUT_RDWR)

    def look(self) -> None:
        listed = json.loads(self._ask("GET", "/api/runs"))
        runs = {run["name"]: run["step"] for run in listed["runs"]}
        for run in runs:
            self._ask("GET", f"/api/runs/{quote(run)}")
        self._ask_for_curves([{"run": run, "metric": metric} for run in runs for metric in METRICS])
        stream = http.client.HTTPConnection(self._host, timeout=60)
        stream.request("GET", f"/api/live?cursor={listed['cursor']}")
        self._events = stream.sock
        answer, asked, seen = stream.getresponse(), time.monotonic(), dict(runs)
        while not self._has_left and (line := answer.readline()):
            if not line.startswith(b"data: "):
                continue
            runs |= {run["name"]: run["step"] for run in json.loads(line[6:]).get("runs", [])}
            if time.monotonic() - asked < PAUSE:
                continue
            asked = time.monotonic()
            moved = [run for run in runs if runs[run] != seen.get(run)]
            tails = [{"run": run, "metric": metric, "from": seen.get(run, 0), "to": None, "width": 512}
                     for run in moved for metric in METRICS]  # fmt: skip
            self._ask_for_curves(tails)
            seen |= {run: runs[run] for run in moved}
        self._connection.close()
        stream.close()

    def _ask_for_curves(self, series: list[dict[str, Any]]) -> None:
        view = {"x": "step", "smoothing": 0, "from": None, "to": None, "width": 1024}
        self._ask("POST", "/api/series", json.dumps({"series": series, **view}))

    def _ask(self, method: str, path: str, body: str | None = None) -> bytes:
        self._connection.request(method, path, body)
        return self._connection.getresponse().read()


def main() -> None:
    host, count = urlsplit(sys.argv[1]).netloc, int(sys.argv[2])
    there: list[tuple[Onlooker, threading.Thread]] = []
    for line in sys.stdin:
        for one, thread in there:
            one.leave()
            thread.join()
        there = []
        if line.strip() == "look":
            each = [Onlooker(host) for _ in range(count)]
            there = [(one, threading.Thread(target=one.look)) for one in each]
            for _, thread in there:
                thread.start()


if __name__ == "__main__":
    main()
