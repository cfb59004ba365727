"""Lists, page by page, newest first: a cursor names the last row shown, so that new rows shift nothing."""

import base64
import binascii
from typing import Annotated

from pydantic import Field

from app.errors import BadInput, FieldError

Limit = Annotated[int, Field(ge=1, le=100, description="How many to answer with at most.")]
Cursor = Annotated[str, Field(max_length=500, description="`next_cursor` of the page before.")]
DEFAULT_LIMIT = 50


def make_cursor(kind: str, *position: str) -> str:
    """An opaque cursor for lists of this kind; no part may hold a line break."""
    return base64.urlsafe_b64encode("\n".join((kind, *position)).encode()).decode().rstrip("=")


def read_cursor(kind: str, cursor: str, *, parts: int) -> list[str]:
    """The position in a cursor that `make_cursor` made for lists of this kind. Raises BadInput."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        found, *position = base64.b64decode(padded, altchars=b"-_", validate=True).decode().split("\n")
    except (UnicodeError, binascii.Error) as error:
        raise bad_cursor() from error
    if found != kind or len(position) != parts:
        raise bad_cursor()
    return position


def bad_cursor() -> BadInput:
    """What a cursor that is none of ours is answered with."""
    return BadInput(FieldError("cursor", "is no cursor of this list; take it from `next_cursor`"))
