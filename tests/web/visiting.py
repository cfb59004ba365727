"""The pages without a browser: a client that keeps cookies and says what browsers say."""

import re

import httpx

from app.main import build_app
from app.resources import Resources
from tests.service import ADMIN_TOKEN

HERE = "http://127.0.0.1"
FROM_OUR_PAGE = {"Sec-Fetch-Site": "same-origin"}
PROXY = "10.1.2.3"


def visitor(res: Resources, *, base_url: str = HERE, peer: str = "192.0.2.1") -> httpx.AsyncClient:
    """Somebody with a browser who is not logged in; `peer` is who connects."""
    transport = httpx.ASGITransport(build_app(res), client=(peer, 5000))
    return httpx.AsyncClient(transport=transport, base_url=base_url, headers={"Accept": "text/html,*/*;q=0.8"})


async def log_in(client: httpx.AsyncClient, token: str = ADMIN_TOKEN, **fields: str) -> httpx.Response:
    """Send the form of `/login`."""
    return await submit(client, "/login", token=token, **fields)


async def submit(client: httpx.AsyncClient, path: str, **fields: str) -> httpx.Response:
    """Send a form from one of our pages."""
    return await client.post(path, data=fields, headers=FROM_OUR_PAGE)


def plain(html: str) -> str:
    """Without the marks that say where a line may break (app/web/narrow.py): sentences as people read them."""
    return re.sub(r'<wbr>|<span class="nowrap">([^<]*)</span>', r"\1", html)


def heading(answer: httpx.Response) -> str:
    """What the page is called."""
    found = re.search(r"<h1>(.*?)</h1>", plain(answer.text), re.DOTALL)
    assert found, answer.text
    return " ".join(re.sub(r"<[^>]+>", " ", found[1]).split())
