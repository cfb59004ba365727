"""The page at `/docs`: the OpenAPI document for people, tasks first. It loads nothing and runs no script."""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from html import escape
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from app.api.openapi.tasks import TASKS

_STYLE = """
html { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
summary { cursor: pointer; padding: .3rem 0 } code, pre { font: 14px/1.4 ui-monospace, monospace }
pre { overflow-x: auto; padding: .7rem; border: 1px solid #8886; border-radius: .3rem }
summary code { font-weight: 600 } nav a { margin-right: 1rem }
table { border-collapse: collapse } td, th { padding: .2rem 1rem .2rem 0; text-align: left; vertical-align: top }
"""
# Nothing may be loaded or run: the page contains everything it shows.
_POLICY = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}
_REFERENCE = re.compile(r"&quot;#/components/schemas/([\w-]+)&quot;")

Operations = Sequence[tuple[str, str, Mapping[str, Any]]]


def open_routes(app: FastAPI) -> list[Route]:
    """`/docs` and `/openapi.json`, which are public and served from memory.

    The first request for one makes it, in a thread (see `describe`): few processes are ever asked.
    """

    @cache
    def page() -> Response:
        return HTMLResponse("\n".join(_page(app.openapi())), headers=_POLICY)

    @cache
    def document() -> Response:
        return JSONResponse(app.openapi())

    async def show_page(_: Request) -> Response:
        return await asyncio.to_thread(page)

    async def show_document(_: Request) -> Response:
        return await asyncio.to_thread(document)

    return [
        Route("/docs", show_page, include_in_schema=False),
        Route("/openapi.json", show_document, include_in_schema=False),
    ]


def _page(document: Mapping[str, Any]) -> Iterator[str]:
    title = f"{document['info']['title']} {document['info']['version']}"
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    yield '<meta name="viewport" content="width=device-width">'
    yield f"<h1>{escape(title)}</h1>"
    yield from (f"<p>{_inline(part)}</p>" for part in document["info"]["description"].split("\n\n"))
    groups = _by_tag(document["paths"])
    yield "<nav>" + "".join(f'<a href="#{_id(name)}">{escape(name)}</a>' for name in ("tasks", *groups)) + "</nav>"
    yield from _tasks()
    for tag, operations in groups.items():
        yield f'<h2 id="{_id(tag)}">{escape(tag)}</h2>'
        for method, path, operation in operations:
            yield from _operation(method, path, operation, curl=_curl(method, path, operation))
    yield "<h2>what we send to webhook targets</h2>"
    for name, methods in document["webhooks"].items():
        yield from _operation("POST", name, methods["post"], curl="")
    yield "<h2>shapes</h2>"
    for name, schema in sorted(document["components"]["schemas"].items()):
        # The id is inside, so that a link to it opens the fold.
        yield f"<details><summary><code>{escape(name)}</code></summary>{_pretty(schema, id=name)}</details>"


def _tasks() -> Iterator[str]:
    yield '<h2 id="tasks">tasks</h2><p>With <code>TOKEN</code> and <code>URL</code> set in the shell, or <code>'
    yield "TALLYHOOK_TOKEN</code> and <code>TALLYHOOK_URL</code> for the command line.</p>"
    for task in TASKS:
        yield f"<h3>{escape(task.title)}</h3><p>{_inline(task.about)}</p>"
        yield f"<pre>{escape(task.curl)}</pre><pre>{escape(task.shell)}</pre><p>On the pages: {escape(task.pages)}.</p>"
    yield '<p>For tools: <a href="/openapi.json">openapi.json</a>.</p>'


def _by_tag(paths: Mapping[str, Any]) -> dict[str, Operations]:
    found: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for path, methods in sorted(paths.items()):
        for method, operation in methods.items():
            found.setdefault(operation["tags"][0], []).append((method.upper(), path, operation))
    return dict(sorted(found.items()))


def _operation(method: str, path: str, operation: Mapping[str, Any], *, curl: str) -> Iterator[str]:
    about = operation.get("description", operation["summary"])
    name = operation["operationId"]
    yield f"<details><summary><code>{method} {escape(path)}</code> {escape(operation['summary'])}</summary>"
    yield f'<p id="{escape(name)}">{_inline(about)}</p>'
    if curl:
        yield f"<pre>{escape(curl)}</pre>"
    if parameters := operation.get("parameters"):
        yield "<table><tr><th>parameter<th>in<th>what"
        for one in parameters:
            what = one.get("description", "") + (" (required)" if one.get("required") else "")
            yield f"<tr><td><code>{escape(one['name'])}</code><td>{one['in']}<td>{_inline(what)}"
        yield "</table>"
    if body := operation.get("requestBody"):
        yield f"<p>Body:</p>{_pretty(body['content'])}"
    for status, answer in sorted(operation["responses"].items()):
        yield f"<p><b>{status}</b> {_inline(answer['description'])}</p>"
        if status.startswith("2") and answer.get("content"):
            yield _pretty(answer["content"])
    yield "</details>"


def _curl(method: str, path: str, operation: Mapping[str, Any]) -> str:
    """A command that can be pasted; what is in braces has to be filled in."""
    words = ["curl"] if method == "GET" else ["curl", f"-X {method}"]
    if not path.startswith(("/webhooks", "/health/")):
        words.append('-H "Authorization: Bearer $TOKEN"')
    needed = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "query" and one.get("required")]
    query = "?" + "&".join(f"{name}=…" for name in needed) if needed else ""
    example = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
    if example is not None:
        words.append("-H 'Content-Type: application/json'")
    words.append(f'"$URL{path}{query}"')
    if example is not None:
        quoted = json.dumps(example, ensure_ascii=False).replace("'", "'\\''")
        words.append(f"-d '{quoted}'")
    return " ".join(words)


def _pretty(value: object, *, id: str | None = None) -> str:
    """As JSON, in which every reference is a link to its shape."""
    text = escape(json.dumps(value, indent=2, ensure_ascii=False))
    text = _REFERENCE.sub(r'<a href="#\1">\1</a>', text)
    return f"<pre>{text}</pre>" if id is None else f'<pre id="{escape(id)}">{text}</pre>'


def _inline(text: str) -> str:
    """A paragraph, with text in backquotes as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _id(tag: str) -> str:
    return tag.replace(" ", "-")
