"""The API's description, as far as it cannot be read off the routes: what is common to all, problems, webhooks."""

from copy import deepcopy
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from app.api.http.problems import MEDIA_TYPE
from app.api.openapi import examples

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

CHANGED_MEANWHILE: dict[int | str, dict[str, Any]] = {
    412: _problem("`If-Match` names another version than the present one.")
}

_ACCOUNT = {"name": "account", "in": "path", "required": True, "schema": {"type": "string"}}
_SIGNATURE = {
    "name": "Stripe-Signature",
    "in": "header",
    "required": True,
    "schema": {"type": "string"},
    "example": "t=1790838000,v1=5257a869e7ecebeda32affa62cdca3fa51cad7e77a0e56ff536d0ce8e108d8bd",
}
_EVENT = {
    "required": True,
    "description": "The event, as Stripe wrote it: the signature is over these very bytes.",
    "content": {"application/json": {"schema": {"type": "object"}, "example": examples.DELIVERY}},
}
_RECEIVED = {"type": "object", "properties": {"received": {"type": "boolean", "const": True}}}
_ANSWERS = {
    "200": {
        "description": "The event is kept, or was before, or is not for us.",
        "content": {"application/json": {"schema": _RECEIVED, "example": {"received": True}}},
    },
    "400": _problem("The delivery cannot be believed, or is no event."),
    "404": _problem("There is no such account, or it has no webhook secret."),
    "405": _problem("Only POST."),
    "413": _problem("The body is too large."),
    "503": _problem("The event could not be kept: deliver it again."),
}


def _delivery(whose: str, operation: str, *parameters: dict[str, Any]) -> dict[str, Any]:
    post = {
        "tags": ["webhooks"],
        "summary": f"Receive an event of {whose}",
        "description": "Where Stripe delivers events, signed. The answer comes after the event is committed.",
        "operationId": operation,
        "parameters": [*parameters, _SIGNATURE],
        "requestBody": _EVENT,
        "responses": _ANSWERS,
    }
    return {"post": post}


_WEBHOOKS = {
    "/webhooks/stripe": _delivery("the account `default`", "receive_event"),
    "/webhooks/stripe/{account}": _delivery("an account", "receive_event_of_account", _ACCOUNT),
}


def _show(operation: dict[str, Any]) -> None:
    """An example for whatever comes in or goes out."""
    for form in operation.get("requestBody", {}).get("content", {}).values():
        _add_example(form, 200)
    for status, answer in operation["responses"].items():
        if status >= "400" and "content" not in answer:
            answer.update(_problem(answer["description"]))
        for media_type, form in answer.get("content", {}).items():
            _add_example(form, int(status), media_type)


def _add_example(form: dict[str, Any], status: int, media_type: str = "application/json") -> None:
    schema = form.get("schema", {})
    # A body that may be left out is one of two shapes.
    names = [one.get("$ref", "").split("/")[-1] for one in (schema, *schema.get("anyOf", ()))]
    if media_type == MEDIA_TYPE:
        form["example"] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
        form["example"] |= examples.PROBLEMS[status]
    elif text := examples.TEXTS.get(media_type.split(";", maxsplit=1)[0]):
        form["example"] = text
    elif shape := next((examples.SHAPES[name] for name in names if name in examples.SHAPES), None):
        form["example"] = shape


def describe(app: FastAPI) -> None:
    """Have the app's OpenAPI document hold what FastAPI cannot know."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        document.setdefault("components", {}).setdefault("schemas", {})["Problem"] = _PROBLEM
        document["paths"] |= deepcopy(_WEBHOOKS)
        for methods in document["paths"].values():
            for operation in methods.values():
                _show(operation)
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend the document
