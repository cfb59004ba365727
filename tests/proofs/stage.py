"""One life of the service after the other on the same database, with Stripe and time in the hands of the story."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from unittest.mock import patch

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from app.accounts import catch_up, holds, identity
from app.db import alembic_models  # noqa: F401 - its tables belong to the schema too
from app.db.models import Base
from app.files import chunker, database_writer, object_writer
from app.resources import Resources, open_resources
from app.simulator import Simulator, serve
from app.stripe_api import transport
from tests import service
from tests.proofs import announced
from tests.proofs.effects import Crashed, Effects, watched
from tests.proofs.post import Post
from tests.targets.receivers import web_receiver
from tests.targets.stories import send_due

OTHER_KEY = "sk_test_simulator_of_another_account"
OTHER_TYPE = "balance_change_from_activity.itemized.6"
TYPES = (service.REPORT_TYPE, OTHER_TYPE)


Step = Callable[[Resources], Awaitable[object]]

# Small, so that a file of a day (some 50 KB) takes several commits.
CHUNK_BYTES = 16 * 1024
# After so many days without news everything is over, if it ever will be: Stripe runs that hang cost one each.
PATIENCE_HOURS = 24 * 10
# Where back-off takes no time, trying again forever must not either.
MOST_TURNS = 20


class Stage:
    """The service, restarted after each crash; `res` belongs to its present life."""

    def __init__(self, url: str, simulator: Simulator, effects: Effects, **settings: object) -> None:
        self.simulator = simulator
        self.effects = effects
        self.post = Post(simulator)
        self.hook = announced.Hook()
        self.hours = 0.0  # that have passed
        self._url = url
        # Time passes when the story says so: nothing is due after seconds, and back-off ends at once (see `start`).
        self._settings = service.make_settings(
            url, simulator, **{"TALLYHOOK_PENDING_POLL_SECONDS": 900, **announced.SETTINGS, **settings}
        )
        self._life = AsyncExitStack()
        self._backed_up_at: float | None = None  # `hours` then

    async def start(self) -> None:
        """Begin a life, in as many attempts as it takes."""
        while True:
            if self.effects.died.is_set():
                self.effects.revive()
            try:
                opened = open_resources(
                    self._settings, random=lambda: 0.0, clock=lambda: time.time() + self.hours * 3600
                )
                self.res = await self._life.enter_async_context(opened)
            except Crashed:
                await self.stop()
                continue
            if await self._survives(_begin_to_work):
                return
            await self.stop()

    async def stop(self) -> None:
        """The end of a life: sockets close, and nothing more is written (a dead process cannot, see `Effects`)."""
        life, self._life = self._life, AsyncExitStack()
        await life.aclose()

    async def live(self, step: Step) -> None:
        """Do a step; if the service dies of it, restart the service and repeat the step."""
        while not await self._survives(step):
            await self.stop()
            await self.start()

    async def _survives(self, step: Step) -> bool:
        doing = asyncio.ensure_future(step(self.res))
        dying = asyncio.ensure_future(self.effects.died.wait())
        await asyncio.wait({doing, dying}, return_when=asyncio.FIRST_COMPLETED)
        dying.cancel()
        if not self.effects.died.is_set():
            await doing
            return True
        doing.cancel()
        await asyncio.wait({doing, dying})
        return False

    async def live_with_key(self, api_key: str) -> None:
        """A process beside this one that has another key does everything that is due to it."""
        settings = service.make_settings(self._url, self.simulator, STRIPE_API_KEY=api_key, **announced.SETTINGS)
        async with open_resources(settings, random=lambda: 0.0) as other:
            await identity.check_at_start(other)
            await everything_due(other)

    async def time_passes(self, hours: float) -> None:
        """Move all stored times this far into the past, for Stripe too; nobody waits."""
        self.hours += hours
        self.simulator.set_clock(advance=hours * 3600)
        await self._make_longer_ago(hours)

    async def _make_longer_ago(self, hours: float) -> None:
        async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as connection:
            await connection.execute(_LONGER_AGO, {"hours": hours})

    async def back_up(self) -> None:
        """Copy the database as it is now; the service is restarted, as a copy needs the database unused."""
        await self.stop()
        await self.drop_backup()
        await self._copy(self._database, self._backup)
        self._backed_up_at = self.hours
        await self.start()

    async def restore(self) -> None:
        """Put the backup in the database's place, while the service is stopped."""
        assert self._backed_up_at is not None
        await self.stop()
        await self._copy(self._backup, self._database)
        await self.drop_backup()
        await self._make_longer_ago(self.hours - self._backed_up_at)
        await self.start()

    async def drop_backup(self) -> None:
        """Leave nothing of it."""
        await self._of_server(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(self._backup)))

    @property
    def _database(self) -> str:
        return str(make_url(self._url).database)

    @property
    def _backup(self) -> str:
        return f"{self._database[:50]}_backup"

    async def _copy(self, old: str, new: str) -> None:
        await self._of_server(
            sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(new)),
            sql.SQL("create database {} template {} strategy file_copy").format(
                sql.Identifier(new), sql.Identifier(old)
            ),
        )

    async def _of_server(self, *statements: sql.Composed) -> None:
        url = make_url(self._url).set(database="postgres").render_as_string(hide_password=False)
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            for statement in statements:
                await connection.execute(statement)

    async def settle(self, *, hours: float = 1, delivering: bool = True) -> None:
        """Let hours pass and do what is due, until nothing is; with `delivering`, Stripe tries its webhooks again.

        A long backlog takes long, as few runs may be pending: patience ends when no run has ended for that long.
        """
        least: int | None = None
        patience: float = PATIENCE_HOURS
        while patience > 0:
            await self.time_passes(hours)
            if delivering:
                await self.live(lambda res: self.post.deliver_all(res.intake))
            await self.live(everything_due)
            under_way = await service.fetch(self.res, UNDER_WAY)
            if not under_way and not (delivering and self.post.waiting()):
                return
            ended = least is None or len(under_way) < least
            least, patience = (len(under_way), PATIENCE_HOURS) if ended else (least, patience - hours)
        raise AssertionError(f"after {PATIENCE_HOURS} hours without progress this is still under way: {under_way}")


