"""Counts in sentences, and what pydantic finds wrong with requests, rules files and settings, with what to do."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic_core import ErrorDetails

from app.errors import BadParameter

REPORT_TYPE = r"^[a-z0-9_]+(\.[a-z0-9_]+)+$"
SLUG = r"^[a-z0-9][a-z0-9_-]{0,62}$"
CONNECTED_ACCOUNT = r"^acct_[A-Za-z0-9]+$"
ZONE = r"^[A-Za-z0-9_+/-]{1,64}$"
MONTH = r"^(19[7-9][0-9]|[2-8][0-9]{3})-(0[1-9]|1[0-2])$"

# Texts with a set form, and how to write them.
_FORMS: Mapping[str, str] = {
    REPORT_TYPE: "must be a report type as Stripe writes it, like balance.summary.1: see GET /v1/report-guide",
    SLUG: "must be the short name of an account, like default: lower-case letters, digits, `_` and `-`",
    CONNECTED_ACCOUNT: "must be the id of a connected account, like acct_1032D82eZvKYlo2C",
    ZONE: "must be an IANA time zone, like America/New_York",
    MONTH: "must be a month, like 2026-10",
    r"^[^\x00]*$": "must not contain a NUL character",
    r"\S": "must not be blank",
}
_ID = "01a1fe99-9c76-7009-9691-f1e842565f45"

_Limits = Mapping[str, Any]
_SENTENCES: Mapping[str, Callable[[_Limits], str]] = {
    "missing": lambda _: "is missing",
    "extra_forbidden": lambda _: "is unknown; check the spelling",
    "json_invalid": lambda limits: f"is not valid JSON: {limits['error']}",
    "string_type": lambda _: "must be text",
    "string_unicode": lambda _: "must be text",
    "string_too_short": lambda limits: _least(limits["min_length"], "character"),
    "string_too_long": lambda limits: f"must have at most {limits['max_length']} characters",
    "string_pattern_mismatch": lambda limits: _FORMS.get(limits["pattern"], f"must match {limits['pattern']}"),
    "too_short": lambda limits: _least(limits["min_length"], "entry"),
    "too_long": lambda limits: f"must have at most {limits['max_length']} entries",
    "list_type": lambda _: "must be a list: […]",
    "dict_type": lambda _: "must be a JSON object: {…}",
    "model_type": lambda _: "must be a JSON object: {…}",
    "model_attributes_type": lambda _: "must be a JSON object: {…}",
    "bool_type": lambda _: "must be true or false, without quotes",
    "bool_parsing": lambda _: "must be true or false",
    "int_type": lambda _: "must be a whole number, without quotes",
    "int_parsing": lambda _: "must be a whole number, in digits",
    "int_parsing_size": lambda _: "must be a smaller number",
    "int_from_float": lambda _: "must be a whole number",
    "float_type": lambda _: "must be a number, without quotes",
    "float_parsing": lambda _: "must be a number, without a unit",
    "finite_number": lambda _: "must be a finite number",
    "greater_than_equal": lambda limits: f"must be {_shown(limits['ge'])} or {_later(limits['ge'], 'more')}",
    "greater_than": lambda limits: f"must be more than {_shown(limits['gt'])}",
    "less_than_equal": lambda limits: f"must be {_shown(limits['le'])} or {_later(limits['le'], 'less')}",
    "less_than": lambda limits: f"must be less than {_shown(limits['lt'])}",
    "date_parsing": lambda _: "must be a date like 2026-10-01",
    "date_type": lambda _: "must be a date like 2026-10-01",
    "date_from_datetime_parsing": lambda _: "is not a calendar date; write it like 2026-10-01",
    "datetime_parsing": lambda _: "must be a time like 2026-10-01T07:00:00Z",
    "datetime_from_date_parsing": lambda _: "must be a time like 2026-10-01T07:00:00Z",
    "uuid_parsing": lambda _: f"must be an id like {_ID}",
    "enum": lambda limits: f"must be {limits['expected']}",
    "literal_error": lambda limits: f"must be {limits['expected']}",
    "value_error": lambda limits: str(limits["error"]),
}


def count(number: int, one: str, several: str | None = None, *, most: int | None = None) -> str:
    """`1 run`, `2 runs`, or with both forms: `1 rule is on time`, `2 rules are on time`.

    Where counting stopped at `most`: `more than 1,000 runs`.
    """
    shown = f"more than {most:,}" if most is not None and number > most else f"{number:,}"
    return f"{shown} {one if number == 1 else several or one + 's'}"


def sentence(detail: ErrorDetails) -> str:
    """What is wrong and how to write it; never repeats the value."""
    known = _SENTENCES.get(detail["type"])
    return detail["msg"] if known is None else known(detail.get("ctx", {}))


def place(detail: ErrorDetails) -> Sequence[int | str]:
    """Where it is; for a value that was checked as a whole, the part that is wrong."""
    error = detail.get("ctx", {}).get("error")
    return (*detail["loc"], error.name) if isinstance(error, BadParameter) else detail["loc"]


def unknown(name: str, known: Collection[str]) -> str:
    """About a field or parameter that does not exist: the one that was probably meant, or else all of them."""
    near = get_close_matches(_plain(name), {_plain(one): one for one in known}, n=1, cutoff=0.6)
    if near:
        return f"is unknown: did you mean `{next(one for one in known if _plain(one) == near[0])}`?"
    return (
        f"is unknown: use one of {', '.join(f'`{one}`' for one in sorted(known))}" if known else "is unknown: remove it"
    )


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _least(number: int, what: str) -> str:
    if number == 1:
        return "must not be empty" + (": leave it out to mean all" if what == "entry" else "")
    return f"must have at least {count(number, what, 'entries' if what == 'entry' else None)}"


def _shown(limit: object) -> str:
    return f"{limit:g}" if isinstance(limit, float) and abs(limit) < 1_000_000 else str(limit)


def _later(limit: object, word: str) -> str:
    """Dates are later or earlier than a limit, numbers more or less."""
    return word if isinstance(limit, int | float) else {"more": "later", "less": "earlier"}[word]
