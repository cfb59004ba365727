"""`/docs` is worth reading: tasks first, a command for each route, a link for each shape; what we send is there too."""

import asyncio
import html
import json
import re
import shlex
import threading
from typing import Any

import httpx
import jsonschema  # type: ignore[import-untyped]
import pytest

from app.api.openapi.tasks import TASKS
from app.main import build_app
from app.resources import Resources
from app.vocabulary import MessageType
from tests.api.conftest import BASE_URL, bearer
from tests.service import ADMIN_TOKEN


async def page_of(nobody: httpx.AsyncClient) -> str:
    return (await nobody.get("/docs")).text


async def test_tasks_come_first_and_every_route_has_a_command_that_can_be_pasted(nobody: httpx.AsyncClient) -> None:
    page = await page_of(nobody)
    document = (await nobody.get("/openapi.json")).json()

    titles = re.findall(r"<h3>(.*?)</h3>", page)
    commands = [html.unescape(text) for text in re.findall(r"<pre>(curl.*?)</pre>", page, re.DOTALL)]
    operations = [(path, method) for path, methods in document["paths"].items() for method in methods]

    assert titles == [html.escape(task.title) for task in TASKS]
    assert page.index("<h3>") < page.index('<h2 id="accounts">')
    assert len(commands) == len(TASKS) + len(operations)
    for command in commands:
        words = shlex.split(command)
        assert words[0] == "curl"
        if "-d" in words:
            json.loads(words[words.index("-d") + 1])


async def test_every_link_leads_to_something_on_the_page(nobody: httpx.AsyncClient) -> None:
    page = await page_of(nobody)

    wanted = set(re.findall(r'href="#([^"]+)"', page))
    assert wanted <= set(re.findall(r'id="([^"]+)"', page))
    assert "RuleOut" in wanted
    assert "#/components/schemas" not in page, "a reference is a link"


async def test_what_is_sent_to_targets_is_described_with_a_schema_that_its_example_fits(
    nobody: httpx.AsyncClient,
) -> None:
    document: dict[str, Any] = (await nobody.get("/openapi.json")).json()

    assert document["openapi"].startswith("3.1")
    assert set(document["webhooks"]) == {type_.value for type_ in MessageType}
    for methods in document["webhooks"].values():
        form = methods["post"]["requestBody"]["content"]["application/json"]
        schema = {**form["schema"], "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(form["example"])


@pytest.mark.parametrize(
    ("path", "status"), [("/docs", 200), ("/openapi.json", 200), ("/v1/rulse", 404), ("/v1/runs?stat=stored", 422)]
)
async def test_others_are_answered_while_the_document_is_being_made(res: Resources, path: str, status: int) -> None:
    app = build_app(res)
    make, being_made, go_on = app.openapi, threading.Event(), threading.Event()

    def slowly() -> dict[str, Any]:
        being_made.set()
        assert go_on.wait(30)
        return make()

    app.openapi = slowly  # type: ignore[method-assign]
    headers = bearer(ADMIN_TOKEN)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE_URL, headers=headers) as client:
        needs_it = asyncio.create_task(client.get(path))
        await asyncio.to_thread(being_made.wait, 30)
        meanwhile = await client.get("/health/live")
        waited = not needs_it.done()
        go_on.set()

        assert (meanwhile.status_code, waited, (await needs_it).status_code) == (200, True, status)
