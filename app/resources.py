"""What a process holds open, opened and closed together: database, Stripe client, file store, limits, wake-ups."""

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypedDict, Unpack

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from app.background import repeat
from app.db.cutting import end_soon
from app.db.embedded.server import EmbeddedPostgres
from app.db.engine import autocommit_session, make_engine, make_sessions
from app.db.in_thread import in_thread
from app.db.migrate import migrate
from app.db.scoped import limited_sessions
from app.errors import EmbeddedPostgresError, SettingsError
from app.files import FileStore
from app.inbox.intake import Intake
from app.keys.taking_up import Keeper
from app.observability.metrics import Metrics
from app.planning.backoff import Backoff
from app.queue.claims import Lease
from app.queue.group_commit import GroupCommit
from app.queue.wakeups import Wakeups
from app.settings import Settings
from app.stripe_api.client import StripeClient
from app.stripe_api.rate_limit import Limiter

log = structlog.get_logger()

# Enough transactions for two cores, and a few that wait for locks; the intake has its own connections, so a
# busy worker never keeps a webhook waiting.
POOL_SIZE = 10
# Creates that one process has under way; the limit on pending Stripe runs is counted across all processes.
REQUESTS_AT_ONCE = 16
# How often we check for a dead embedded server: a restart takes a tenth of a second, so this is the length of an
# outage.
WATCH_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class ClaimTerms:
    """Who claims, and the limits across all processes."""

    settings: Settings
    limiter: Limiter
    lease: Lease
    accounts: frozenset[str]  # accounts with a key
    now: float  # of `Resources.clock`, to detect late calls
    random: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Resources:
    """Passed as `res` to everything that talks to the outside; `dataclasses.replace` makes one that differs."""

    settings: Settings
    engine: AsyncEngine
    sessions: async_sessionmaker[AsyncSession]
    stripe: StripeClient
    keeper: Keeper
    files: FileStore
    intake: Intake
    group_commit: GroupCommit
    limiter: Limiter
    metrics: Metrics
    direct_url: str  # for LISTEN and migrations: never through a pooler
    wakeups: Wakeups = field(default_factory=Wakeups)
    worker_id: uuid.UUID = field(default_factory=uuid.uuid4)
    requests_at_once: int = REQUESTS_AT_ONCE
    scope: frozenset[str] | None = None  # the only accounts that a caller sees (see `limited_to`)
    works_queue: bool = True  # whether this process has a worker of its own
    # Accounts whose keys were not confirmed since this worker started: it does not call Stripe for them.
    unconfirmed: set[str] = field(default_factory=set)
    confirm_soon: asyncio.Event = field(default_factory=asyncio.Event)  # some of them were never checked
    spreadsheets: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))  # made at once
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    random: Callable[[], float] = random.random
    clock: Callable[[], float] = time.time  # seconds, including time the machine slept

    @property
    def callable_accounts(self) -> frozenset[str]:
        """The accounts that may be worked for: those with a confirmed key."""
        return self.stripe.accounts - self.unconfirmed

    @property
    def backoff(self) -> Backoff:
        """The back-off for everything that may work later."""
        return Backoff(self.settings.retry_base_seconds, self.settings.retry_max_seconds, self.random)

    @property
    def claim_terms(self) -> ClaimTerms:
        """A value for the claiming statements."""
        lease = Lease(self.worker_id, self.settings.stalled_after_seconds)
        return ClaimTerms(self.settings, self.limiter, lease, self.stripe.accounts, self.clock(), self.random)


def limited_to(res: Resources, accounts: frozenset[str]) -> Resources:
    """The resources of a caller who sees only these accounts: in the rows, and in the settings."""
    sessions = limited_sessions(res.engine, accounts)
    return replace(res, scope=accounts, sessions=sessions, settings=res.settings.limited_to(accounts))


def reading(res: Resources) -> AbstractAsyncContextManager[AsyncSession]:
    """A session for a single statement that reads, in one round trip; a limited one sets its accounts before it."""
    return autocommit_session(res.sessions) if res.scope is None else res.sessions.begin()


