"""What we send to webhook targets, as the `webhooks` of the OpenAPI document: one per message type, with its schema.

The schemas follow from the examples in `app/targets/catalogue.py`.
"""

from collections.abc import Mapping
from typing import Any

from app.targets.catalogue import DESCRIBED, example_of
from app.vocabulary import MessageType

_HEADERS = {
    "webhook-id": "The message's id: the same on every try.",
    "webhook-timestamp": "When this try was sent, in Unix seconds.",
    "webhook-signature": "One `v1,…` for each valid secret: base64 of the HMAC-SHA256 of `id.timestamp.body`.",
}
_ANSWERS = {
    "2XX": {"description": "It was received."},
    "410": {"description": "Send nothing more: the target is disabled."},
    "default": {"description": "It is sent again: ten tries over three days; `Retry-After` is honoured."},
}


def described_webhooks() -> dict[str, Any]:
    """The `webhooks` of the document, by message type."""
    return {type_.value: {"post": _operation(type_)} for type_ in MessageType}


def message_schemas() -> dict[str, Any]:
    """The schema of each body, by its name among the document's components."""
    return {_name(type_): _message(type_) for type_ in MessageType}


def _operation(type_: MessageType) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{_name(type_)}"}
    return {
        "operationId": f"message_{type_.value.replace('.', '_')}",
        "summary": DESCRIBED[type_].description,
        "description": "Signed as in Standard Webhooks; see docs/howto/targets.md.",
        "tags": ["messages"],
        "parameters": [
            {"name": name, "in": "header", "required": True, "description": what, "schema": {"type": "string"}}
            for name, what in _HEADERS.items()
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": schema, "example": example_of(type_)}},
        },
        "responses": _ANSWERS,
    }


def _name(type_: MessageType) -> str:
    return "".join(word.capitalize() for word in type_.value.replace("_", ".").split(".")) + "Message"


def _message(type_: MessageType) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["id", "type", "timestamp", "data"],
        "properties": {
            "id": {"type": "string"},
            "type": {"type": "string", "const": type_.value},
            "timestamp": {"type": "string", "format": "date-time"},
            "data": _shape(DESCRIBED[type_].example),
        },
    }


def _shape(example: object) -> dict[str, Any]:
    """The schema of values like the example; what is null there may be anything, and every plain value may be null."""
    match example:
        case Mapping():
            properties = {str(name): _shape(value) for name, value in example.items()}
            return {"type": "object", "required": list(properties), "properties": properties}
        case list():
            return {"type": "array", "items": _shape(example[0])} if example else {"type": "array", "items": {}}
        case bool():
            return {"type": ["boolean", "null"]}
        case int():
            return {"type": ["integer", "null"]}
        case str():
            return {"type": ["string", "null"]}
    return {}
