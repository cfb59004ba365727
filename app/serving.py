"""A process of the service, from start to clean shutdown: the web server, the worker, or both on one event loop."""

import asyncio
import gc
import resource
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import structlog
import uvicorn
from fastapi import FastAPI

from app.api.http.connection import Connection
from app.api.http.connections import Connections, Limits
from app.api.http.short_path import ShortPath
from app.errors import CannotListen
from app.observability import tracing
from app.resources import REQUESTS_AT_ONCE, Resources, open_resources, stop
from app.settings import Settings
from app.worker.lanes import be_seen
from app.worker.steps import work

log = structlog.get_logger()

# Requests under way get this long; we promise that a process exits within 15 s.
WEB_GRACE_SECONDS = 5
# Open files other than client connections: the database, Stripe, logs, libraries.
OTHER_FILES = 500


@dataclass(frozen=True, slots=True)
class Running:
    """A running service: its URL (None for a worker alone), and its resources."""

    res: Resources
    url: str | None
    parts: list[asyncio.Task[None]]


@asynccontextmanager
async def running(
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    port: int | None = 0,
    works_queue: bool = True,
    concurrency: int = REQUESTS_AT_ONCE,
    app: Callable[[Resources], FastAPI] | None = None,
) -> AsyncIterator[Running]:
    """The running service; shut down cleanly at the end of the block. `port` None: no web server; 0: any free port."""
    with tracing.exporting():
        async with open_resources(settings, works_queue=works_queue, requests_at_once=concurrency) as res:
            server = None if port is None else make_server((app or _whole_app)(res), settings, host=host, port=port)
            parts = [asyncio.create_task(work(res) if works_queue else be_seen(res), name="worker")]
            try:
                url = None
                if server is not None:
                    parts.append(asyncio.create_task(_serve(server), name="web"))
                    url = await _started(server, parts[-1], host, port)
                log.info("service.started", url=url, worker_id=str(res.worker_id), works_queue=works_queue)
                yield Running(res, url, parts)
            finally:
                stop(res)
                if server is not None:
                    server.should_exit = True
                await asyncio.gather(*parts, return_exceptions=True)
                log.info("service.stopped")


async def run_until(stop: asyncio.Event, settings: Settings, **how: Any) -> None:
    """Run the service (`how`: as `running` takes it) until `stop` is set.

    If one part ends by itself, the others are ended and its error is raised. Setting `stop` also aborts a slow start.
    """
    started = asyncio.Event()
    stopper = asyncio.create_task(stop.wait())
    service = asyncio.create_task(_run(started, stopper, settings, how))
    await asyncio.wait([service, stopper], return_when=asyncio.FIRST_COMPLETED)
    if not started.is_set():
        service.cancel()
    with suppress(asyncio.CancelledError):
        await service
    stopper.cancel()


async def _run(
    started: asyncio.Event, stopper: asyncio.Task[Literal[True]], settings: Settings, how: dict[str, Any]
) -> None:
    async with running(settings, **how) as service:
        started.set()
        _freeze()
        ended, _ = await asyncio.wait([*service.parts, stopper], return_when=asyncio.FIRST_COMPLETED)
        for part in ended - {stopper}:
            part.result()


def _freeze() -> None:
    """What exists after the start stays to the end: the garbage collector need not scan it every time."""
    gc.collect()
    gc.freeze()


class _Server(uvicorn.Server):
    """Uvicorn without signal handlers of its own: the command line has them, and ends the worker too."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def make_server(app: FastAPI, settings: Settings, *, host: str, port: int) -> _Server:
    """Uvicorn with this app, with the settings' limits on every connection."""
    connections = Connections(Limits.of(settings, connections=_make_room_for(settings.max_connections)))
    # Without it, as in a worker's probes, there is no short path.
    endpoint = getattr(app.state, "plain_deliveries", None)
    kind: Callable[..., Connection] = partial(ShortPath, endpoint=endpoint) if endpoint else Connection
    protocol: Any = partial(kind, connections=connections)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=protocol,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=WEB_GRACE_SECONDS,
        server_header=False,
        # The client is the peer that connected: a proxy is believed only by its own setting (app/web/visitors.py).
        proxy_headers=False,
        # Proxies usually keep connections open for 60 s: closing later than they do avoids resets.
        timeout_keep_alive=settings.idle_seconds,  # type: ignore[arg-type]  # a float will do
    )
    return _Server(config)


def _make_room_for(connections: int) -> int:
    """How many of the wanted connections are possible: each needs an open file, as do the database and Stripe.

    The soft limit is often 1,024 files, and is raised as far as allowed.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return connections
    wanted = connections + OTHER_FILES
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(connections, soft - OTHER_FILES))


async def _serve(server: _Server) -> None:
    try:
        await server.serve()
    except SystemExit as error:  # uvicorn could not listen, and has logged why
        raise CannotListen(
            "the web server could not start: if the port is taken, choose another with --port"
        ) from error


def _whole_app(res: Resources) -> FastAPI:
    # A worker never loads it: with the pages and the API it takes a tenth of the memory.
    from app.main import build_app

    return build_app(res)


async def _started(server: _Server, serving: asyncio.Task[None], host: str, port: int | None) -> str:
    while not server.started:
        if serving.done():
            serving.result()
            raise CannotListen(f"the web server ended before it listened on {host}:{port}")
        await asyncio.sleep(0.01)
    actual = server.servers[0].sockets[0].getsockname()[1]
    return f"http://{f'[{host}]' if ':' in host else host}:{actual}"
