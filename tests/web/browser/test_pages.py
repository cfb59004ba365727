"""Every page, in light and dark, on a phone and without script: complete, legible, and without findings."""

from typing import Any

import pytest
from playwright.async_api import Browser

from tests.web.books import Books
from tests.web.browser.looking import PHONE, looking
from tests.web.paths import paths_of

WAYS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"color_scheme": "light", "viewport": PHONE},
    "dark phone": {"color_scheme": "dark", "viewport": PHONE},
}


@pytest.mark.parametrize("way", WAYS)
async def test_nothing_is_wrong_with_any_page(morning: Books, chromium: Browser, way: str) -> None:
    async with looking(chromium, morning, **WAYS[way]) as look:
        found = {}
        for name, path in (await paths_of(morning)).items():
            await look.open(path)
            found[name] = await look.problems()

    assert {name: problems for name, problems in found.items() if problems} == {}


async def test_every_page_says_the_same_without_script(morning: Books, chromium: Browser) -> None:
    async with looking(chromium, morning) as look, looking(chromium, morning, script=False) as plain:
        for name, path in (await paths_of(morning)).items():
            await look.open(path)
            await plain.open(path)

            assert await plain.heading() == await look.heading(), name


async def test_nothing_is_wrong_with_the_log_in(morning: Books, chromium: Browser) -> None:
    async with looking(chromium, morning, color_scheme="dark") as look:
        await look.page.get_by_role("button", name="Log out").click()

        assert await look.heading() == "Log in"
        assert await look.problems() == []
