"""A refused key concerns the account, not the run: its calls of that kind are held, and one of them is the probe."""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.batch import Batch, fetch_by_driver
from app.errors import KeyRefused
from app.planning.backoff import Backoff
from app.queue.wakeups import CHANNEL
from app.resources import ClaimTerms
from app.vocabulary import RUN_STEPS, CallKind, Lane

# What waits for a call of this kind: the lanes, and the state of the runs.
_LANES = {step.call: step.lanes for step in RUN_STEPS}
_LANES[CallKind.READ] += (Lane.ACCOUNTS,)
_STATE = {step.call: step.state for step in RUN_STEPS}


@dataclass(frozen=True, slots=True)
class _Hold:
    probing: bool  # its probe is due


@dataclass(frozen=True, slots=True)
class Permit:
    """How many calls may be made now, and whether it is the single probe of an account on hold."""

    calls: int
    probing: bool = False


async def permit(
    session: AsyncSession,
    account: str,
    kind: CallKind,
    wanted: int,
    terms: ClaimTerms,
    *,
    queue: bool = False,
    may_be_held: bool = True,
) -> Permit:
    """Take up to `wanted` calls from the rate limit; returns how many may be made now.

    None while the account is held; one when its probe is due, and then no other probe for the longest back-off.
    Otherwise as many as the rate limit allows. The hold and the limit stay locked until the transaction ends, so that
    only one process takes the probe. Commit soon. Raises AccountBusy if another process has the limit, unless we
    `queue` for it.
    A caller that has just seen that the account is not held says so, which saves a round trip.
    """
    about = {"account": account, "kind": kind.value}
    held = await fetch_by_driver(session, _Hold, _LOOK, about) if wanted and may_be_held else []
    allowed = min(wanted, int(held[0].probing)) if held else wanted
    calls = await terms.limiter.take(session, account, kind, wanted=allowed, queue=queue)
    if not held or not calls:
        return Permit(calls)
    await session.execute(_BEGIN_PROBE, {**about, "seconds": terms.settings.retry_max_seconds})
    return Permit(calls, probing=True)


async def hold(
    session: AsyncSession, account: str, kind: CallKind, error: KeyRefused, *, probing: bool, backoff: Backoff
) -> None:
    """The key was refused: hold this kind of call, with back-off until the next probe.

    Other calls that were under way and are refused as well do not extend the wait: only a probe does.
    """
    about = {"account": account, "kind": kind.value}
    tries = (await session.execute(_TRIES, about)).scalar_one_or_none() or 0
    reason = f"{error.status}: {error.message}"
    await session.execute(_HOLD, {**about, "reason": reason, "seconds": backoff.seconds(tries), "probing": probing})


async def accepted(session: AsyncSession, account: str, kind: CallKind) -> None:
    """A call of this kind succeeded: end the hold, if there is one, and wake the lanes that waited.

    Runs that still wait after a refusal were refused individually: it is counted on each of them.
    """
    batch = Batch(session)
    add_accepted(batch, account, kind)
    await batch.send()


def add_accepted(batch: Batch, account: str, kind: CallKind) -> None:
    """Have the batch record that a call of this kind succeeded: see `accepted`."""
    lanes = {"channel": CHANNEL, "lanes": " ".join(_LANES[kind])}
    batch.add(_ACCEPTED, {"account": account, "kind": kind.value, "state": _STATE[kind].value, **lanes})


async def is_held(session: AsyncSession, account: str, kind: CallKind) -> bool:
    """Whether the account's calls of this kind are held."""
    return (await session.execute(_LOOK, {"account": account, "kind": kind.value})).first() is not None


async def probe_all_now(session: AsyncSession) -> None:
    """Probe at once after a restart: the key may just have been replaced."""
    await session.execute(_PROBE_ALL)


# Whether calls of `:held_kind` are held for `:account`, without a lock: a part of statements that claim.
IS_HELD = "exists (select from account_holds where account = :account and call_kind = :held_kind)"
_LOOK = text("""
select next_probe_at <= clock_timestamp() as probing from account_holds
where account = :account and call_kind = :kind for update
""")
_BEGIN_PROBE = text("""
update account_holds set next_probe_at = clock_timestamp() + make_interval(secs => :seconds)
where account = :account and call_kind = :kind
""")
# Only the right key ends a hold without a next probe (see identity).
_PROBE_ALL = text("""
update account_holds set next_probe_at = clock_timestamp(), tries = 0 where next_probe_at < 'infinity'
""")
_TRIES = text("select tries from account_holds where account = :account and call_kind = :kind")
_HOLD = text("""
insert into account_holds (account, call_kind, reason, next_probe_at)
values (:account, :kind, :reason, clock_timestamp() + make_interval(secs => :seconds))
on conflict (account, call_kind) do update set reason = excluded.reason,
    tries = account_holds.tries + cast(cast(:probing as boolean) as int),
    next_probe_at = case when :probing then excluded.next_probe_at else account_holds.next_probe_at end
where account_holds.next_probe_at < 'infinity'
""")
# A run that is being worked on right now is left to the next successful call, to avoid a deadlock.
_ACCEPTED = text("""
with ended as (
    delete from account_holds where account = :account and call_kind = :kind and next_probe_at < 'infinity'
    returning 1
), alone as (
    select id from runs where account = :account and state = :state and refused_at is not null for update skip locked
), counted as (
    update runs set refusals = refusals + 1, refused_at = null from alone where runs.id = alone.id
)
select pg_notify(:channel, :lanes) from ended
""")
