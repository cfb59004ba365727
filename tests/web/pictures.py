"""`make pictures`: the README's pictures of the pages, taken from the tests' data, so that they stay true."""

import asyncio
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from playwright.async_api import Page, ViewportSize, async_playwright

from app.db.migrate import migrate
from tests.database import FOLDER_VARIABLE, fresh_database, run_folder, running_server
from tests.service import ADMIN_TOKEN
from tests.web.books import Books, books
from tests.web.browser.conftest import executable
from tests.web.paths import paths_of

FOLDER = Path(__file__).parents[2] / "docs/pictures"
SIZE: ViewportSize = {"width": 1120, "height": 1060}
PICTURES: tuple[tuple[str, Literal["light", "dark"]], ...] = (("today", "light"), ("rule", "dark"))


async def take(morning: Books) -> None:
    """Today in light, a rule in dark."""
    paths = await paths_of(morning)
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=executable())
        for name, scheme in PICTURES:
            context = await browser.new_context(color_scheme=scheme, viewport=SIZE)
            page: Page = await context.new_page()
            await page.goto(f"{morning.url}/login")
            await page.get_by_label("Token").fill(ADMIN_TOKEN)
            await page.get_by_role("button", name="Log in").click()
            await page.goto(morning.url + paths[name])
            await page.screenshot(path=FOLDER / f"{name}.png")
            await context.close()
        await browser.close()


async def main() -> None:
    """A database of its own, the books, and two pictures."""
    FOLDER.mkdir(exist_ok=True)
    with ExitStack() as stack:
        os.environ[FOLDER_VARIABLE] = str(stack.enter_context(run_folder()))
        server = stack.enter_context(running_server())
        url = server.url(stack.enter_context(fresh_database(server)))
        migrate(url)
        async with books(url) as morning:
            await take(morning)


if __name__ == "__main__":
    asyncio.run(main())
