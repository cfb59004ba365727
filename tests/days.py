"""Today, for tests whose world reaches the present: the service asks the clock again, and must find the same day."""

import time
from datetime import UTC, date, datetime, timedelta


def today(*, left: float = 60.0) -> date:
    """The day in UTC. At least this many seconds of it are left: close to midnight this waits for the next day."""
    now = datetime.now(UTC)
    midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC)
    if midnight - now > timedelta(seconds=left):
        return now.date()
    time.sleep((midnight - now).total_seconds())
    return midnight.date()
