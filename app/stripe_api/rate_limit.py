"""The rate limit for calls to Stripe, shared by all processes: one row per account and kind of call (GCRA).

GCRA stores one time, the "theoretical arrival" of the next call; the burst is how far it may be ahead of now.
"""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import AccountBusy
from app.vocabulary import CallKind

# Stripe allows 25 calls a second to each endpoint, and 20 file reads (stripe.md 4.6): files get 15 of our 20.
FILES_SHARE = 0.75
# Rate and burst together stay within Stripe's 25 per second: 20 + 5.
BURST_SHARE = 0.25

# No call sets the arrival further ahead than its allowance and one step: anything further was written when the
# database's clock was wrong.
_TAKE = """
with state as (
    select least(greatest(arrival, clock_timestamp()), clock_timestamp() + make_interval(secs => :ahead + :step))
        as arrival from rate_limits
    where account = :account and call_kind = :kind for update {skip}
), granted as (
    select state.arrival, cast(greatest(0, least(:wanted, 1 + floor(
        (:ahead - extract(epoch from state.arrival - clock_timestamp())) / :step))) as int) as calls
    from state
)
update rate_limits set arrival = granted.arrival + make_interval(secs => granted.calls * :step)
from granted where account = :account and call_kind = :kind
returning granted.calls
"""
_TAKE_IN_TURN, _TAKE_IF_FREE = (text(_TAKE.format(skip=skip)) for skip in ("", "skip locked"))
# Looks first, because an insert waits for the transaction that has the row.
_BEGIN = text("""
insert into rate_limits (account, call_kind, arrival) select :account, :kind, clock_timestamp()
where not exists (select from rate_limits where account = :account and call_kind = :kind)
on conflict do nothing returning true
""")
# Takes `:account`, `:kind`, `:ahead` and `:step`. No lock: it may be wrong by the time the call is taken.
USED_UP = """
select from rate_limits where account = :account and call_kind = :kind
    and arrival > clock_timestamp() + make_interval(secs => :ahead)
    and arrival <= clock_timestamp() + make_interval(secs => :ahead + :step)
"""


@dataclass(frozen=True, slots=True)
class Limiter:
    """The one interface to the client-side rate limit; `per_second` 0 means no limit."""

    per_second: float

    async def take(
        self, session: AsyncSession, account: str, kind: CallKind, *, wanted: int, queue: bool = True
    ) -> int:
        """Take up to `wanted` calls from the rate limit; returns how many may be made now.

        The row stays locked until the caller's transaction ends, so commit soon. If another process has it locked,
        this one waits or, unless it wants to `queue`, raises AccountBusy.
        """
        if self.per_second <= 0 or wanted <= 0:
            return wanted
        row = {"account": account, "kind": kind.value}
        values = {**row, "wanted": wanted, "step": 1 / self._rate(kind), "ahead": self.ahead(kind)}
        take = _TAKE_IN_TURN if queue else _TAKE_IF_FREE
        granted = (await session.execute(take, values)).scalar_one_or_none()
        if granted is None:
            begun = (await session.execute(_BEGIN, row)).first() is not None
            if not (begun or queue):
                raise AccountBusy
            granted = (await session.execute(take, values)).scalar_one()
        return int(granted)

    def used_up(self, kind: CallKind) -> dict[str, object]:
        """The values of `USED_UP`."""
        if self.per_second <= 0:
            return {"kind": None, "ahead": 0.0, "step": 0.0}
        return {"kind": kind.value, "ahead": self.ahead(kind), "step": self.step(kind)}

    def step(self, kind: CallKind) -> float:
        """Seconds between two calls."""
        return 1 / self._rate(kind)

    def _rate(self, kind: CallKind) -> float:
        return self.per_second * (FILES_SHARE if kind is CallKind.FILES else 1.0)

    def ahead(self, kind: CallKind) -> float:
        """How many seconds the arrival may be ahead: the burst, less the call itself."""
        return max(0.0, BURST_SHARE - 1 / self._rate(kind))
