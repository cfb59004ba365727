"""When a lane has something to do next, so that it sleeps until then and not a poll longer."""

from datetime import timedelta

from sqlalchemy import text

from app.db.engine import autocommit_session
from app.resources import Resources
from app.vocabulary import CallKind, Lane

# What is due already was just looked at, and cannot be done: only what comes is waited for. What came between that look
# and this one must not be missed.
_LOOK_BACK = timedelta(milliseconds=50)
_SECONDS = "select extract(epoch from min(at) - clock_timestamp())::float8 from ({sources}) as due(at)"
_RUNS = """
    select min(greatest(due_at, lease_until)) from runs where state = '{state}'
        and greatest(due_at, lease_until) > clock_timestamp() - :back
"""
_HOLDS = """
    select min(next_probe_at) from account_holds where call_kind = '{kind}'
        and next_probe_at > clock_timestamp() - :back and next_probe_at < 'infinity'
"""
_MISSING_TYPES = """
    select min(next_probe_at) from report_types where missing_since is not null
        and next_probe_at > clock_timestamp() - :back
"""
_RATE_OF = {
    Lane.REQUESTS: CallKind.CREATE,
    Lane.LOOKUPS: CallKind.READ,
    Lane.DOWNLOADS: CallKind.FILES,
    Lane.BIG_DOWNLOADS: CallKind.FILES,
}

_SOURCES = {
    Lane.INBOX: [
        "select min(due_at) from events where status = 'pending' and due_at > clock_timestamp() - :back",
    ],
    Lane.REQUESTS: [
        _RUNS.format(state="planned"),
        _HOLDS.format(kind="create"),
        _MISSING_TYPES,
    ],
    Lane.LOOKUPS: [_RUNS.format(state="requested"), _HOLDS.format(kind="read")],
    Lane.DOWNLOADS: [_RUNS.format(state="ready"), _HOLDS.format(kind="files")],
    Lane.BIG_DOWNLOADS: [_RUNS.format(state="ready"), _HOLDS.format(kind="files")],
    Lane.TIMETABLE: ["select min(due_at) from timetable where due_at > clock_timestamp() - :back"],
}
_QUERIES = {lane: text(_SECONDS.format(sources=" union all ".join(sources))) for lane, sources in _SOURCES.items()}


async def seconds_until_next(res: Resources, lane: Lane) -> float | None:
    """Seconds until something in this lane becomes due by itself; None when nothing will."""
    async with autocommit_session(res.sessions) as session:
        waits = [(await session.execute(_QUERIES[lane], {"back": _LOOK_BACK})).scalar_one()]
        if lane in _RATE_OF:
            waits.append(await res.limiter.seconds_until_next(session, _RATE_OF[lane]))
    return min((seconds for seconds in waits if seconds is not None), default=None)
