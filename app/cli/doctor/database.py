"""The doctor's look at the database: reachable, at head, a worker alive; and what the rows know about the accounts."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.embedded.server import EmbeddedPostgresError
from app.db.engine import make_engine, make_sessions
from app.db.migrate import SchemaError, read_revision, require_schema, schema_is_at
from app.health.results import Finding, failing, ok, warning
from app.observability.logs import redact
from app.resources import has_database, open_database
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class Known:
    """What the rows say about the accounts, by slug; empty where no row could be read."""

    bound: Mapping[str, Any] = field(default_factory=dict)  # rows of `_ACCOUNTS`
    holds: Mapping[str, Sequence[Any]] = field(default_factory=dict)  # rows of `_HOLDS`


async def examine_database(settings: Settings) -> tuple[list[Finding], Known]:
    """Look at the database, if there is one; one is never made for this."""
    if not has_database(settings):
        detail = f"there is no database in {settings.data_dir} yet"
        advice = "`tallyhook serve` or `tallyhook migrate` makes it; or set DATABASE_URL to one of your own"
        return [warning("database", detail, advice)], Known()
    try:
        async with open_database(settings) as url:
            return await _examine(settings, url)
    except EmbeddedPostgresError as error:
        return [failing("database", f"the database that comes along cannot be used: {error}", _LOG)], Known()
    except (SQLAlchemyError, psycopg.Error, OSError, ValueError) as error:
        detail = f"the database cannot be used: {_first_line(error)}"
        return [failing("database", detail, "check DATABASE_URL, and that the server runs and lets us in")], Known()


async def _examine(settings: Settings, url: str) -> tuple[list[Finding], Known]:
    direct = settings.direct_database_url
    direct_url = direct.get_secret_value() if direct is not None else url
    revision = await asyncio.to_thread(read_revision, direct_url)
    engine = make_engine(url, pool_size=1)
    try:
        async with make_sessions(engine)() as session:
            reached = ok("database", f"PostgreSQL {(await session.execute(_VERSION)).scalar_one()} answers")
            try:
                await asyncio.to_thread(require_schema, direct_url)
            except SchemaError as error:
                advice = "run `tallyhook migrate`, or start `tallyhook serve`, which does so"
                return [reached, failing("schema", str(error), advice)], Known()
            rows = await _look_at_rows(session, settings)
            return [reached, ok("schema", schema_is_at(revision)), *rows], await _known(session)
    finally:
        await engine.dispose()


async def _look_at_rows(session: AsyncSession, settings: Settings) -> list[Finding]:
    values = {"seconds": settings.stalled_after_seconds}
    workers = (await session.execute(_WORKERS, values)).one()
    failed = (await session.execute(_FAILED_EVENTS)).scalar_one()
    return [_worker(workers), _events(failed)]


def _worker(workers: Any) -> Finding:
    if workers.alive:
        many = "one process works" if workers.alive == 1 else f"{workers.alive} processes work"
        return ok("worker", f"{many} the queue")
    heard = "none was ever heard of" if workers.last is None else f"the last was heard of at {workers.last:%F %T} UTC"
    return failing("worker", f"no process works the queue: {heard}", "start `tallyhook serve` or `tallyhook worker`")


def _events(failed: int) -> Finding:
    if not failed:
        return ok("events", "no event failed to be handled")
    advice = "`tallyhook events list --status failed` shows why; then `tallyhook events replay ID`"
    return warning("events", f"{failed} events could not be handled", advice)


async def _known(session: AsyncSession) -> Known:
    holds: dict[str, list[Any]] = {}
    for hold in await session.execute(_HOLDS):
        holds.setdefault(hold.account, []).append(hold)
    return Known({row.slug: row for row in await session.execute(_ACCOUNTS)}, holds)


def _first_line(error: Exception) -> str:
    # A driver's message may go on with the statement; what it says of passwords is taken out.
    said = str(getattr(error, "orig", None) or error).strip()
    return redact(said.splitlines()[0] if said else type(error).__name__)


_LOG = "look at its log in the data directory's `postgres/log`, or set DATABASE_URL to a PostgreSQL of your own"
_VERSION = text("select current_setting('server_version')")
_WORKERS = text("""
select count(*) filter (where seen_at > clock_timestamp() - :seconds * interval '1 s') as alive,
    max(seen_at) at time zone 'UTC' as last
from workers
""")
_FAILED_EVENTS = text("select count(*) from events where status = 'failed'")
_ACCOUNTS = text("select slug, stripe_account_id, livemode from accounts")
_HOLDS = text("select account, call_kind, reason, since from account_holds order by account, call_kind")
