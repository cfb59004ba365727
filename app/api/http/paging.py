"""Lists, page by page, newest first: a cursor names the last row shown, so that new rows shift nothing."""

import base64
import binascii
import uuid
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from app.errors import BadInput, FieldError

# What a column of numbers can hold.
LARGEST_ID = 2**63 - 1

Limit = Annotated[int, Field(ge=1, le=100, description="How many to answer with at most.")]
Cursor = Annotated[str, Field(max_length=500, description="`next_cursor` of the page before.")]


class PageIn(BaseModel):
    """How to page through a list; unknown parameters are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    limit: Limit = 50
    cursor: Cursor | None = None


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


def read_id_cursor(kind: str, cursor: str) -> uuid.UUID:
    """The id in a cursor of a list that is ordered by id. Raises BadInput."""
    try:
        return uuid.UUID(read_cursor(kind, cursor, parts=1)[0])
    except ValueError as error:
        raise bad_cursor() from error


def read_number_cursor(kind: str, cursor: str) -> int:
    """The same of a list that is ordered by a number. Raises BadInput."""
    (text,) = read_cursor(kind, cursor, parts=1)
    if not text.isdecimal() or len(text) > len(str(LARGEST_ID)) or int(text) > LARGEST_ID:
        raise bad_cursor()
    return int(text)


def bad_cursor() -> BadInput:
    """What a cursor that is none of ours is answered with."""
    return BadInput(FieldError("cursor", "is no cursor of this list; take it from `next_cursor`"))
