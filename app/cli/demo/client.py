"""The demo's client of the admin API."""

from collections.abc import AsyncIterator
from typing import Any

import httpx


def client_of(url: str, token: str) -> httpx.AsyncClient:
    """A client of the service at this URL."""
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=30, trust_env=False)


async def pages(client: httpx.AsyncClient, path: str) -> AsyncIterator[dict[str, Any]]:
    """Every item of a list of the admin API, page by page."""
    cursor: str | None = ""
    while cursor is not None:
        answer = await client.get(path, params={"limit": 100, **({"cursor": cursor} if cursor else {})})
        page = answer.raise_for_status().json()
        for item in page["data"]:
            yield item
        cursor = page["next_cursor"]
