"""Verdicts for display: the newest about each subject, or all; those about a run's file. Only reads."""

import uuid
from dataclasses import asdict, dataclass
from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch, fetch_first
from app.errors import NotFound

_MOST_OF_A_RUN = 200


@dataclass(frozen=True, slots=True)
class ShownCheck:
    """A verdict, and whether a later one on the same subject has replaced it."""

    id: int
    at: datetime
    name: str
    verdict: str
    account: str
    connected_account: str | None
    interval_start: datetime | None
    interval_end: datetime | None
    timezone: str | None
    currency: str
    left: Decimal | None
    right: Decimal | None
    difference: Decimal | None
    reason: str | None
    loads: list[int]
    note: str | None


@dataclass(frozen=True, slots=True)
class CheckFilters:
    """A filter of verdicts: the newest of each subject, or all of them. `until` is exclusive.

    With `run_id`, of those that compare the run's file: the newest of them is shown even where a later one on the same
    subject compares the file of another revision.
    """

    verdict: str | None = None
    name: str | None = None
    rule_id: uuid.UUID | None = None
    account: str | None = None
    first: date | None = None
    until: date | None = None
    history: bool = False
    run_id: uuid.UUID | None = None


async def list_checks(
    session: AsyncSession, filters: CheckFilters, *, before: int | None, limit: int
) -> list[ShownCheck]:
    """Up to `limit` verdicts that match, newest first."""
    statement = _CHECKS if filters.run_id is None else _CHECKS_OF_RUN
    return await fetch(session, ShownCheck, statement, {**asdict(filters), "before": before, "limit": limit})


async def verdicts_of(session: AsyncSession, run_id: uuid.UUID) -> list[ShownCheck]:
    """The newest verdict on each subject that compares the run's file, newest first: the newest 200."""
    return await list_checks(session, CheckFilters(run_id=run_id), before=None, limit=_MOST_OF_A_RUN)


async def get_check(session: AsyncSession, check_id: int) -> ShownCheck:
    """One verdict. Raises NotFound."""
    found = await fetch_first(session, ShownCheck, _CHECK, {"id": check_id})
    if found is None:
        raise NotFound(f"there is no check {check_id}")
    return found


_SHOWN_CHECK = """
select checks.id, checks.at, name, verdict, account, connected_account, interval_start, interval_end, timezone,
    currency, left_value as left, right_value as right, left_value - right_value as difference, reason,
    load_ids as loads, (select note from check_notes where check_id = checks.id order by id desc limit 1) as note
from checks
"""
_MATCHING = (
    _SHOWN_CHECK  # noqa: S608 - written above
    + """
where (cast(:verdict as text) is null or verdict = :verdict) and (cast(:name as text) is null or name = :name)
    and (cast(:rule_id as uuid) is null or cast(:rule_id as uuid) = any(rule_ids))
    and (cast(:account as text) is null or account = :account)
    and (cast(:first as date) is null or window_day >= :first)
    and (cast(:until as date) is null or window_day < :until)
    and (:history or not exists (
        select 1 from checks as later where later.subject = checks.subject and later.id > checks.id {of_run_too}))
    and (cast(:before as bigint) is null or checks.id < :before) {of_run}
order by checks.id desc limit :limit
"""
)
# The index on `load_ids` finds those of a run; a single statement for both cases could not use it.
_OF_RUN = "and {checks}.load_ids @> array[(select id from loads where run_id = :run_id)]"
_CHECKS = text(_MATCHING.format(of_run="", of_run_too=""))
_CHECKS_OF_RUN = text(
    _MATCHING.format(of_run=_OF_RUN.format(checks="checks"), of_run_too=_OF_RUN.format(checks="later"))
)
_CHECK = text(f"{_SHOWN_CHECK} where checks.id = :id")
