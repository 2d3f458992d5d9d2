"""A real Chromium whose every painted frame is kept with the moment it was painted, and what the frames show.

Nobody's page is asked whether it is ready: the browser's own screencast tells when a picture came onto the screen. When
all is still, a chart is looked up by its element, and the first frame counts in which its box shows what it shows in
the end: *coloured* pixels in most columns and at least half as many as in the end (axes and texts are grey; curves are
not), or, for a table, half of its *ink* (pixels unlike the background).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import Page, async_playwright

CHROMIUM = "/usr/bin/chromium"
SIZE = {"width": 1280, "height": 800}
COLUMNS = 0.6  # of a box's width that a curve has to reach over: less than the plot's share of a chart
SETTLE = 2.0
QUALITY = 90  # of the frames' JPEG; at 60 thin lines lose their colour

_COUNT = """async ([frame, box, before]) => {
  const read = async (data) => {
    const picture = await createImageBitmap(await (await fetch("data:image/jpeg;base64," + data)).blob());
    const context = new OffscreenCanvas(picture.width, picture.height).getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0);
    return context.getImageData(box.x, box.y, box.width, box.height).data;
  };
  const now = await read(frame), old = before ? await read(before) : null;
  const columns = new Set();
  let coloured = 0, ink = 0, changed = 0;
  for (let at = 0; at < now.length; at += 4) {
    const [r, g, b] = [now[at], now[at + 1], now[at + 2]];
    if (Math.max(r, g, b) - Math.min(r, g, b) > 15) { coloured++; columns.add((at / 4) % box.width); }
    if (Math.abs(r - now[0]) + Math.abs(g - now[1]) + Math.abs(b - now[2]) > 120) ink++;
    if (old && Math.abs(r - old[at]) + Math.abs(g - old[at + 1]) + Math.abs(b - old[at + 2]) > 120) changed++;
  }
  return { coloured, columns: columns.size, ink, changed };
}"""


@dataclass(frozen=True)
class Frame:
    """A picture, JPEG in base64, and when it was on the screen, in seconds since 1970."""

    moment: float
    picture: str


@dataclass
class Screen:
    """A page that is filmed. bench: another page, on which frames are looked at; began: when an address was opened."""

    page: Page
    bench: Page
    frames: list[Frame] = field(default_factory=list)
    began: float = 0.0

    async def first_paint(self, address: str, selector: str, what: str = "coloured", patience: float = 180) -> float:
        """Seconds from opening an address until its first element of `selector` is painted.

        Raises TimeoutError when nothing is seen for `patience` seconds.
        """
        self.frames.clear()
        self.began = began = time.time()
        await self.page.goto(address, wait_until="commit")
        while time.time() - began < patience:
            await asyncio.sleep(1)
            box = await self.box(selector)
            if box is None or not self.frames or not _is_shown(await self.count(self.frames[-1], box), box, what):
                continue
            await asyncio.sleep(2)  # what is drawn in several steps is whole then
            box = await self.box(selector) or box
            last = await self.count(self.frames[-1], box)
            for frame in list(self.frames):
                seen = await self.count(frame, box)
                if frame.moment >= began and _is_shown(seen, box, what) and seen[what] >= last[what] / 2:
                    return frame.moment - began
        raise TimeoutError(f"{address}: no {selector} was painted within {patience:g} s")

    async def change_after(self, moment: float, selector: str, patience: float) -> float | None:
        """Seconds from a moment until the element looks different; None: it does not, within `patience` seconds."""
        box = await self.box(selector)
        assert box is not None, selector
        await asyncio.sleep(max(0.0, moment + patience - time.time()))
        before = [frame for frame in self.frames if frame.moment < moment][-1]
        for frame in [frame for frame in self.frames if frame.moment >= moment]:
            seen = await self.count(frame, box, before)
            if seen["changed"] > box["width"] / 4:
                return frame.moment - moment
        return None

    async def box(self, selector: str) -> dict[str, int] | None:
        """Where the first visible element is that matches; None: there is none, or it has no size."""
        found = await self.page.evaluate(
            """selector => [...document.querySelectorAll(selector)].map(one => one.getBoundingClientRect())
                 .filter(box => box.width > 50 && box.height > 50)
                 .map(({ x, y, width, height }) => [x, y, width, height])[0] ?? null""",
            selector,
        )
        if found is None:
            return None
        x, y, width, height = (int(value) for value in found)
        width, height = min(width, SIZE["width"] - x), min(height, SIZE["height"] - y)
        return {"x": x, "y": y, "width": width, "height": height} if width > 50 and height > 50 else None

    async def count(self, frame: Frame, box: dict[str, int], before: Frame | None = None) -> dict[str, int]:
        """Pixels of the box: coloured, columns with any, unlike the background, changed since `before`."""
        return dict(await self.bench.evaluate(_COUNT, [frame.picture, box, before.picture if before else None]))


def _is_shown(seen: dict[str, int], box: dict[str, int], what: str) -> bool:
    if what == "coloured":
        return seen["columns"] >= COLUMNS * box["width"]
    return seen[what] >= 0.01 * box["width"] * box["height"]


@asynccontextmanager
async def screen() -> AsyncIterator[Screen]:
    """A browser of its own: nothing is in its caches."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = await browser.new_context(viewport=SIZE, device_scale_factor=1)
        bench = await context.new_page()
        made = Screen(await context.new_page(), bench)
        session = await context.new_cdp_session(made.page)
        answers: set[asyncio.Task[Any]] = set()

        def keep(event: dict[str, Any]) -> None:
            made.frames.append(Frame(event["metadata"]["timestamp"], event["data"]))
            answer = asyncio.ensure_future(session.send("Page.screencastFrameAck", {"sessionId": event["sessionId"]}))
            answers.add(answer)
            answer.add_done_callback(answers.discard)

        session.on("Page.screencastFrame", keep)
        await session.send("Page.startScreencast", {"format": "jpeg", "quality": QUALITY})
        await made.page.bring_to_front()
        await asyncio.sleep(SETTLE)
        yield made
        await session.send("Page.stopScreencast")
        await asyncio.gather(*answers, return_exceptions=True)
        await browser.close()
