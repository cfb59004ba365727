"""The commands and their options; each imports what it needs when it runs, so that `--help` is quick."""

import asyncio
import json
import logging
import socket
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.ending import run, run_once
from app.cli.values import PORT, whole
from app.errors import TallyhookError

if TYPE_CHECKING:
    from app.settings import Settings

Host = Annotated[str, typer.Option(help="The address to listen on.")]
Port = Annotated[int, typer.Option(help="The port to listen on.", parser=PORT, metavar="N")]
ProbesPort = Annotated[
    int | None, typer.Option(help="Serve this process's /health and /metrics on this port.", parser=PORT, metavar="N")
]


def serve(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    worker: Annotated[bool, typer.Option("--worker/--no-worker", help="Also work the queue in this process.")] = True,
) -> None:
    """Migrate, then receive webhooks, answer the admin API and (unless told not to) work the queue."""
    from app.observability.lighter import loading

    with loading():
        from app.main import build_app
        from app.serving import run_until

    settings = _settings()
    _tell(settings.missing())
    run(lambda stop: run_until(stop, settings, host=host, port=port, works_queue=worker, app=build_app))


def worker(
    concurrency: Annotated[
        int, typer.Option(help="The most calls to Stripe at once.", parser=whole(1, 100), metavar="N")
    ] = 16,
    host: Host = "127.0.0.1",
    port: ProbesPort = None,
) -> None:
    """Work the queue only. Run as many as you like, beside any number of `serve`."""
    from app.observability.lighter import loading

    with loading():
        from app.probes import build_probes
        from app.serving import run_until

    settings = _settings()
    if not settings.accounts:
        _tell(settings.missing())
    run(lambda stop: run_until(stop, settings, host=host, port=port, concurrency=concurrency, app=build_probes))


def migrate(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Upgrade the database's schema to this version; if that fails, nothing changes."""
    from app.db.in_thread import in_thread
    from app.db.migrate import migrate as migrate_to_head
    from app.db.migrate import read_revision, schema_is_at
    from app.resources import open_database

    settings = _settings()

    async def bring_to_head() -> str | None:
        async with open_database(settings) as url:
            direct = settings.direct_url(url)
            await in_thread(partial(migrate_to_head, direct, reports_schema=settings.schema_of_tables))
            return await in_thread(partial(read_revision, direct))

    revision = run_once(bring_to_head)
    typer.echo(json.dumps({"revision": revision}) if as_json else schema_is_at(revision))


def demo(
    once: Annotated[
        bool, typer.Option("--once", help="Exit when done: code 0 if everything is stored, otherwise 1.")
    ] = False,
    days: Annotated[int, typer.Option(help="How many days to simulate.", parser=whole(1, 60), metavar="N")] = 3,
    port: Annotated[
        int | None, typer.Option(help="Port of the service. Default: 8000, or a free one.", parser=PORT, metavar="N")
    ] = None,
) -> None:
    """Show the whole flow on this machine, without a Stripe account: simulator, database, service, stored files."""
    from app.cli.demo.play import play
    from app.observability.logs import configure_logs

    configure_logs()
    logging.getLogger().setLevel(logging.ERROR)  # the screen shows the story; only errors are logged
    failures: list[str] = []

    async def show(stop: asyncio.Event) -> None:
        failures.extend(await play(stop, once=once, days=days, port=_free(8000) if port is None else port))

    run(show)
    if failures:
        raise TallyhookError("the demo did not finish: " + "; ".join(failures))


def _free(port: int) -> int:
    """This port, or 0 (any) if it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port


def _settings() -> "Settings":
    from app.observability.logs import configure_logs
    from app.settings import load_settings

    settings = load_settings()
    configure_logs(secrets=settings.secret_values())
    _tell(settings.warnings)
    return settings


def _tell(warnings: Iterable[str]) -> None:
    import structlog

    for warning in warnings:
        structlog.get_logger().warning("settings.warning", detail=warning)
