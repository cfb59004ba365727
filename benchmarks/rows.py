"""What benchmarks put into a database, and read from it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.batch import Batch
from app.db.engine import make_engine, make_sessions
from app.files import FileWriter, begin_finishing
from app.rules import schedule, store
from app.rules.rule import NewRule
from app.settings import load_settings

PATIENCE_SECONDS = 300


def rule(name: str, report_type: str, *, starts_on: date, **changes: object) -> NewRule:
    """A daily rule."""
    values: dict[str, Any] = {
        "account": "default",
        "name": name,
        "report_type": report_type,
        "enabled": True,
        "cadence": "daily",
        "timezone": "UTC",
        "starts_on": starts_on,
        "settle_hours": 0,
        "parameters": {},
        "connected_accounts": [],
        "retention_days": None,
        **changes,
    }
    return NewRule(**values)


async def add_rules(url: str, *rules: NewRule) -> int:
    """Make these rules and plan them; returns the number of runs."""
    settings = load_settings({"DATABASE_URL": url, "STRIPE_API_KEY": "sk_test_x"}, env_file=None)
    engine = make_engine(url, pool_size=1)
    try:
        sessions = make_sessions(engine)
        # In one transaction: a worker that is running must not plan some of them, or we would count too early.
        async with sessions.begin() as session:
            for new in rules:
                await store.create(session, new)
            while await schedule.plan_any(session, attempts=settings.max_run_attempts):
                pass
            return int((await session.execute(text("select count(*) from runs"))).scalar_one())
    finally:
        await engine.dispose()


def plan_daily(url: str, report_types: Sequence[str], *, days: int, root: Path) -> int:
    """A daily rule of each type, from so many days ago, planned by the program at `root`; returns the number of runs.

    In a separate process: an older program (`before`) plans in its own way.
    """
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", _PLAN_DAILY, url, str(days), *report_types]
    done = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


_PLAN_DAILY = """
import asyncio, sys
from benchmarks.rows import add_rules, rule
from benchmarks.stripe import first_day
url, days, *types = sys.argv[1:]
print(asyncio.run(add_rules(url, *(rule(name, name, starts_on=first_day(int(days))) for name in types))))
"""


async def finish(session: AsyncSession, writer: FileWriter) -> None:
    """Finish a file whose `facts` are known, as a download does."""
    batch = Batch(session)
    await begin_finishing(batch, [writer.ending()])
    await batch.send()


def one(url: str, query: str, *values: object) -> Any:
    """The one value that a query returns."""
    with psycopg.connect(url) as connection:
        row = connection.execute(query, values or None).fetchone()
    return None if row is None else row[0]


def until(met: Callable[[], bool], what: str, *, every: float = 0.1, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for something that must happen. Raises TimeoutError if it does not."""
    deadline = time.monotonic() + seconds
    while not met():
        if time.monotonic() > deadline:
            raise TimeoutError(f"this did not come about: {what}")
        time.sleep(every)
