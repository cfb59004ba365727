"""One Chromium over the books of one morning, for all browser tests. Without a browser they say so and are skipped."""

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


@pytest.fixture(scope="session")
def store_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the service keeps files: a folder that a test can take away."""
    folder = tmp_path_factory.mktemp("store") / "files"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def books_url(postgres_server: PostgresServer) -> Iterator[str]:
    with fresh_database(postgres_server) as name:
        migrate(postgres_server.url(name))
        yield postgres_server.url(name)


@pytest.fixture(scope="session")
async def morning(books_url: str, store_folder: Path) -> AsyncIterator[Books]:
    """The books, for all tests: each makes what it changes."""
    async with books(books_url, TALLYHOOK_FILE_STORE=f"file://{store_folder}") as found:
        yield found


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    path = executable()
    if path is None:
        pytest.skip("there is no Chromium: apt-get install chromium-headless-shell")
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=path)
        yield browser
        await browser.close()
