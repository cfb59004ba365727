"""What benchmarks put into a database, and read from it."""

import time
from collections.abc import Callable
from datetime import date
from typing import Any

import psycopg

from app.db.engine import make_engine, make_sessions
from app.rules.schedule import plan_report_type
from app.rules.store import create
from app.settings import load_settings

PATIENCE_SECONDS = 300


def rule(name: str, report_type: str, *, starts_on: date, **changes: object) -> dict[str, object]:
    """A daily rule."""
    return {
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


async def add_rules(url: str, *rules: dict[str, object]) -> int:
    """Make these rules and plan them, in one transaction; returns the number of runs."""
    settings = load_settings({"DATABASE_URL": url, "STRIPE_API_KEY": "sk_test_x"}, env_file=None)
    engine = make_engine(url, pool_size=1)
    try:
        planned = 0
        async with make_sessions(engine).begin() as session:
            for values in rules:
                made = await create(session, values)
                planned += await plan_report_type(
                    session, made.account, made.report_type, settings=settings, rule_id=made.id
                )
        return planned
    finally:
        await engine.dispose()


def one(url: str, query: str, *values: object) -> Any:
    """The one value that a query gives."""
    with psycopg.connect(url) as connection:
        row = connection.execute(query, values or None).fetchone()
    return None if row is None else row[0]


def until(met: Callable[[], bool], what: str, *, every: float = 0.1, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for something that has to come about. Raises TimeoutError when it does not."""
    deadline = time.monotonic() + seconds
    while not met():
        if time.monotonic() > deadline:
            raise TimeoutError(f"this did not come about: {what}")
        time.sleep(every)
