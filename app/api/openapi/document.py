"""The parts of the OpenAPI document that the routes do not show: what all have in common, and problems."""

from functools import cache
from http import HTTPStatus
from threading import Lock
from typing import Any

from fastapi import FastAPI

from app.api.http.problems import MEDIA_TYPE
from app.api.openapi import examples
from app.api.openapi.webhooks import described_webhooks, message_schemas

DESCRIPTION = """\
Automates Stripe's financial reports. Send `Authorization: Bearer …` with every request to `/v1`.

Errors are problems (RFC 9457, `application/problem+json`). Their `type` is always `about:blank`: the status says what
kind of problem it is, `detail` says what to do, and `errors` names the fields of bad input. Times are RFC 3339 in UTC.
Most lists are newest first; pass `next_cursor` as `cursor` for the next page.
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


def problem_shown(description: str) -> dict[str, Any]:
    """The OpenAPI entry of a problem that a route may answer with."""
    return {"description": description, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: problem_shown("No token, or an unknown one."),
    403: problem_shown("The token may only read, or is limited to some accounts."),
    404: problem_shown("It does not exist."),
    409: problem_shown("The current state does not allow it."),
    413: problem_shown("The body is too large."),
    422: problem_shown("Bad input."),
    503: problem_shown("The database does not answer; try again."),
}

CHANGED_MEANWHILE: dict[int | str, dict[str, Any]] = {
    412: problem_shown("`If-Match` does not name the current version.")
}


def _show(operation: dict[str, Any]) -> None:
    """Attach an example to each request and response body."""
    for form in operation.get("requestBody", {}).get("content", {}).values():
        _add_example(form, 200)
    for status, answer in operation["responses"].items():
        if status >= "400" and "content" not in answer:
            answer.update(problem_shown(answer["description"]))
        for media_type, form in answer.get("content", {}).items():
            _add_example(form, int(status), media_type)


def _add_example(form: dict[str, Any], status: int, media_type: str = "application/json") -> None:
    schema = form.get("schema", {})
    # An optional body is described as one of two shapes.
    names = [one.get("$ref", "").split("/")[-1] for one in (schema, *schema.get("anyOf", ()))]
    if media_type == MEDIA_TYPE:
        form["example"] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
        form["example"] |= examples.PROBLEMS[status]
    elif text := examples.TEXTS.get(media_type.split(";", maxsplit=1)[0]):
        form["example"] = text
    elif shape := next((examples.SHAPES[name] for name in names if name in examples.SHAPES), None):
        form["example"] = shape


def describe(app: FastAPI) -> None:
    """Add to the app's OpenAPI document what FastAPI cannot know.

    Making it takes a third of a second, once: ask for it in a thread, so that other requests are answered meanwhile.
    """
    generate, one_makes_it = app.openapi, Lock()

    @cache
    def make() -> dict[str, Any]:
        document = generate()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas |= {"Problem": _PROBLEM, **message_schemas()}
        document["webhooks"] = described_webhooks()
        for methods in document["paths"].values():
            for operation in methods.values():
                _show(operation)
        return document

    def openapi() -> dict[str, Any]:
        with one_makes_it:
            return make()

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend the document
