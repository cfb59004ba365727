"""`make pictures`: the README's pictures of the pages, taken of the books of the tests, so that they stay true.

With a folder (`make pictures ARGS=FOLDER`): every page, in light, dark and on a phone, to look at them.
"""

import asyncio
import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from playwright.async_api import Browser, ViewportSize, async_playwright

from app.db.migrate import migrate
from tests.database import FOLDER_VARIABLE, fresh_database, run_folder, running_server
from tests.service import ADMIN_TOKEN
from tests.web.books import Books, books
from tests.web.browser.conftest import executable
from tests.web.paths import paths_of

README = Path(__file__).parents[2] / "docs/pictures"


@dataclass(frozen=True, slots=True)
class Way:
    """How a page is looked at; `is_whole`: the picture is as long as the page."""

    scheme: Literal["light", "dark"]
    size: ViewportSize
    is_whole: bool = True


IN_README = {
    "today": Way("light", {"width": 1280, "height": 1180}),
    "rule": Way("dark", {"width": 1280, "height": 1060}, is_whole=False),
}
WAYS = {
    "light": Way("light", {"width": 1280, "height": 900}),
    "dark": Way("dark", {"width": 1280, "height": 900}),
    "phone": Way("light", {"width": 390, "height": 844}),
}


async def take(browser: Browser, url: str, way: Way, pictures: dict[Path, str]) -> None:
    """Pictures of paths, each into its file, by somebody who has logged in."""
    context = await browser.new_context(color_scheme=way.scheme, viewport=way.size, reduced_motion="reduce")
    page = await context.new_page()
    await page.goto(f"{url}/login")
    await page.get_by_label("Token").fill(ADMIN_TOKEN)
    await page.get_by_role("button", name="Log in").click()
    for file, path in pictures.items():
        await page.goto(url + path)
        await page.screenshot(path=file, full_page=way.is_whole)
    await context.close()


async def take_all(morning: Books, folder: Path | None) -> None:
    """The README's two, or every page in every way."""
    paths = await paths_of(morning)
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=executable())
        if folder is None:
            for name, way in IN_README.items():
                await take(browser, morning.url, way, {README / f"{name}.png": paths[name]})
        else:
            for name, way in WAYS.items():
                pictures = {folder / f"{page}.{name}.png": path for page, path in paths.items()}
                await take(browser, morning.url, way, pictures)
        await browser.close()


async def main(folder: Path | None) -> None:
    """A database of its own, the books, and their pictures."""
    with ExitStack() as stack:
        os.environ[FOLDER_VARIABLE] = str(stack.enter_context(run_folder()))
        server = stack.enter_context(running_server())
        url = server.url(stack.enter_context(fresh_database(server)))
        migrate(url)
        async with books(url) as morning:
            await take_all(morning, folder)


if __name__ == "__main__":
    chosen = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    (chosen or README).mkdir(parents=True, exist_ok=True)
    asyncio.run(main(chosen))
