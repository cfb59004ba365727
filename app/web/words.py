"""Writes values for people: dates, times, sizes, and a glyph and a word for each state."""

import re
from calendar import monthrange
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any, NamedTuple
from urllib.parse import quote
from zoneinfo import ZoneInfo

from markupsafe import Markup, escape

from app.health.results import Check
from app.health.text import calls, span
from app.sentences import count
from app.tables.checks.registry import BY_NAME
from app.vocabulary import ErrorKind

_MANY = 100


class StateWord(NamedTuple):
    """How a state is shown: never by colour alone."""

    glyph: str
    word: str


# States of windows and runs, in the order of the legend.
STATES: Mapping[str, StateWord] = {
    "stored": StateWord("✓", "stored"),
    "in_progress": StateWord("…", "under way"),
    "waiting": StateWord("○", "waiting"),
    "blocked": StateWord("⊘", "blocked"),
    "missing": StateWord("!", "missing"),
    "failed": StateWord("✕", "failed"),
    "cancelled": StateWord("–", "cancelled"),
}
_OTHER_STATES: Mapping[str, StateWord] = {
    "planned": StateWord("…", "planned"),
    "requested": StateWord("…", "being made by Stripe"),
    "ready": StateWord("…", "being downloaded"),
    "handled": StateWord("✓", "handled"),
    "ignored": StateWord("–", "ignored"),
    "pending": StateWord("…", "pending"),
    "delivered": StateWord("✓", "delivered"),
    "skipped": StateWord("–", "skipped"),
    "loaded": StateWord("✓", "loaded"),
    "approved": StateWord("✓", "approved"),
    "due": StateWord("…", "due"),
    "removed": StateWord("–", "removed"),
    "set_aside": StateWord("!", "set aside"),
    "withheld": StateWord("–", "withheld"),
    "agrees": StateWord("✓", "agrees"),
    "differs": StateWord("✕", "differs"),
    "not_comparable": StateWord("○", "not comparable"),
    "ok": StateWord("✓", "healthy"),
    "degraded": StateWord("!", "needs attention"),
    "failing": StateWord("✕", "failing"),
    "enabled": StateWord("✓", "on"),
    "disabled": StateWord("–", "off"),
}


def state(name: str, word: str | None = None) -> Markup:
    """A state as a glyph and a word."""
    shown = STATES.get(name) or _OTHER_STATES.get(name) or StateWord("?", name)
    kind = escape(_kind(name))
    return Markup('<span class="state {}"><span class="glyph" aria-hidden="true">{}</span> {}</span>').format(
        kind, shown.glyph, shown.word if word is None else word
    )


def _kind(name: str) -> str:
    """Which of the six colours it has."""
    same = {
        "in_progress": ("planned", "requested", "ready", "pending", "due"),
        "stored": ("handled", "delivered", "loaded", "agrees", "ok", "enabled", "approved"),
        "cancelled": ("ignored", "skipped", "removed", "disabled", "withheld"),
        "failed": ("differs", "failing"),
        "missing": ("degraded", "set_aside"),
        "waiting": ("not_comparable",),
    }
    return next((kind for kind, names in same.items() if name in names), name)


def day(value: date) -> str:
    """`25 Nov 2026`."""
    return f"{value.day} {value:%b %Y}"


def days(first: date, last: date) -> str:
    """The days of a window, both included: `25 Nov 2026`, `1–7 Oct 2026`, `Oct 2026`, `30 Nov – 6 Dec 2026`."""
    if first == last:
        return day(first)
    if first.day == 1 and last == first.replace(day=monthrange(first.year, first.month)[1]):
        return f"{first:%b %Y}"
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day}–{day(last)}"
    if first.year == last.year:
        return f"{first.day} {first:%b} – {day(last)}"
    return f"{day(first)} – {day(last)}"


def utc(value: datetime | None) -> Markup | str:
    """A time in UTC, also for machines."""
    if value is None:
        return "–"
    moment = value.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(f"{moment:%Y-%m-%dT%H:%M:%SZ}", plain_utc(value))


