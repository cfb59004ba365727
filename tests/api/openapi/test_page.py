"""`/docs` is worth reading: tasks first, a command for each route, a link for each shape; what we send is there too."""

import html
import json
import re
import shlex
from typing import Any

import httpx
import jsonschema  # type: ignore[import-untyped]

from app.api.openapi.tasks import TASKS
from app.vocabulary import MessageType


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
