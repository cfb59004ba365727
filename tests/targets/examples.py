"""Whether messages look like the examples that the API document shows."""

from collections.abc import Iterator
from typing import Any

from app.targets.catalogue import example_of
from app.vocabulary import MessageType


def unlike_its_example(message: dict[str, Any]) -> list[str]:
    """How a message differs from its example: keys that only one of them has, and values of another kind."""
    return list(_unlike("", example_of(MessageType(message["type"])), message))


def _unlike(where: str, shown: Any, sent: Any) -> Iterator[str]:
    if isinstance(shown, dict) and isinstance(sent, dict):
        yield from (f"{where}/{name} is not in the example" for name in sorted(sent.keys() - shown.keys()))
        yield from (f"{where}/{name} was not sent" for name in sorted(shown.keys() - sent.keys()))
        for name in shown.keys() & sent.keys():
            yield from _unlike(f"{where}/{name}", shown[name], sent[name])
    elif isinstance(shown, list) and isinstance(sent, list):
        for one in sent if shown else []:
            yield from _unlike(f"{where}/-", shown[0], one)
    elif shown is not None and sent is not None and type(shown) is not type(sent):
        yield f"{where} is {type(sent).__name__}, and {type(shown).__name__} in the example"
