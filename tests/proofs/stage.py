"""One life of the service after the other on the same database, with Stripe and time in the hands of the story."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC
from unittest.mock import patch

import psycopg

from app import files, timetable
from app.db.models import Base
from app.resources import Resources, open_resources
from app.runs import holds
from app.settings import Settings
from app.simulator import Simulator, serve
from tests import service
from tests.proofs.effects import Crashed, Effects, watched
from tests.proofs.post import Post

Step = Callable[[Resources], Awaitable[object]]


class Stage:
    """The service, started anew after each crash; `res` belongs to its present life."""

    def __init__(self, settings: Settings, simulator: Simulator, effects: Effects) -> None:
        self.simulator = simulator
        self.effects = effects
        self.post = Post(simulator)
        self.lives = 0
        self._settings = settings
        self._life = AsyncExitStack()

    @property
    def res(self) -> Resources:
        """What the present life holds open."""
        return self._res

    async def start(self) -> None:
        """Begin a life, as often as it takes; a worker begins with what it may have missed."""
        while True:
            self.effects.revive() if self.lives else None
            self.lives += 1
            try:
                self._res = await self._life.enter_async_context(open_resources(self._settings))
            except Crashed:
                await self.stop()
                continue
            self._res.random = lambda: 0.0  # back-off is over at once: the story moves time
            if await self._survives(_begin_to_work):
                return
            await self.stop()

    async def stop(self) -> None:
        """The end of a life: sockets close, and nothing is written (a dead process cannot, see `Effects`)."""
        life, self._life = self._life, AsyncExitStack()
        await life.aclose()

    async def live(self, step: Step) -> None:
        """Do a step; if the service dies of it, start it anew and do it again."""
        while not await self._survives(step):
            await self.restart()

    async def restart(self) -> None:
        """A crash between two effects, or after one."""
        await self.stop()
        await self.start()

    async def time_passes(self, hours: float) -> None:
        """All times that are kept are so much longer ago, at Stripe too; nobody waits."""
        self.simulator.set_clock(advance=hours * 3600)
        url = service.make_settings_url(self._settings)
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute(_LONGER_AGO, {"hours": hours})

    async def _survives(self, step: Step) -> bool:
        doing = asyncio.ensure_future(step(self._res))
        dying = asyncio.ensure_future(self.effects.died.wait())
        await asyncio.wait({doing, dying}, return_when=asyncio.FIRST_COMPLETED)
        dying.cancel()
        if not self.effects.died.is_set():
            doing.result()
            return True
        doing.cancel()
        await asyncio.wait({doing, dying})
        return False
