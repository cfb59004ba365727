"""What this process needs before it can take requests and work: the database, its schema, its own worker."""

import asyncio
from dataclasses import dataclass

from sqlalchemy import text

from app.db.engine import leave_server
from app.db.migrate import Database
from app.db.revisions import head_revision, known_revisions
from app.db.rows import fetch_one
from app.health.results import Check, Status, failing, ok
from app.resources import Resources

# Probes usually give up after a few seconds, and an answer that names the check helps more than silence.
ANSWER_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class _Facts:
    revision: str
    read_only: bool
    version: int
    encoding: str
    worker_seen: bool


@dataclass(slots=True)
class Probe:
    """Asks the database, once at a time however many callers ask, and does not wait for it for long."""

    asking: asyncio.Task[list[Check]] | None = None

    async def ask(self, res: Resources) -> list[Check]:
        """The checks of this process."""
        if self.asking is None or self.asking.done():
            self.asking = asyncio.create_task(_ask(res))
        done, _ = await asyncio.wait({self.asking}, timeout=ANSWER_SECONDS)
        return self.asking.result() if done else [database_away("it does not answer")]


def can_judge(checks: list[Check]) -> bool:
    """Whether the rows can be read: a database that only refuses writes still has the answers."""
    return not any(check.name == "schema" and check.status is Status.FAILING for check in checks) and any(
        check.name == "schema" for check in checks
    )


def database_away(how: str) -> Check:
    """The check of a database that cannot be used."""
    advice = "look at PostgreSQL and DATABASE_URL; webhooks get 503, and Stripe delivers them again"
    return failing("database", f"the database cannot be used: {how}", advice)


def database(found: Database, *, read_only: bool) -> Check:
    """The check of a database that answers."""
    if read_only:
        advice = "is it a standby, after a fail-over? Point DATABASE_URL to the primary"
        return failing("database", "the database answers but refuses writes: it is read-only", advice)
    if unfit := found.unfit():
        return failing("database", *unfit)
    return ok("database", "the database answers and can be written to")


async def _ask(res: Resources) -> list[Check]:
    try:
        async with res.sessions.begin() as session:
            values = {"worker": res.worker_id, "seconds": res.settings.stalled_after_seconds}
            found = await fetch_one(session, _Facts, _FACTS, values)
    except Exception as error:
        # The class says enough; a driver's message may hold the address and the user.
        return [database_away(type(error).__name__)]
    if found.read_only:
        leave_server(res.engine.sync_engine)
    reached = database(Database(found.version, found.encoding), read_only=found.read_only)
    checks = [reached, _schema(found.revision)]
    return [*checks, _worker(seen=found.worker_seen)] if res.works_queue else checks


def _schema(revision: str) -> Check:
    # Migrations only add what the previous version can ignore, so a newer schema serves this version too.
    if revision == head_revision() or revision not in known_revisions():
        return ok("schema", f"the schema is at {revision}")
    return failing(
        "schema", f"the schema is at {revision}, but this version needs {head_revision()}", "run `tallyhook migrate`"
    )


def _worker(*, seen: bool) -> Check:
    if seen:
        return ok("worker", "this process works the queue")
    advice = "look at its log, and restart it"
    return failing("worker", "the worker of this process has not reported recently", advice)


_FACTS = text("""
select (select version_num from alembic_version) as revision,
    pg_is_in_recovery() or cast(current_setting('transaction_read_only') as bool) as read_only,
    cast(current_setting('server_version_num') as int) as version, current_setting('server_encoding') as encoding,
    exists (select from workers
            where id = :worker and seen_at > clock_timestamp() - make_interval(secs => :seconds)) as worker_seen
""")
