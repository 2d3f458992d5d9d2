"""The built page in a real Chromium, against the real server."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from browser.watched import Watched, make_watched
from polyana.dashboard import live, open_server
from polyana.dashboard.app import STATIC

CHROMIUM = Path("/usr/bin/chromium")  # Debian's; Playwright's own download is not needed
PATIENCE = 30.0  # seconds until what should be on a page is missed


def _lacks() -> str:
    try:
        import playwright  # noqa: F401
    except ImportError:
        return "playwright is not installed: pip install -e '.[dev]'"
    if not CHROMIUM.exists():
        return f"there is no {CHROMIUM}: apt-get install chromium"
    return "" if (STATIC / "index.html").exists() else "the page is not built: make ui"


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser. What is lacking skips the test on somebody's own machine and fails it in CI."""
    if lacking := _lacks():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(lacking)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def watched(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """A home that all tests of a file read; what changes a run makes one of its own."""
    return make_watched(tmp_path_factory.mktemp("watched"))


@pytest.fixture(scope="session")
def address(watched: Watched) -> Iterator[str]:
    """Where the dashboard of the home is; it spares no core, also where the tests take all of them."""
    where, server = open_server(watched.home, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_until_stopped)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "FULL", math.inf)
        yield where.url
    server.should_exit = True
    thread.join(10)


@dataclass
class Visit:
    """A page of the browser and what went wrong on it."""

    page: Any
    base: str
    complaints: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def go(self, view: str, **query: object) -> Any:
        """Open a view, `run/NAME/log`, with what stands in the address behind it."""
        search = "&".join(f"{key}={quote(str(value), safe=':,@')}" for key, value in query.items())
        self.page.goto(f"{self.base}#/{view}" + (f"?{search}" if search else ""))
        return self.page

    @property
    def hash(self) -> str:
        return str(self.page.evaluate("location.hash"))

    def until(self, read: Callable[[], Any], holds: Callable[[Any], object] = bool) -> Any:
        """What `read` gives, once that holds: a page draws and fetches when it comes to it, later on busy cores."""
        end = time.monotonic() + PATIENCE
        while not holds(value := read()):
            assert time.monotonic() < end, f"it stays {value!r}"
            self.page.wait_for_timeout(50)
        return value

    def address_has(self, part: str) -> None:
        self.until(lambda: self.hash, lambda address: part in address)

    def address_lacks(self, part: str) -> None:
        self.until(lambda: self.hash, lambda address: part not in address)

    def download(self, panel: str, kind: str) -> bytes:
        """A chart's file as its menu gives it: PNG, SVG or CSV."""
        chart = self.page.locator(f'[data-panel="{panel}"]')
        chart.get_by_role("button", name="Menu of").click()
        with self.page.expect_download() as waiting:
            chart.get_by_role("menuitem", name=f"Save as {kind}").click()
        return Path(waiting.value.path()).read_bytes()

    def points(self, panel: str) -> dict[tuple[str, str, str], list[tuple[float, float | None]]]:
        """(run, metric, curve) -> the (x, y) that a chart shows, from its CSV."""
        curves: dict[tuple[str, str, str], list[tuple[float, float | None]]] = {}
        for line in self.download(panel, "CSV").decode().splitlines()[1:]:
            run, metric, curve, x, y = line.split(",")
            curves.setdefault((run, metric, curve), []).append((float(x), float(y) if y else None))
        return curves

    def drawn(self, panel: str, least: int = 1) -> Any:
        """A chart, once it shows so many points."""
        chart = self.page.locator(f'[data-panel="{panel}"]')
        chart.scroll_into_view_if_needed()
        self.page.wait_for_function(
            '([panel, least]) => Number(document.querySelector(`[data-panel="${panel}"]`)?.dataset.points) >= least',
            arg=[panel, least],
        )
        return chart


@pytest.fixture
def visit(chromium: Any, address: str) -> Iterator[Callable[..., Visit]]:
    """visit(width=..., color_scheme=...): a page of a fresh browser profile.

    At the end nothing may have been asked of another host, and the browser may have complained of nothing: no error of
    a script, nothing that the content security policy had to stop.
    """
    visits: list[tuple[Any, Visit]] = []

    def begin(width: int = 1280, height: int = 800, **options: Any) -> Visit:
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(PATIENCE * 1000)
        page = context.new_page()
        made = Visit(page, address)
        page.on(
            "console",
            lambda message: made.complaints.append(message.text) if message.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: made.complaints.append(str(error)))
        page.on("dialog", lambda dialog: made.complaints.append(f"a script of a run ran: {dialog.message}"))
        page.on(
            "request", lambda request: made.strangers.append(request.url) if not _own(request.url, address) else None
        )
        visits.append((context, made))
        return made

    yield begin
    for context, made in visits:
        context.close()
        assert (made.complaints, made.strangers) == ([], [])


def _own(url: str, address: str) -> bool:
    return url.startswith((address, f"blob:{address}"))
