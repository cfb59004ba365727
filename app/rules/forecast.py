"""When the runs of a rule will be done, at the pace at which Stripe recently made reports."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch_one
from app.settings import Settings

# The pace is measured on this many runs, stored in the last week.
_LAST_RUNS = 200
# At most this many waiting runs are counted.
_MOST_AHEAD = 100_000


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a rule would request, what of its account waits before it, and when that is done, if a pace is known."""

    reports: int
    ahead: int
    per_hour: float | None
    done_by: datetime | None
    says: str


@dataclass(frozen=True, slots=True)
class _Pace:
    """How long Stripe recently took for a run, in seconds, and how many runs of the account are waiting."""

    seconds: float | None
    ahead: int
    now: datetime


async def forecast(session: AsyncSession, account: str, reports: int, settings: Settings) -> Forecast:
    """The forecast for this many runs of an account, requested with all of its slots."""
    pace = await fetch_one(session, _Pace, _PACE, {"account": account, "runs": _LAST_RUNS, "most": _MOST_AHEAD})
    what = f"{reports:,} report{'' if reports == 1 else 's'}"
    if pace.seconds is None:
        return Forecast(reports, pace.ahead, None, None, f"{what}; how long Stripe takes is not known yet")
    per_second = settings.max_pending_runs / max(pace.seconds, 0.001)
    if settings.requests_per_second:
        per_second = min(per_second, settings.requests_per_second)
    done_by = pace.now + timedelta(seconds=(reports + pace.ahead) / per_second)
    day = "" if done_by.date() == pace.now.date() else f"{done_by:%Y-%m-%d} "
    says = f"{what}, done by {day}{done_by:%H:%M} UTC at the current pace"
    return Forecast(reports, pace.ahead, round(per_second * 3600, 1), done_by, says)


_PACE = text("""
select (
    select cast(avg(extract(epoch from ready_at - requested_at)) as float8) from (
        select requested_at, ready_at from runs
        where state = 'stored' and account = :account and stored_at > now() - interval '7 days'
            and ready_at is not null and requested_at is not null
        order by stored_at desc, id desc limit :runs
    ) as lately
) as seconds, (
    select count(*) from (select from runs where account = :account and state = 'planned' limit :most) as waiting
) as ahead, clock_timestamp() as now
""")
