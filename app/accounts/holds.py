"""401 and 403 are about the account, not the run: hold the account's calls of that kind, and probe with one of them."""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Held
from app.planning.backoff import full_jitter
from app.queue.claims import Claim, release
from app.queue.wakeups import wake
from app.resources import Resources
from app.vocabulary import CallKind, Lane

_LANES = {
    CallKind.CREATE: (Lane.REQUESTS,),
    CallKind.READ: (Lane.LOOKUPS, Lane.TIMETABLE),
    CallKind.FILES: (Lane.DOWNLOADS, Lane.BIG_DOWNLOADS),
}


@dataclass(frozen=True, slots=True)
class Allowance:
    """How many calls may be made now, and whether the one call is the probe of an account that is held."""

    calls: int
    probing: bool = False


async def allowed(session: AsyncSession, account: str, kind: CallKind, limit: int) -> Allowance:
    """How many of `limit` calls may be made now: all, none while the account is held, one when a probe is due.

    The hold stays locked until the transaction ends: of many processes one takes the probe (`begin`).
    """
    held = (await session.execute(_LOOK, {"account": account, "kind": kind.value})).first()
    if held is None:
        return Allowance(limit)
    return Allowance(min(limit, 1), probing=True) if held.probing else Allowance(0)


async def begin(res: Resources, session: AsyncSession, account: str, kind: CallKind, allowance: Allowance) -> None:
    """The allowed calls are about to be made: if one is the probe, nobody else makes another beside it."""
    if allowance.probing:
        values = {"account": account, "kind": kind.value, "seconds": res.settings.retry_max_seconds}
        await session.execute(_BEGIN_PROBE, values)


async def hold(
    res: Resources, session: AsyncSession, account: str, kind: CallKind, trouble: Held, *, probing: bool
) -> None:
    """The key was refused: hold this kind of call, with back-off until the next probe.

    Of many calls that were under way and are refused too, none makes the wait longer: only a probe does.
    """
    settings = res.settings
    tries = (await session.execute(_TRIES, {"account": account, "kind": kind.value})).scalar_one_or_none() or 0
    seconds = full_jitter(
        tries, base=settings.retry_base_seconds, maximum=settings.retry_max_seconds, random=res.random
    )
    reason = f"{trouble.status}: {trouble.message}"
    values = {"account": account, "kind": kind.value, "reason": reason, "seconds": seconds, "probing": probing}
    await session.execute(_HOLD, values)


async def hold_run(res: Resources, session: AsyncSession, claim: Claim, kind: CallKind, trouble: Held) -> None:
    """The same for a call about a run: it is given back untouched, its idempotency key with it."""
    await release(session, claim)
    await hold(res, session, claim.account, kind, trouble, probing=claim.probing)


async def accepted(session: AsyncSession, claim: Claim, kind: CallKind) -> None:
    """The key works: if the call was a probe, whatever was held goes on at once."""
    if claim.probing:
        await end(session, claim.account, kind)


async def end(session: AsyncSession, account: str, kind: CallKind) -> None:
    """End the hold, if there is one, and wake whoever waited."""
    if (await session.execute(_END, {"account": account, "kind": kind.value})).first() is not None:
        await wake(session, *_LANES[kind])


async def probe_all_now(session: AsyncSession) -> None:
    """A restart probes at once: somebody may just have put the right key in place."""
    await session.execute(_PROBE_ALL)


_LOOK = text("""
select next_probe_at <= clock_timestamp() as probing from account_holds
where account = :account and call_kind = :kind for update
""")
_BEGIN_PROBE = text("""
update account_holds set next_probe_at = clock_timestamp() + :seconds * interval '1 s'
where account = :account and call_kind = :kind
""")
# A hold without a next probe is ended by the right key only (see identity).
_PROBE_ALL = text("update account_holds set next_probe_at = now(), tries = 0 where next_probe_at < 'infinity'")
_TRIES = text("select tries from account_holds where account = :account and call_kind = :kind")
_HOLD = text("""
insert into account_holds (account, call_kind, reason, next_probe_at)
values (:account, :kind, :reason, clock_timestamp() + :seconds * interval '1 s')
on conflict (account, call_kind) do update set reason = excluded.reason,
    tries = account_holds.tries + cast(:probing as boolean)::int,
    next_probe_at = case when :probing then excluded.next_probe_at else account_holds.next_probe_at end
where account_holds.next_probe_at < 'infinity'
""")
_END = text("""
delete from account_holds where account = :account and call_kind = :kind and next_probe_at < 'infinity' returning 1
""")
