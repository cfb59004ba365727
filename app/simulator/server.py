"""Serves a simulator over HTTP, in the caller's event loop, and stops at once on exit."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from app.simulator.commands import commands_of
from app.simulator.http.connection import OpenProtocol
from app.simulator.http.routes import application
from app.simulator.simulator import Simulator

HOST = "127.0.0.1"


@asynccontextmanager
async def serve(simulator: Simulator, *, host: str = HOST, port: int = 0) -> AsyncIterator[str]:
    """Yields the base URL, for the API and the files alike; `port=0` takes a free one."""
    loop = asyncio.get_running_loop()
    state = ServerState()
    config = uvicorn.Config(
        _Quiet(application(simulator.world, commands_of(simulator))),
        http=OpenProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
    )
    # uvicorn's Server handles signals and takes a tenth of a second to stop; its protocol alone does neither.
    server = await loop.create_server(lambda: OpenProtocol(config, state, {}), host, port, backlog=1024)
    base_url = f"http://{host}:{server.sockets[0].getsockname()[1]}"
    simulator.world.base_url = base_url
    simulator.world.sender.start()
    simulator.world.agenda.follow(loop)
    try:
        yield base_url
    finally:
        simulator.world.agenda.rest()
        await simulator.world.sender.stop()
        await _stop(server, state)


async def _stop(server: asyncio.Server, state: ServerState) -> None:
    server.close()
    for connection in list(state.connections):
        connection.transport.abort()
    # One turn of the loop, in which the connections notice that they are lost.
    await asyncio.sleep(0)
    tasks = list(state.tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await server.wait_closed()


class _Quiet:
    """An answer interrupted by the end of the server is not an error that uvicorn should log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            return
