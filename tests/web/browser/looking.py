"""A person at a browser, and checks of a page beyond its text."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, ViewportSize, expect

from tests.service import ADMIN_TOKEN
from tests.web.books import Books

_HERE = Path(__file__).parent
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
WIDE: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
# Milliseconds; on a busy machine what takes one second takes many.
PATIENCE = 60_000
expect.set_options(timeout=PATIENCE)
_ON_A_PHONE = (_HERE / "phone.js").read_text(encoding="utf-8")
_CONTRAST = (_HERE / "contrast.js").read_text(encoding="utf-8")
# Another colour scheme changes nothing but colours.
OF_COLOURS = {"runOnly": ["color-contrast"]}
# What a page must not do, told by the page itself.
_WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""


@dataclass
class Look:
    """A page of somebody who is logged in, and every message that its console ever had."""

    page: Page
    url: str
    messages: list[str] = field(default_factory=list)

    async def open(self, path: str) -> None:
        """Go there."""
        answer = await self.page.goto(self.url + path, wait_until="domcontentloaded")
        assert answer is not None
        assert answer.status < 400, (path, answer.status)

    async def heading(self) -> str:
        """What the page is called."""
        return " ".join((await self.page.locator("h1").first.inner_text()).split())

    async def problems(self) -> list[str]:
        """What axe, the console and the policy have against the page: in light and dark, and as wide as a phone."""
        await self.page.emulate_media(color_scheme="light")
        await self.page.evaluate(AXE)
        found = await self._axe({}) + await self.overflow()
        await self.page.emulate_media(color_scheme="dark")
        found += await self._axe(OF_COLOURS)
        found += await self.page.evaluate(_CONTRAST)
        await self.page.set_viewport_size(PHONE)
        found += await self.overflow()
        found += await self.page.evaluate(_ON_A_PHONE)
        await self.page.set_viewport_size(WIDE)
        policy: list[str] = await self.page.evaluate("window.violations")
        said, self.messages = self.messages, []
        return found + policy + said

    async def _axe(self, options: Mapping[str, Any]) -> list[str]:
        # Of what passed nothing is told: that takes longer than the look itself.
        asked = json.dumps({**options, "resultTypes": ["violations"]})
        found: list[dict[str, Any]] = await self.page.evaluate(f"axe.run({asked}).then(r => r.violations)")
        return [
            f"{one['id']}: {one['nodes'][0]['html'][:200]} {one['nodes'][0].get('failureSummary', '')[:300]}"
            for one in found
        ]

    async def overflow(self) -> list[str]:
        """Nothing but tables in their own boxes may be wider than the window."""
        wide = await self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth + 1")
        return [f"{self.page.url} is wider than the window"] if wide else []


@asynccontextmanager
async def looking(
    browser: Browser, books: Books, *, token: str | None = ADMIN_TOKEN, script: bool = True, **how: Any
) -> AsyncIterator[Look]:
    """Somebody who has logged in, unless without a token; `how`: as Playwright's contexts take it."""
    how.setdefault("viewport", WIDE)
    context = await browser.new_context(reduced_motion="reduce", java_script_enabled=script, **how)
    if script:
        await context.add_init_script(_WATCH)
    page = await context.new_page()
    page.set_default_timeout(PATIENCE)
    look = Look(page, books.url)
    page.on("console", lambda message: look.messages.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: look.messages.append(f"error: {error}"))
    try:
        if token is not None:
            await page.goto(f"{books.url}/login")
            await page.get_by_label("Token").fill(token)
            await page.get_by_role("button", name="Log in").click()
        yield look
    finally:
        await context.close()
