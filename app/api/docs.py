"""The API's description: what cannot be read off the routes themselves, and a page that shows it without the internet."""

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import HTMLResponse

from app.api.problems import MEDIA_TYPE

DESCRIPTION = """\
Automates Stripe's financial reports. Send `Authorization: Bearer …` with every request to `/v1`.

Errors are problems (RFC 9457, `application/problem+json`). Their `type` is always `about:blank`: the status says what
kind of problem it is, `detail` says what to do, and `errors` names the fields of bad input. Times are RFC 3339 in UTC.
Lists are newest first; pass `next_cursor` as `cursor` to go on.
"""

_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "const": "about:blank"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: _problem("No token, or one that is not known."),
    403: _problem("The token may only read."),
    404: _problem("There is no such thing."),
    409: _problem("The state of things does not allow it."),
    413: _problem("The body is too large."),
    422: _problem("Bad input."),
    503: _problem("The database does not answer; try again."),
}

_DELIVERY = {
    "tags": ["webhooks"],
    "description": "Where Stripe delivers events, signed. The answer comes after the event is committed.",
    "parameters": [
        {
            "name": "Stripe-Signature",
            "in": "header",
            "required": True,
            "schema": {"type": "string"},
            "example": "t=1790838000,v1=5257a869e7…",
        }
    ],
    "requestBody": {
        "required": True,
        "description": "The event, as Stripe wrote it: the signature is over these very bytes.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    },
    "responses": {
        "200": {
            "description": "The event is kept, or was before, or is not for us.",
            "content": {
                "application/json": {
                    "schema": {"type": "object", "properties": {"received": {"type": "boolean", "const": True}}}
                }
            },
        },
        "400": _problem("The delivery cannot be believed, or is no event."),
        "404": _problem("There is no such account, or it has no webhook secret."),
        "405": _problem("Only POST."),
        "413": _problem("The body is too large."),
        "503": _problem("The event could not be kept: deliver it again."),
    },
}
_ACCOUNT = {"name": "account", "in": "path", "required": True, "schema": {"type": "string"}}


def describe_webhooks(app: FastAPI) -> None:
    """Add what FastAPI cannot know: the plain ASGI routes, and the shape of problems."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = _PROBLEM
        default = _DELIVERY | {"summary": "Receive an event of the account `default`", "operationId": "receive_event"}
        named = _DELIVERY | {"summary": "Receive an event of an account", "operationId": "receive_event_of_account"}
        named["parameters"] = [_ACCOUNT, *_DELIVERY["parameters"]]  # type: ignore[misc]
        document["paths"] |= {"/webhooks/stripe": {"post": default}, "/webhooks/stripe/{account}": {"post": named}}
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend the document
