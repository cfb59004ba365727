"""Named values for a command with many parameters, checked against a dataclass."""

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter

KindT = TypeVar("KindT")


def checked(kind: type[KindT], words: Mapping[str, Any], *, what: str) -> KindT:
    """The dataclass with these values. A ValueError names unknown and known fields, or the value that does not fit."""
    known = {field.name for field in fields(kind) if field.init}  # type: ignore[arg-type]
    if unknown := words.keys() - known:
        raise ValueError(f"{what} has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}")
    valid: KindT = _adapter(cast(Any, kind)).validate_python(dict(words))
    return valid


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Making one takes milliseconds."""
    return TypeAdapter(kind)
