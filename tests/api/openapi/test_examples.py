"""The OpenAPI document shows a valid example of every request and answer."""

from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema  # type: ignore[import-untyped]

from app.observability.logs import redact


def forms(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Everything that has content, and its place."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for form in operation.get("requestBody", {}).get("content", {}).values():
                yield f"{method} {path}", form
            for status, answer in operation["responses"].items():
                assert status in ("204", "304") or answer.get("content"), f"{method} {path} {status} shows nothing"
                for form in answer.get("content", {}).values():
                    yield f"{method} {path} {status}", form


async def test_everything_has_an_example_that_fits_and_is_not_a_secret(nobody: httpx.AsyncClient) -> None:
    document = (await nobody.get("/openapi.json")).json()

    for place, form in forms(document):
        assert "example" in form, place
        schema = {**form.get("schema", {}), "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(form["example"])
        assert redact(str(form["example"])) == str(form["example"]), place


async def test_operations_are_named_once_and_by_what_they_do(nobody: httpx.AsyncClient) -> None:
    document = (await nobody.get("/openapi.json")).json()

    names = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(set(names)) == len(names)
    assert {"create_rule", "download_file", "receive_event"} <= set(names)