async def everything_due(res: Resources) -> None:
    """Every lane's step, until none finds anything to do (or keeps finding the same)."""
    for _ in range(MOST_TURNS):
        if not await timetable_due(res) + await service.turn(res) + await send_due(res):
            return


async def timetable_due(res: Resources) -> int:
    """What recurs, and then the accounts that it made due."""
    return await service.timetable_due(res) + await service.ask_due(res)


async def _begin_to_work(res: Resources) -> None:
    await service.make_timetable_due(res)
    async with res.sessions.begin() as session:
        await holds.probe_all_now(session)
        await catch_up.move_marks(session, settings=res.settings)


@asynccontextmanager
async def staged(url: str, **settings: object) -> AsyncIterator[Stage]:
    """A stage on the (migrated) database at `url`, emptied, nobody on it yet; Stripe's data ends at 2026-03-01."""
    await _empty(url)
    # Two report types do: each of Stripe's two dozen would be written down with every reconciling.
    simulator = Simulator(default_account=False)
    simulator.add_account("default", catalogue=False)
    simulator.add_account("other", catalogue=False, api_key=OTHER_KEY)
    for type in TYPES:
        simulator.add_report_type(type)
        simulator.add_report_type(type, account="other")
    with _small_and_quick(), watched() as effects:
        async with serve(simulator):
            service.unpublished(simulator)
            stage = Stage(url, simulator, effects, **settings)
            async with web_receiver(stage.hook):
                try:
                    yield stage
                finally:
                    await stage.stop()
                    await stage.drop_backup()


@contextmanager
def _small_and_quick() -> Iterator[None]:
    with (
        patch.object(chunker, "CHUNK_BYTES", CHUNK_BYTES),
        patch.object(chunker, "BLOCK_BYTES", CHUNK_BYTES),
        patch.object(database_writer, "CHUNKS_PER_COMMIT", 1),
        patch.object(object_writer, "PASS_ON_BYTES", CHUNK_BYTES),
        patch.object(transport, "READ_BYTES", CHUNK_BYTES),
        # What takes most of a start, and is not proved here: the schema is at head, and nothing is encrypted.
        patch("app.resources.migrate"),
        patch.object(ssl.SSLContext, "load_verify_locations"),
    ):
        yield


async def _empty(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        # What is only ever added to goes between two stories all the same, but for the audit, which nothing refers to.
        await connection.execute("set session_replication_role = replica")
        for table in (table for table in reversed(Base.metadata.sorted_tables) if table.name != "audit"):
            await connection.execute(sql.SQL("delete from {}").format(sql.Identifier(table.name)))


REPORTS_UNDER_WAY = """
select to_jsonb(runs) from runs where state in ('planned', 'requested', 'ready')
union all select to_jsonb(events) - 'payload' from events where status = 'pending'
"""
UNDER_WAY = f"""
{REPORTS_UNDER_WAY} union all select to_jsonb(deliveries) from deliveries where state = 'pending'
"""
_LONGER_AGO = """
with by as (select %(hours)s * interval '1 hour' as much),
runs as (update runs set due_at = due_at - much, lease_until = lease_until - much, asked_at = asked_at - much,
    requested_at = requested_at - much from by),
attempts as (update attempts set key_drawn_at = key_drawn_at - much, requested_at = requested_at - much from by),
events as (update events set due_at = due_at - much from by),
targets as (update targets set failing_since = failing_since - much from by),
deliveries as (update deliveries set due_at = due_at - much, lease_until = lease_until - much from by
    where state = 'pending'),
holds as (update account_holds set next_probe_at = next_probe_at - much from by),
marks as (update accounts set known_until = known_until - much from by),
objects as (update dropped_objects set dropped_at = dropped_at - much from by),
lost as (update unclaimed_runs set noted_at = noted_at - much from by),
asked as (update reconciliations set due_at = due_at - much, started_at = started_at - much from by),
types as (update report_types set next_probe_at = next_probe_at - much from by)
update timetable set due_at = due_at - much, started_at = started_at - much from by
"""
