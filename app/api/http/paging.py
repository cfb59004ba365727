"""Lists, page by page: a cursor names the last row shown, so that new rows shift nothing."""

import base64
import binascii
import json
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from app.api.schemas.common import Page, PageIn, is_text
from app.errors import BadInput, FieldError
from app.ids import LARGEST_NUMBER
from app.planning.windows import FIRST_DAY, LAST_DAY

T = TypeVar("T")


def page_of(kind: str, rows: Sequence[T], limit: int, key: Callable[[T], Sequence[object]]) -> Page[T]:
    """Build a page from these rows. `rows` holds one more than `limit` when there is another page.

    `key` gives a row's position in the order of the list, which its cursor holds.
    """
    shown = list(rows[:limit])
    more = make_cursor(kind, *map(str, key(shown[-1]))) if len(rows) > limit else None
    return Page(data=shown, next_cursor=more)


def page_by_name(kind: str, items: Iterable[T], asked: PageIn, name: Callable[[T], str]) -> Page[T]:
    """Build a page of a list that is short enough to be read whole; names are unique."""
    (after,) = read_cursor(kind, asked.cursor, parts=1) if asked.cursor else ("",)
    later = sorted((item for item in items if name(item) > after), key=name)
    return page_of(kind, later, asked.limit, lambda item: [name(item)])


def make_cursor(kind: str, *position: str) -> str:
    """An opaque cursor for lists of this kind; no part may contain a line break."""
    return base64.urlsafe_b64encode("\n".join((kind, *position)).encode()).decode().rstrip("=")


def read_cursor(kind: str, cursor: str, *, parts: int) -> list[str]:
    """The position in a cursor that `make_cursor` made for lists of this kind. Raises BadInput."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        found, *position = base64.b64decode(padded, altchars=b"-_", validate=True).decode().split("\n")
    except (UnicodeError, binascii.Error) as error:
        raise bad_cursor() from error
    if found != kind or len(position) != parts or not all(map(is_text, position)):
        raise bad_cursor()
    return position


def read_id_cursor(kind: str, cursor: str) -> uuid.UUID:
    """The id in a cursor of a list that is ordered by id. Raises BadInput."""
    try:
        return uuid.UUID(read_cursor(kind, cursor, parts=1)[0])
    except ValueError as error:
        raise bad_cursor() from error


def read_number_cursor(kind: str, cursor: str) -> int:
    """The number in a cursor of a list that is ordered by a number. Raises BadInput."""
    (text,) = read_cursor(kind, cursor, parts=1)
    if not text.isdecimal() or len(text) > len(str(LARGEST_NUMBER)) or int(text) > LARGEST_NUMBER:
        raise bad_cursor()
    return int(text)


def read_text_cursor(kind: str, cursor: str) -> str:
    """The text in a cursor, there as JSON since it may contain line breaks. Raises BadInput."""
    try:
        found = json.loads(read_cursor(kind, cursor, parts=1)[0])
    except ValueError as error:
        raise bad_cursor() from error
    if not isinstance(found, str) or not is_text(found):
        raise bad_cursor()
    return found


def read_time(text: str) -> datetime:
    """The time, in UTC, in one part of a cursor. Raises BadInput."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise bad_cursor() from error
    # The first local day may begin in the year before, and beyond these years sums overflow.
    if moment.tzinfo is None or not FIRST_DAY.year - 1 <= moment.year <= LAST_DAY.year:
        raise bad_cursor()
    return moment.astimezone(UTC)


def bad_cursor() -> BadInput:
    """The error for a cursor that this list did not issue."""
    return BadInput(FieldError("cursor", "is not a cursor of this list; use the previous page's `next_cursor`"))
