"""The admin API and the webhooks over real resources: in process, or on a real socket where bytes matter."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from app.main import build_app
from app.resources import Resources
from app.serving import make_server
from tests.service import ADMIN_TOKEN

BASE_URL = "http://tallyhook.test"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def client_of(res: Resources, token: str | None = ADMIN_TOKEN) -> httpx.AsyncClient:
    """A client of the app in this process."""
    headers = {} if token is None else bearer(token)
    return httpx.AsyncClient(transport=httpx.ASGITransport(build_app(res)), base_url=BASE_URL, headers=headers)


@pytest.fixture
async def api(res: Resources) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the admin token."""
    async with client_of(res) as client:
        yield client


@pytest.fixture
async def nobody(res: Resources) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a token."""
    async with client_of(res, None) as client:
        yield client


@asynccontextmanager
async def listening(res: Resources) -> AsyncIterator[int]:
    """The port of the app on a real socket."""
    server = make_server(build_app(res), res.settings, host="127.0.0.1", port=0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve([listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving
