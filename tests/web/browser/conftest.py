"""Chromium over the books of one morning. Where there is no browser, these tests say so and are skipped."""

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.db.migrate import migrate
from tests.database import PostgresServer, fresh_database
from tests.web.books import Books, books

pytest.importorskip("playwright.async_api", reason="make setup EXTRAS=browser installs it")
from playwright.async_api import Browser, async_playwright


def executable() -> str | None:
    """The browser of this machine."""
    return os.environ.get("BROWSER") or shutil.which("chromium-headless-shell") or shutil.which("chromium")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="module")
def books_url(postgres_server: PostgresServer) -> Iterator[str]:
    with fresh_database(postgres_server) as name:
        migrate(postgres_server.url(name))
        yield postgres_server.url(name)


@pytest.fixture(scope="module")
async def morning(books_url: str) -> AsyncIterator[Books]:
    """The books, for all tests of a module."""
    async with books(books_url) as found:
        yield found


@pytest.fixture(scope="module")
async def chromium() -> AsyncIterator[Browser]:
    path = executable()
    if path is None:
        pytest.skip("there is no Chromium: apt-get install chromium-headless-shell")
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=path)
        yield browser
        await browser.close()
