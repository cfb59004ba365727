"""A database restored from a backup is behind Stripe: what it missed is looked up before any run is created.

A live worker moves a watermark forward: this database knows every Stripe run up to it. A watermark that is behind (a
backup, a long stop) means that there may be others: they are listed once and stored, and a run that requests the same
report adopts one of them instead of creating a new one (docs/decisions/0007).
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql import bindparam

from app.accounts import unreadable
from app.db.rows import fetch_one
from app.errors import KeyRefused, NotNow, Refused, WatermarkBehind
from app.resources import Resources
from app.settings import Settings
from app.stripe_api.objects import StripeRun
from app.vocabulary import CallKind

log = structlog.get_logger()

# An older watermark means that no worker was running: workers move it at least four times within the stall limit.
GAP_SECONDS = 60.0
# A share of the gap: a watermark moved this recently is left alone. It is in the row that claims lock, and one of many
# workers keeps it up to date. A heartbeat skips an account that is being claimed from: the claim moves its watermark.
FRESH_SHARE = 1 / 8
# After a fail-over, creates sent before it may still be under way: Stripe's list is read once all have ended.
CREATES_END_SECONDS = 45.0
# How far Stripe's clock may be from ours.
CLOCK_SLACK_SECONDS = 300


def gap_seconds(settings: Settings) -> float:
    """How many seconds the watermark of an account may be behind."""
    return max(GAP_SECONDS, settings.stalled_after_seconds)


def fresh_seconds(settings: Settings) -> float:
    """How many seconds old a watermark may be before it is moved."""
    return gap_seconds(settings) * FRESH_SHARE


async def move_mark(session: AsyncSession, account: str) -> None:
    """Move the watermark of an account that is locked, and not behind, to now."""
    await session.execute(_MOVE_ONE, {"account": account})


async def move_marks(session: AsyncSession, *, settings: Settings) -> None:
    """Move the watermarks of all accounts to now, except those that are behind, locked, or were moved a moment ago."""
    await session.execute(_MOVE, {"gap": gap_seconds(settings), "fresh": fresh_seconds(settings)})


async def catch_up(res: Resources, account: str, behind: WatermarkBehind) -> bool:
    """Store every Stripe run since the watermark that is unknown here; False when Stripe cannot be asked now."""
    if behind.other_timeline and not await _creates_have_ended(res, account):
        return False
    skipped: list[str] = []
    try:
        found = [run async for run in list_runs(res, account, behind.known_until, skipped)]
    except NotNow as error:
        log.warning("account.behind", account=account, known_until=str(behind.known_until), error=str(error))
        return False
    except (KeyRefused, Refused) as error:
        if isinstance(error, KeyRefused) and error.status == 401:
            return False  # such a key cannot create anything either
        log.warning("account.cannot_be_listed", account=account, error=str(error))
        found = []
    async with res.sessions.begin() as session:
        await unreadable.note(session, account, "report_run", skipped)
        if found:
            await session.execute(_KEEP, [_as_row(account, run) for run in found])
        await session.execute(_CAUGHT_UP, {"account": account})
    log.info("account.caught_up", account=account, since=str(behind.known_until), stripe_runs=len(found))
    return True


async def _creates_have_ended(res: Resources, account: str) -> bool:
    async with res.sessions.begin() as session:
        seen = await fetch_one(session, _Seen, _SEEN, {"account": account, "seconds": CREATES_END_SECONDS})
    if seen.first:
        log.warning("account.other_timeline", account=account, timeline=seen.timeline, seconds=CREATES_END_SECONDS)
    return seen.ended


@dataclass(frozen=True, slots=True)
class _Seen:
    """A fail-over was seen: whether just now, and whether the creates under way then have ended."""

    first: bool
    ended: bool
    timeline: int | None


async def prune(session: AsyncSession, *, days: int, limit: int) -> int:
    """Forget up to `limit` Stripe runs that were made more than `days` ago and never adopted; returns how many."""
    return len((await session.execute(_PRUNE, {"days": days, "limit": limit})).all())


async def list_runs(res: Resources, account: str, since: datetime, skipped: list[str]) -> AsyncIterator[StripeRun]:
    """Stripe's runs since then, newest first, within the rate limit for reads, also while reads are held.

    What is wrong with those that cannot be read is added to `skipped`. Raises what the Stripe client raises.
    """
    async with res.sessions.begin() as session:
        if not await res.limiter.take(session, account, CallKind.READ, wanted=1):
            raise NotNow("the rate limit for reads is used up")
    async for run in res.stripe.list_runs(account, created_since=since, slack=CLOCK_SLACK_SECONDS, skipped=skipped):
        yield run


def _as_row(account: str, run: StripeRun) -> dict[str, object]:
    return {
        "account": account,
        "id": run.id,
        "report_type": run.report_type,
        "parameters": run.parameters,
        "created_at": run.created_at,
    }


# An account that is being claimed from is left to the claim, so that no heartbeat waits.
_MOVE = text("""
update accounts set known_until = now(), timeline = server_timeline() where slug in (
    select slug from accounts where known_until is null
        or known_until > clock_timestamp() - make_interval(secs => :gap)
            and known_until < clock_timestamp() - make_interval(secs => :fresh)
            and coalesce(timeline = server_timeline(), true)
    for no key update skip locked)
""")
_MOVE_ONE = text("update accounts set known_until = now(), timeline = server_timeline() where slug = :account")
_KEEP = text("""
insert into unclaimed_runs (account, stripe_run_id, report_type, parameters, created_at)
select :account, cast(:id as text), :report_type, :parameters, :created_at
where not exists (select from attempts where account = :account and stripe_run_id = cast(:id as text))
on conflict do nothing
""").bindparams(bindparam("parameters", type_=JSONB))
_PRUNE = text("""
delete from unclaimed_runs where (account, stripe_run_id) in (
    select account, stripe_run_id from unclaimed_runs
    where created_at < clock_timestamp() - make_interval(days => :days)
    order by account, stripe_run_id limit :limit)
returning 1
""")
_SEEN = text("""
update accounts set other_timeline_at = coalesce(accounts.other_timeline_at, clock_timestamp())
from (select slug, other_timeline_at from accounts where slug = :account for no key update) as before
where accounts.slug = before.slug
returning before.other_timeline_at is null as first, server_timeline() as timeline,
    accounts.other_timeline_at <= clock_timestamp() - make_interval(secs => :seconds) as ended
""")
_CAUGHT_UP = text("""
update accounts set known_until = now(), timeline = server_timeline(), other_timeline_at = null where slug = :account
""")
