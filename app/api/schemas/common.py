"""What all schemas of the admin API have in common.

Strings that PostgreSQL cannot keep (NUL, halves of surrogate pairs) are refused here, with a pointer.
"""

import json
import math
import re
from collections.abc import Iterator
from datetime import MINYEAR, UTC, date, datetime, timedelta
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from app import sentences
from app.errors import BadInput, BadParameter, FieldError
from app.planning.windows import FIRST_DAY, LAST_DAY

T = TypeVar("T")

LONGEST_LIST = 1000
MOST_PARAMETER_BYTES = 64 * 1024
DEEPEST_PARAMETERS = 8
# Stripe documents these as text; all others are passed on unchanged.
_TEXT_PARAMETERS = frozenset({"currency", "payout", "reporting_category", "timezone"})


class In(BaseModel):
    """The base of requests: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Limit = Annotated[int, Field(ge=1, le=100, description="The most items to return.")]
Cursor = Annotated[str, Field(max_length=500, description="The previous page's `next_cursor`.")]


class PageIn(In):
    """How to page through a list; unknown parameters are refused."""

    limit: Limit = 50
    cursor: Cursor | None = None


class Out(BaseModel):
    """The base of answers."""

    model_config = ConfigDict(from_attributes=True, frozen=True, defer_build=True)


class Page(Out, Generic[T]):
    """One page of a list."""

    data: list[T]
    next_cursor: str | None = Field(description="Pass it as `cursor` to get the next page; null on the last one.")


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("contains characters that cannot be printed")
    return value


def _day_text(value: object) -> object:
    # Numbers would be taken for seconds since 1970.
    if isinstance(value, date) or (isinstance(value, str) and re.fullmatch(r"\d{4}-\d{2}-\d{2}", value, re.ASCII)):
        return value
    raise ValueError("must be a date like 2026-10-01")


def _time_text(value: object) -> object:
    if isinstance(value, datetime) or (isinstance(value, str) and re.match(r"\d{4}-\d{2}-\d{2}[Tt ]", value, re.ASCII)):
        return value
    raise ValueError("must be a time like 2026-10-01T07:00:00Z")


def _in_utc(value: datetime) -> datetime:
    return value.astimezone(UTC)


def _with_offset(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("has no offset; write 2026-10-01T07:00:00Z, or +02:00 in place of Z")
    # Pollers begin with 1970, or earlier. From year 2 on no offset leaves the years that Python knows.
    if not MINYEAR < value.year <= LAST_DAY.year:
        raise ValueError(f"must be between {MINYEAR + 1} and {LAST_DAY.year}")
    return value.astimezone(UTC)


def _of_interval(value: datetime) -> datetime:
    if not FIRST_DAY.year < value.year:
        raise ValueError(f"must be between {FIRST_DAY.year + 1} and {LAST_DAY.year}")
    if value.microsecond:
        raise ValueError("must be a whole second: Stripe's reports count in seconds")
    return value


def _unique(values: list[str]) -> list[str]:
    if len(set(values)) < len(values):
        raise ValueError("lists the same account twice")
    return values


def _parameters(value: dict[str, Any]) -> dict[str, Any]:
    for name, inner in value.items():
        _check_parameter(name, inner)
    for part, depth in _parts(value, 0):
        if depth > DEEPEST_PARAMETERS:
            raise ValueError("is nested too deeply")
        _check_part(part)
    if len(json.dumps(value)) > MOST_PARAMETER_BYTES:
        raise ValueError(f"is larger than {MOST_PARAMETER_BYTES // 1024} KiB")
    return value


def _check_parameter(name: str, value: object) -> None:
    if name in _TEXT_PARAMETERS and not isinstance(value, str):
        raise BadParameter(name, "must be text")
    if name == "columns" and not (isinstance(value, list) and all(isinstance(column, str) for column in value)):
        raise BadParameter(name, "must be a list of names")


def _parts(value: object, depth: int) -> Iterator[tuple[object, int]]:
    """The value and, level by level, everything in it; no deeper than it would be refused anyway."""
    yield value, depth
    if depth > DEEPEST_PARAMETERS:
        return
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    for part in inner:
        yield from _parts(part, depth + 1)


def _check_part(part: object) -> None:
    match part:
        case None:
            raise ValueError("contains a null; leave the parameter out")
        case str() if not is_text(part):
            raise ValueError("contains a character that is not text")
        case float() if not math.isfinite(part):
            raise ValueError("contains a number that is not finite")
        case int() if not -(2**63) <= part < 2**63:
            raise ValueError("contains a number that is too large")


def is_text(value: str) -> bool:
    """Whether PostgreSQL can keep it."""
    try:
        return b"\x00" not in value.encode()
    except UnicodeEncodeError:
        return False


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Slug = Annotated[str, Field(pattern=sentences.SLUG, examples=["default"])]
ReportTypeId = Annotated[str, Field(pattern=sentences.REPORT_TYPE, max_length=100)]
ConnectedAccount = Annotated[str, Field(pattern=sentences.CONNECTED_ACCOUNT, max_length=255)]
ConnectedAccounts = Annotated[list[ConnectedAccount], Field(max_length=LONGEST_LIST), AfterValidator(_unique)]
ZoneName = Annotated[str, Field(pattern=sentences.ZONE, examples=["America/Los_Angeles"])]
Day = Annotated[date, Field(ge=FIRST_DAY, le=LAST_DAY), BeforeValidator(_day_text)]
# Outside of a schema, in paths.
DAY: TypeAdapter[date] = TypeAdapter(Day)
Moment = Annotated[datetime, BeforeValidator(_time_text), AfterValidator(_with_offset)]
WholeSecond = Annotated[Moment, AfterValidator(_of_interval)]
Parameters = Annotated[dict[str, Any], AfterValidator(_parameters)]
# Connections may have a time zone of their own; what goes out is always UTC, and so ends in Z.
Time = Annotated[datetime, AfterValidator(_in_utc)]


class Days(In):
    """Local dates in the rule's time zone: until `to`, which is excluded, or `through`, which is included."""

    first: Day | None = Field(default=None, alias="from")
    until: Day | None = Field(default=None, alias="to", description="Exclusive.")
    through: Day | None = Field(default=None, description="Inclusive; use it instead of `to`.")

    def end(self) -> date | None:
        """The first day after the range. Raises BadInput if both forms are given."""
        if self.through is None:
            return self.until
        if self.until is not None:
            raise BadInput(FieldError("/through", "means the same as `to`: use only one of them"))
        return self.through + timedelta(days=1)
