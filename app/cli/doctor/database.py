"""The doctor's database checks: reachable, at head, and the checks of health."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import psycopg
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.db.engine import make_engine, make_sessions
from app.db.in_thread import in_thread
from app.db.migrate import Database, read_revision, require_schema, schema_is_at
from app.db.rows import fetch, fetch_one
from app.errors import EmbeddedPostgresError, SchemaError
from app.files import FileStore
from app.health import listening
from app.health.judge import judge
from app.health.listening import Needs
from app.health.outside import examine_store
from app.health.process import database
from app.health.results import Check, degraded, failing, ok
from app.keys.taking_up import Keeper
from app.observability.logs import redact
from app.resources import has_database, open_database
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class Bound:
    """The Stripe account and mode that a slug is bound to, if known."""

    slug: str
    stripe_account_id: str | None
    livemode: bool | None
    needs: Needs | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """The facts about the server and the database that matter."""

    read_only: bool
    version: int
    encoding: str


# Checks of outside systems, which doctor makes itself.
LOOKED_AT_NOW = frozenset({"file_store", "clock", "webhook_endpoint"})

# By slug; empty if no row could be read.
Known = Mapping[str, Bound]


async def examine_database(settings: Settings) -> tuple[list[Check], Known]:
    """Check the database if there is one; never create one."""
    if not has_database(settings):
        detail = f"there is no database in {settings.data_dir} yet"
        advice = "`tallyhook serve` or `tallyhook migrate` creates it; or set DATABASE_URL to your own"
        return [degraded("database", detail, advice)], {}
    try:
        async with open_database(settings) as url:
            return await _examine(settings, url)
    except EmbeddedPostgresError as error:
        return [failing("database", f"the embedded database cannot be used: {error}", _LOG)], {}
    except (SQLAlchemyError, psycopg.Error, OSError, ValueError) as error:
        detail = f"the database cannot be used: {_first_line(error)}"
        return [
            failing("database", detail, "check DATABASE_URL, and that the server is running and accepts its user")
        ], {}


async def _examine(settings: Settings, url: str) -> tuple[list[Check], Known]:
    direct_url = settings.direct_url(url)
    revision = await in_thread(partial(read_revision, direct_url))
    engine = make_engine(url, pool_size=1)
    try:
        sessions = make_sessions(engine)
        async with sessions.begin() as session:
            server = await fetch_one(session, Server, _SERVER)
            reached = database(Database(server.version, server.encoding), read_only=server.read_only)
            try:
                await in_thread(partial(require_schema, direct_url))
            except SchemaError as error:
                advice = "run `tallyhook migrate`, or start `tallyhook serve`, which migrates"
                return [reached, failing("schema", str(error), advice)], {}
            bound = await fetch(session, Bound, _BOUND)
            needed = await listening.needs(session)
        await Keeper(settings).take_up(sessions)
        judgement = await judge(sessions, settings)
        # Stored results of outside checks are not used here: the problem may just have been fixed.
        kept = [one for one in judgement.checks if one.name not in LOOKED_AT_NOW]
        store = await examine_store(FileStore(sessions, settings.file_store))
        known = {one.slug: replace(one, needs=needed.get(one.slug)) for one in bound}
        return [reached, ok("schema", schema_is_at(revision)), *kept, store], known
    finally:
        await engine.dispose()


def _first_line(error: Exception) -> str:
    # A driver's message may continue with the statement; passwords in it are redacted.
    said = str(getattr(error, "orig", None) or error).strip()
    return redact(said.splitlines()[0] if said else type(error).__name__)


_LOG = "look at its log in `postgres/log` of the data directory, or set DATABASE_URL to your own PostgreSQL"
_SERVER = text("""
select pg_is_in_recovery() or cast(current_setting('transaction_read_only') as bool) as read_only,
    cast(current_setting('server_version_num') as int) as version, current_setting('server_encoding') as encoding
""")
_BOUND = text("select slug, stripe_account_id, livemode from accounts")
