"""What a request could have named: the routes of the app, their parameters and the fields of their bodies.

Read from the OpenAPI document, so that what a message suggests is what the document describes.
"""

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from fastapi import Request

# How alike a path and a route must be (0 to 1) for the one to be suggested for the other.
_ALIKE = 0.75


Document = Mapping[str, Any]


async def document_of(request: Request) -> Document:
    """The OpenAPI document of the app; the first that asks waits until it is made."""
    document: Document = await asyncio.to_thread(request.app.openapi)
    return document


def known_names(document: Document, request: Request, place: Sequence[int | str]) -> list[str]:
    """The parameters or fields that exist at this place of the request: `("query",)`, `("body", "table")`."""
    operation = _operation(document, request)
    if operation is None:
        return []
    if place[:1] != ("body",):
        return [one["name"] for one in operation.get("parameters", ()) if one["in"] == place[0]]
    schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    for part in place[1:]:
        schema = _resolved(document, schema)
        schema = schema.get("items", {}) if isinstance(part, int) else schema.get("properties", {}).get(part, {})
    return list(_resolved(document, schema).get("properties", {}))


def no_route(document: Document, request: Request) -> str:
    """Says that a path leads nowhere, and which one was probably meant."""
    path = request.url.path
    paths = [known for known in document["paths"] if not known.startswith("/webhooks")]
    if found := next((known for known in paths if _is_like(path, known)), None):
        part = ", ".join(re.findall(r"{([^}]*)}", found))
        return (
            f"there is no route {path}: `{part}` in {found} must be an id; GET {found.rpartition('/{')[0]} lists them"
        )
    near = get_close_matches(path, paths, n=1, cutoff=_ALIKE)
    return f"there is no route {path}: " + (f"did you mean {near[0]}?" if near else "GET /docs lists them")


def _is_like(path: str, known: str) -> bool:
    """Whether it is this route, except for the form of an id."""
    return re.fullmatch(re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(known)), path) is not None


def _operation(document: Document, request: Request) -> Mapping[str, Any] | None:
    route = request.scope.get("route")
    methods = document["paths"].get(getattr(route, "path_format", None), {})
    found: Mapping[str, Any] | None = methods.get(request.method.lower())
    return found


def _resolved(document: Document, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The object behind a reference, or among the shapes that are possible."""
    if "$ref" in schema:
        return _resolved(document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    objects = (_resolved(document, one) for one in _alternatives(schema))
    return schema if "properties" in schema else next((one for one in objects if "properties" in one), schema)


def _alternatives(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for kind in ("anyOf", "allOf", "oneOf"):
        yield from schema.get(kind, ())
