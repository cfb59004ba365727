"""The page at `/docs`: the OpenAPI document for people. It loads nothing and runs no script, so it works anywhere."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from html import escape
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

_STYLE = """
html { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
summary { cursor: pointer; padding: .3rem 0 } code, pre { font: 14px/1.4 ui-monospace, monospace }
pre { overflow-x: auto; padding: .7rem; border: 1px solid #8886; border-radius: .3rem }
summary code { font-weight: 600 }
table { border-collapse: collapse } td, th { padding: .2rem 1rem .2rem 0; text-align: left; vertical-align: top }
"""
# Nothing may be loaded or run: the page contains everything it shows.
_POLICY = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}


def open_routes(app: FastAPI) -> list[Route]:
    """Add `/docs` and `/openapi.json`, which are public; each is rendered once and then served from memory."""

    @cache
    def page() -> Response:
        return HTMLResponse("\n".join(_page(app.openapi())), headers=_POLICY)

    @cache
    def document() -> Response:
        return JSONResponse(app.openapi())

    async def show_page(_: Request) -> Response:
        return page()

    async def show_document(_: Request) -> Response:
        return document()

    return [
        Route("/docs", show_page, include_in_schema=False),
        Route("/openapi.json", show_document, include_in_schema=False),
    ]


def _page(document: Mapping[str, Any]) -> Iterator[str]:
    title = f"{document['info']['title']} {document['info']['version']}"
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    yield f"<h1>{escape(title)}</h1>"
    yield from (f"<p>{escape(part)}</p>" for part in document["info"]["description"].split("\n\n"))
    yield '<p>For tools: <a href="/openapi.json">openapi.json</a>.</p>'
    for tag, operations in _by_tag(document).items():
        yield f"<h2>{escape(tag)}</h2>"
        for method, path, operation in operations:
            yield from _operation(method, path, operation)
    yield "<h2>shapes</h2>"
    for name, schema in sorted(document["components"]["schemas"].items()):
        yield f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>{_pretty(schema)}</details>'


def _by_tag(document: Mapping[str, Any]) -> dict[str, list[tuple[str, str, Mapping[str, Any]]]]:
    found: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for path, methods in sorted(document["paths"].items()):
        for method, operation in methods.items():
            found.setdefault(operation["tags"][0], []).append((method.upper(), path, operation))
    return dict(sorted(found.items()))


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    about = operation.get("description", operation["summary"])
    yield f"<details><summary><code>{method} {escape(path)}</code> {escape(operation['summary'])}</summary>"
    yield f"<p>{escape(about)}</p>"
    if parameters := operation.get("parameters"):
        yield "<table><tr><th>parameter<th>in<th>what"
        for one in parameters:
            what = one.get("description", "") + (" (required)" if one.get("required") else "")
            yield f"<tr><td><code>{escape(one['name'])}</code><td>{one['in']}<td>{escape(what)}"
        yield "</table>"
    if body := operation.get("requestBody"):
        yield f"<p>Body:</p>{_pretty(body['content'])}"
    for status, answer in sorted(operation["responses"].items()):
        yield f"<p><b>{status}</b> {escape(answer['description'])}</p>"
        if status.startswith("2") and answer.get("content"):
            yield _pretty(answer["content"])
    yield "</details>"


def _pretty(value: object) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"
