"""Runs the checks that a load takes part in, and adds new verdicts: existing ones are never changed."""

import asyncio
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeAlias

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.resources import Resources
from app.tables import announcing
from app.tables.checks import inputs
from app.tables.checks.registry import CHECKS
from app.tables.checks.results import Finding, NewVerdict, Verdict

log = structlog.get_logger()

LOADS_AT_ONCE = 200
TOGETHER = 20

# A finding, and the name of its check.
Named: TypeAlias = tuple[str, Finding]


async def check_due(res: Resources) -> int:
    """Check what was loaded since the last time, several loads in one transaction; returns how many there were."""
    done = 0
    async with res.sessions.begin() as session:
        accounts = (await session.execute(_ACCOUNTS)).scalars().all()
    for account in accounts:
        while done < LOADS_AT_ONCE and (checked := await _check_some(res, account)):
            done += checked
    return done


async def _check_some(res: Resources, account: str) -> int:
    """Check a few loads of the account, oldest first; 0 if there are none, or another process does it."""
    async with res.sessions.begin() as session:
        # Two processes that see the same pair at once would both report it. Neither waits: the one that has the lock
        # looks again when it is done, and finds what came meanwhile.
        if not (await session.execute(_LOCK, {"account": account})).scalar_one():
            return 0
        values = {"account": account, "limit": TOGETHER, "among": LOADS_AT_ONCE}
        load_ids = (await session.execute(_NEXT, values)).scalars().all()
        if not load_ids:
            return 0
        await session.execute(_DONE, {"ids": load_ids})
        new = await _add(session, await find(session, await inputs.gather(session, account, load_ids)))
        await announcing.announce_differences(session, new)
        await announcing.announce_changed_columns(session, load_ids)
        _log(new)
    return len(load_ids)


def _log(new: Sequence[NewVerdict]) -> None:
    for one in new:
        if one.finding.verdict is Verdict.DIFFERS:
            account, currency = one.finding.window_of.account, one.finding.currency
            log.warning("check.differs", check=one.check, account=account, currency=currency)


async def find(session: AsyncSession, read: inputs.Inputs) -> list[Named]:
    """The verdicts of all checks that these loads take part in."""
    found: list[Named] = []
    for load in read.loads.values():
        # Many small computations: the event loop gets a turn between two loads.
        await asyncio.sleep(0)
        for one in CHECKS:
            if one.concerns(load.family) and one.has_inputs(read.led) and (load.leads or not one.leading_only):
                found += [(one.name, finding) for finding in await one.find(session, read, load)]
    return found


async def _add(session: AsyncSession, found: Sequence[Named]) -> list[NewVerdict]:
    """Add each verdict unless the newest one on the same subject is equal; returns those added."""
    verdicts = [NewVerdict(name, _subject(name, finding), finding) for name, finding in found]
    by_subject = {one.subject: one for one in verdicts}
    if not by_subject:
        return []
    rows = [_row(one) for one in by_subject.values()]
    added = set((await session.execute(_ADD, {"rows": json.dumps(rows)})).scalars())
    return [one for one in by_subject.values() if one.subject in added]


def _row(new: NewVerdict) -> dict[str, Any]:
    """A verdict as a row in JSON; amounts are texts, so that they stay exact."""
    finding, window = new.finding, new.finding.window_of
    return {
        "subject": new.subject,
        "name": new.check,
        "verdict": finding.verdict.value,
        "account": window.account,
        "connected_account": window.connected_account,
        "interval_start": _text(window.interval_start) or None,
        "interval_end": _text(window.interval_end) or None,
        "timezone": window.timezone,
        "window_key": window.window_key,
        "currency": finding.currency,
        "left_value": None if finding.left is None else str(finding.left),
        "right_value": None if finding.right is None else str(finding.right),
        "reason": finding.reason,
        "load_ids": [load.id for load in finding.loads],
        "rule_ids": sorted({str(load.rule_id) for load in finding.loads if load.rule_id is not None}),
    }


def _subject(check: str, finding: Finding) -> str:
    """What a verdict is about; a later one with the same subject replaces it."""
    window = finding.window_of
    about = [check, window.account, window.scope, window.family, window.timezone, _text(window.interval_start),
             _text(window.interval_end), finding.currency]  # fmt: skip
    return "|".join(part or "" for part in about)


def _text(at: datetime | None) -> str:
    return "" if at is None else at.isoformat()


# The oldest few, those of the same days together: they read each other's sums, which are then fetched once.
_NEXT = text("""
select id from loads
where id = any(array(select id from loads where checks_due and account = :account order by id limit :among))
order by interval_end, id limit :limit for no key update
""")
_ACCOUNTS = text("select distinct account from loads where checks_due order by account")
_LOCK = text("select pg_try_advisory_xact_lock(hashtextextended(:account, 3))")
_DONE = text("update loads set checks_due = false where id = any(:ids)")
_ADD = text("""
insert into checks (subject, name, verdict, account, connected_account, interval_start, interval_end, timezone,
    window_day, currency, left_value, right_value, reason, load_ids, rule_ids)
select subject, name, verdict, account, connected_account, interval_start, interval_end, timezone,
    window_day(window_key, interval_start, interval_end, timezone), currency, left_value, right_value, reason,
    load_ids, rule_ids
from rows from (jsonb_to_recordset(cast(:rows as jsonb)) as (subject text, name text, verdict text, account text,
    connected_account text, interval_start timestamptz, interval_end timestamptz, timezone text, window_key text,
    currency text, left_value numeric, right_value numeric, reason text, load_ids bigint[], rule_ids uuid[]))
    with ordinality as given(subject, name, verdict, account, connected_account, interval_start, interval_end,
        timezone, window_key, currency, left_value, right_value, reason, load_ids, rule_ids, place)
where not exists (
    select from (select * from checks where checks.subject = given.subject order by id desc limit 1) as newest
    where newest.verdict = given.verdict and newest.left_value is not distinct from given.left_value
        and newest.right_value is not distinct from given.right_value
        and newest.reason is not distinct from given.reason and newest.load_ids = given.load_ids
)
order by place returning subject
""")