def stop(res: Resources) -> None:
    """End this process's work: lanes and loops end, and a database that does not answer cannot delay that for long."""
    res.stopping.set()
    res.wakeups.ring()
    end_soon(res.engine)
    res.intake.end_soon()


class OfProcess(TypedDict, total=False):
    """What may differ between processes, and in tests."""

    works_queue: bool
    requests_at_once: int
    random: Callable[[], float]
    clock: Callable[[], float]


def has_database(settings: Settings) -> bool:
    """Whether there is a database to open; False where `open_database` would make an embedded one."""
    try:
        return settings.database_url is not None or (settings.data_dir / "postgres" / "PG_VERSION").exists()
    except PermissionError:
        return True  # not readable for us: opening it reports whose it is


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[str]:
    """The URL of the database: the configured one, or the embedded server's, started or joined and kept up."""
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    server = EmbeddedPostgres(settings.data_dir / "postgres")
    watch = None
    try:
        # In the block, because a recovery may take long: a stop meanwhile releases the server, which aborts the wait.
        await asyncio.to_thread(server.acquire)
        watch = asyncio.create_task(repeat("postgres", lambda: _acquire_again(server), every=WATCH_SECONDS))
        yield server.url("postgres")
    finally:
        if watch is not None:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        await asyncio.to_thread(server.release)


async def _acquire_again(server: EmbeddedPostgres) -> None:
    try:
        await asyncio.to_thread(server.acquire)
    except EmbeddedPostgresError as error:
        log.error("postgres.restart_failed", error=str(error))  # tried again at the next check


@asynccontextmanager
async def open_resources(
    settings: Settings, *, schema: Callable[[str], None] | None = None, **ours: Unpack[OfProcess]
) -> AsyncIterator[Resources]:
    """Open everything, after bringing the schema to head; close everything in reverse order.

    `schema` prepares or checks the schema, given the database's URL; commands of the command line only check it.
    `ours` is what this process does differently.
    """
    async with open_database(settings) as url:
        direct_url = settings.direct_url(url)
        bring_to_head = partial(migrate, reports_schema=settings.schema_of_tables)
        await in_thread(partial(schema or bring_to_head, direct_url))
        async with _connect(settings, url, direct_url) as res:
            await _note_accounts(res)
            await _take_up_accounts(res)
            yield replace(res, **ours)


@asynccontextmanager
async def _connect(settings: Settings, url: str, direct_url: str) -> AsyncIterator[Resources]:
    engine = make_engine(url, pool_size=POOL_SIZE)
    metrics, wakeups = Metrics(), Wakeups()
    stripe = StripeClient(settings, metrics)
    try:
        async with Intake(url, settings, metrics, wakeups) as intake:
            sessions = make_sessions(engine)
            yield Resources(
                settings=settings,
                engine=engine,
                sessions=sessions,
                files=FileStore(sessions, settings.file_store),
                stripe=stripe,
                keeper=Keeper(settings),
                intake=intake,
                group_commit=GroupCommit(sessions),
                limiter=Limiter(settings.requests_per_second),
                metrics=metrics,
                direct_url=direct_url,
                wakeups=wakeups,
            )
    finally:
        await stripe.close()
        await engine.dispose()


async def _note_accounts(res: Resources) -> None:
    async with res.sessions.begin() as session:
        for account in sorted(res.settings.accounts.configured.values(), key=lambda account: account.slug):
            await session.execute(_NOTE_ACCOUNT, {"slug": account.slug})


async def _take_up_accounts(res: Resources) -> None:
    await res.keeper.take_up(res.sessions)
    accounts = res.settings.accounts
    if both := sorted(accounts.problems.keys() & accounts.configured.keys()):
        raise SettingsError(f"STRIPE_ACCOUNTS: {accounts.problems[both[0]]}")


_NOTE_ACCOUNT = text("""
insert into accounts (slug) values (:slug) on conflict (slug) do nothing
""")
