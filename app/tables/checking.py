"""Runs the checks that a load takes part in, and adds what is new about them: verdicts are never changed."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch
from app.resources import Resources
from app.tables import telling
from app.tables.checks import inputs
from app.tables.checks.registry import CHECKS, Check
from app.tables.checks.results import Finding, Verdict

log = structlog.get_logger()

LOADS_AT_ONCE = 200
TOGETHER = 20


@dataclass(frozen=True, slots=True)
class WaitingLoad:
    """A load whose numbers were not compared yet."""

    id: int
    account: str


async def check_due(res: Resources) -> int:
    """Check what was loaded since the last time, several loads in one transaction; returns how many there were."""
    done = 0
    async with res.sessions() as session:
        accounts = (await session.execute(_ACCOUNTS)).scalars().all()
    for account in accounts:
        while done < LOADS_AT_ONCE and (checked := await _check_some(res, account)):
            done += checked
    return done


async def _check_some(res: Resources, account: str) -> int:
    """Check a few loads of the account, oldest first; 0 if there are none, or another process does it."""
    async with res.sessions.begin() as session:
        # Two processes that see the same pair at once would both report it. Nobody waits: the one that has the lock
        # looks again when it is done, and finds what came meanwhile.
        if not (await session.execute(_LOCK, {"account": account})).scalar_one():
            return 0
        loads = await fetch(session, WaitingLoad, _NEXT, {"account": account, "limit": TOGETHER})
        if not loads:
            return 0
        await session.execute(_DONE, {"ids": [load.id for load in loads]})
        led = await inputs.led_families(session, account)
        for load in loads:
            findings = await check(session, load.id, led)
            await telling.tell_differences(session, findings)
            await telling.tell_changed_columns(session, load.id)
            _log(load, findings)
    return len(loads)


def _log(load: WaitingLoad, findings: list[tuple[str, Finding]]) -> None:
    for name, finding in findings:
        if finding.verdict is Verdict.DIFFERS:
            log.warning("check.differs", check=name, account=load.account, currency=finding.currency)


async def check(session: AsyncSession, load_id: int, led: frozenset[str]) -> list[tuple[str, Finding]]:
    """All checks of one load, given the families that are shown for its account; returns the verdicts that are new."""
    load = await inputs.load_by_id(session, load_id)
    if load is None:
        return []
    new: list[tuple[str, Finding]] = []
    for one in CHECKS:
        if one.concerns(load.family) and one.has_inputs(led) and (load.leads or not one.leading_only):
            for finding in await one.find(session, load):
                if await _add(session, one, finding):
                    new.append((one.name, finding))
    return new


async def _add(session: AsyncSession, check: Check, finding: Finding) -> bool:
    """Add a verdict unless the newest one on the same subject is equal; returns whether it was added."""
    window = finding.window_of
    values: dict[str, Any] = {
        "subject": _subject(check, finding),
        "name": check.name,
        "verdict": finding.verdict.value,
        "account": window.account,
        "connected_account": window.connected_account,
        "interval_start": window.interval_start,
        "interval_end": window.interval_end,
        "timezone": window.timezone,
        "window_key": window.window_key,
        "currency": finding.currency,
        "left": finding.left,
        "right": finding.right,
        "reason": finding.reason,
        "loads": [load.id for load in finding.loads],
        "rules": sorted({load.rule_id for load in finding.loads if load.rule_id is not None}),
    }
    return (await session.execute(_ADD, values)).first() is not None


def _subject(check: Check, finding: Finding) -> str:
    """What a verdict is about; a later one with the same subject replaces it."""
    window = finding.window_of
    about = [check.name, window.account, window.scope, window.family, window.timezone, _text(window.interval_start),
             _text(window.interval_end), finding.currency]  # fmt: skip
    return "|".join(part or "" for part in about)


def _text(at: datetime | None) -> str:
    return "" if at is None else at.isoformat()


def difference(left: Decimal | None, right: Decimal | None) -> Decimal | None:
    """Left minus right, where both are known."""
    return None if left is None or right is None else left - right


_NEXT = text("""
select id, account from loads where checks_due and account = :account order by id limit :limit for no key update
""")
_ACCOUNTS = text("select distinct account from loads where checks_due order by account")
_LOCK = text("select pg_try_advisory_xact_lock(hashtextextended(:account, 3))")
_DONE = text("update loads set checks_due = false where id = any(:ids)")
_ADD = text("""
with newest as (
    select * from checks where subject = :subject order by id desc limit 1
)
insert into checks (subject, name, verdict, account, connected_account, interval_start, interval_end, timezone,
    window_day, currency, left_value, right_value, reason, load_ids, rule_ids)
select :subject, :name, :verdict, :account, :connected_account, :interval_start, :interval_end, :timezone,
    window_day(:window_key, :interval_start, :interval_end, :timezone), :currency, :left, :right, :reason,
    cast(:loads as bigint[]), cast(:rules as uuid[])
where not exists (
    select 1 from newest where verdict = :verdict and left_value is not distinct from :left
        and right_value is not distinct from :right and reason is not distinct from :reason
        and load_ids = cast(:loads as bigint[])
)
returning id
""")
