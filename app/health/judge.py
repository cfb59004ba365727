"""Runs every check, for `/health`, `/metrics` and `tallyhook doctor`."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

# Importing a module registers its checks.
from app.health import accounts, outside, queue, rows, rules, tables, targets, webhooks  # noqa: F401
from app.health.registry import CHECKS, CheckFunction, View
from app.health.results import Check, failing
from app.health.rules import RuleHealth, rules_of
from app.observability.logs import redact
from app.settings import Settings

log = structlog.get_logger()

# On an overloaded database a check fails instead of hanging.
STATEMENT_SECONDS = 2
# After this long the remaining checks are skipped: the caller would give up soon.
ALL_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Judgement:
    """Every check, by name; and the rules, those with problems first."""

    checks: Sequence[Check]
    rules: Sequence[RuleHealth]


async def judge(sessions: async_sessionmaker[AsyncSession], settings: Settings) -> Judgement:
    """Run every check in one transaction. A check that raises an error counts as failing.

    Raises the database's errors if it cannot be used at all.
    """
    async with sessions.begin() as session:
        await session.execute(text(f"set local statement_timeout = '{STATEMENT_SECONDS * 1000:.0f}ms'"))
        view = View(session, settings, await rows.now(session))
        stop_at = time.monotonic() + ALL_SECONDS
        checks = [await _make(name, function, view, stop_at) for name, function in sorted(CHECKS.items())]
        return Judgement(checks, view.seen(rules_of) or [])


async def _make(name: str, function: CheckFunction, view: View, stop_at: float) -> Check:
    advice = "see `health.check_broke` in the log; the database may be slow or overloaded"
    if time.monotonic() > stop_at:
        return failing(name, "skipped: the checks before it took too long", advice)
    try:
        # In a savepoint, so that later checks can continue.
        async with view.session.begin_nested():
            return await function(view)
    except Exception as error:
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            raise
        log.warning("health.check_broke", check=name, error=redact(f"{type(error).__name__}: {error}"[:500]))
        # The class says enough; a driver's message may contain customer data.
        return failing(name, f"the check failed: {type(error).__name__}", advice)
