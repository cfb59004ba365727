"""Which days of a month a rule's windows do not cover, and which they share with a neighbour month's pack. Pure."""

from collections.abc import Iterator
from datetime import date, timedelta

from app.planning.windows import next_unit, unit_start
from app.vocabulary import Cadence
from app.web.calendar import first_day
from app.web.days import RuleLine
from app.web.words import days

_ONE_DAY = timedelta(days=1)


def not_covered(rule: RuleLine, made: tuple[date, date] | None, month: tuple[date, date], today: date) -> Iterator[str]:
    """Sentences about the days of the month [first, until) for which the rule never requests anything.

    `made`: the first and last day of the windows that have runs.
    """
    first, until = month
    begins = first_day(rule)
    if made is not None:
        begins = min(begins, made[0])
    if first < begins:
        starts_late = rule.starts_on >= begins or rule.data_available_start is None
        yield _said(first, min(begins, until) - _ONE_DAY, f"before {'this rule starts' if starts_late else _NO_DATA}")
    if not rule.enabled and made is not None and made[1] + _ONE_DAY < min(until, today):
        yield _said(
            made[1] + _ONE_DAY, min(until, today) - _ONE_DAY, "not requested, because this rule is switched off"
        )


def shared(rule: RuleLine, month: tuple[date, date]) -> Iterator[str]:
    """Sentences about windows that reach over an end of the month [first, until)."""
    cadence, (first, until) = Cadence(rule.cadence), month
    if cadence in (Cadence.EVERY_UPDATE, Cadence.EVERY_PAYOUT, Cadence.DAILY):
        return
    begins = first_day(rule)
    into = unit_start(first, cadence)
    if begins <= into < first and next_unit(into, cadence) <= until:
        yield _said(into, first - _ONE_DAY, "in this pack too")
    out_of = unit_start(until - _ONE_DAY, cadence)
    ends = next_unit(out_of, cadence) - _ONE_DAY
    if begins <= out_of and ends >= until and rule.enabled:
        yield _said(max(out_of, first), until - _ONE_DAY, f"in the pack of {ends:%B %Y}")


_NO_DATA = "Stripe’s data begins"


def _said(first: date, last: date, where: str) -> str:
    return f"{days(first, last)} {'is' if first == last else 'are'} {where}"