def exact_utc(value: datetime | None) -> Markup | str:
    """A time in UTC to the second, where things happen one after the other."""
    if value is None:
        return "–"
    moment = f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    return Markup('<time datetime="{}Z">{} UTC</time>').format(moment.replace(" ", "T"), moment)


def plain_utc(value: datetime) -> str:
    """The same inside a sentence."""
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def local(value: datetime | None, zone: str | None) -> Markup | str:
    """A time in the rule's zone, which is named, and in UTC beside it."""
    if value is None or zone is None or zone in ("UTC", "Etc/UTC"):
        return utc(value)
    here = value.astimezone(ZoneInfo(zone))
    return Markup('<span class="nowrap">{}</span> <span class="beside">({})</span>').format(
        f"{here:%Y-%m-%d %H:%M %Z}", utc(value)
    )


def ago(value: datetime | None) -> str:
    """`3 hours ago`, or `in 3 hours`."""
    if value is None:
        return "never"
    passed = datetime.now(UTC) - value
    return f"{span(passed)} ago" if passed.total_seconds() >= 0 else f"in {span(-passed)}"


def coming(value: datetime) -> str:
    """`in 3 hours`, or `now`."""
    left = value - datetime.now(UTC)
    return f"in {span(left)}" if left.total_seconds() > 1 else "now"


def with_code(text: str) -> Markup:
    """A sentence with text in backticks shown as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before


def size(value: int | None) -> str:
    """`53.1 kB`."""
    if value is None:
        return "–"
    amount, units = float(value), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while amount >= 1000 and unit != "TB":
        amount, unit = amount / 1000, next(units)
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= _MANY else f"{amount:.1f} {unit}"


def number(value: int | None) -> str:
    """`12,345`."""
    return "–" if value is None else f"{value:,}"


def zone_name(name: str | None) -> str:
    """`America/Los Angeles`."""
    return "UTC" if name is None else name.replace("_", " ")


def sentence(text: str) -> str:
    """With a capital at its beginning and a full stop at its end."""
    text = text.strip()
    first = text.split(" ", 1)[0].rstrip(",;")
    begun = text[:1].upper() + text[1:] if first.isalpha() else text  # a name of ours or Stripe's stays unchanged
    return begun + ("" if text.endswith((".", "!", "?")) or not text else ".")


def segment(text: object) -> str:
    """One part of a path."""
    return quote(str(text), safe="")


def plainly(reason: str | None) -> str:
    """A move's reason, the kind of its error in words."""
    kind, colon, rest = (reason or "").partition(": ")
    return f"{kind.replace('_', ' ')}{colon}{rest}" if kind in list(ErrorKind) else reason or ""


def check_name(name: str) -> str:
    """What a check of health looks at, in words."""
    return _CHECKS.get(name, name.replace("_", " "))


def compares(name: str) -> str:
    """What a check of numbers compares, in a sentence."""
    known = BY_NAME.get(name)
    return "" if known is None else sentence(known.says)


def advice(check: Check) -> str:
    """What to do about it; on a page, without the API's routes."""
    if check.advice is None or (check.link is not None and ("/v1/" in check.advice or "`" in check.advice)):
        return ""
    return sentence(check.advice)


_CHECKS: Mapping[str, str] = {
    "credentials": "keys at Stripe",
    "deliveries_refused": "webhooks refused",
    "endpoint_selection": "webhooks about new data",
    "failed_events": "events that failed",
    "freshness": "rules on time",
    "loads": "tables",
    "numbers": "numbers that differ",
    "overdue_runs": "stuck runs",
    "polling": "polling Stripe",
}
FILTERS: Mapping[str, Callable[..., Any]] = {
    "state": state,
    "day": day,
    "days": lambda pair: days(*pair),
    "utc": utc,
    "exact_utc": exact_utc,
    "local": local,
    "ago": ago,
    "size": size,
    "number": number,
    "count": count,
    "calls": calls,
    "zone": zone_name,
    "sentence": sentence,
    "plainly": plainly,
    "coming": coming,
    "with_code": with_code,
    "check_name": check_name,
    "compares": compares,
    "advice": advice,
    "segment": segment,
}
