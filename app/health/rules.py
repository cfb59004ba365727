"""Per rule: is the newest window there, and is Stripe's data for the next one on time?"""

from datetime import datetime, timedelta
from typing import Any

from app.api.schemas.health import RuleHealthOut, Status
from app.health.rows import Facts
from app.vocabulary import RunState

# Stripe's data advances by half a day or a day at a time, and is there half a day later.
DATA_WITHIN = timedelta(hours=36)
# Stripe makes a report in minutes, rarely in hours; the newest window is asked for first.
STORED_WITHIN = timedelta(hours=6)


def rules_of(facts: Facts) -> list[RuleHealthOut]:
    """Every enabled rule that was looked at, those in trouble first."""
    found = [_rule(row, facts.queue.now) for row in facts.rules]
    return sorted(found, key=lambda rule: rule.status is Status.OK)


def _rule(row: Any, now: datetime) -> RuleHealthOut:
    trouble, expected_by = _newest(row, now)
    if expected_by is None:
        trouble, expected_by = _next(row, now)
    return RuleHealthOut(
        rule_id=row.id,
        name=row.name,
        connected_account=row.connected_account,
        status=Status.OK if trouble is None else Status.DEGRADED,
        detail=trouble or "on time",
        newest_window_end=row.window_end,
        newest_state=row.state,
        next_due_at=row.next_due_at,
        expected_by=expected_by,
    )


def _newest(row: Any, now: datetime) -> tuple[str | None, datetime | None]:
    """What is wrong with the newest window, and by when it is expected; nothing of either once it is done with."""
    if row.state in (None, RunState.STORED, RunState.CANCELLED):
        return None, None
    expected_by = row.planned_at + STORED_WITHIN
    if row.state == RunState.FAILED:
        return f"the window until {row.window_end:%F %H:%M} UTC failed: see its error, then retry it", expected_by
    if now > expected_by:
        return f"the window until {row.window_end:%F %H:%M} UTC is late: it is {row.state} still", expected_by
    return None, expected_by


def _next(row: Any, now: datetime) -> tuple[str | None, datetime | None]:
    """What is wrong with the next window, and by when it is expected, as far as that is known."""
    if row.next_due_at is None:
        late = now > row.created_at + STORED_WITHIN
        return ("Stripe has told of no data of its report type yet" if late else None), None
    expected_by = row.next_due_at + DATA_WITHIN
    if now <= expected_by:
        return None, expected_by
    return f"Stripe's data reaches {_reach(row)} and should reach {row.next_due_at:%F %H:%M} UTC by now", expected_by


def _reach(row: Any) -> str:
    return "nowhere" if row.data_available_end is None else f"{row.data_available_end:%F %H:%M} UTC"
