"""A transaction-mode pooler between us and PostgreSQL: a real pgbouncer, where it is installed."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, make_url

from app.db.engine import PREPARE_AFTER, raw_connection
from app.resources import open_resources
from app.simulator import Simulator
from tests.ports import held_port
from tests.runs.stories import deliver_value
from tests.service import add_rule, fetch, make_settings, unpublished, work_off, working
from tests.until import PATIENCE_SECONDS

PGBOUNCER = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + ":/usr/sbin")

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed (Debian: apt install pgbouncer)")


@pytest.fixture
def pooled_url(database_url: str, tmp_path: Path) -> Iterator[str]:
    """The same database through a pooler that gives every transaction another server connection."""
    url = make_url(database_url)
    account = pwd.getpwnam("postgres" if _has("postgres") else "nobody") if os.geteuid() == 0 else None
    run_as: dict[str, Any] = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
    with held_port() as port:
        config = tmp_path / "pgbouncer.ini"
        config.write_text(_config(url, port))
        # pytest's own folder is closed to the account that the pooler runs as.
        readable = Path(shutil.copy(config, Path(tempfile.gettempdir()) / f"pgbouncer-{port}.ini"))
        readable.chmod(0o644)
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen([str(PGBOUNCER), str(readable)], stdout=log, stderr=log, **run_as)
        try:
            _wait_for(process, port, tmp_path / "log")
            yield f"postgresql://{url.username}@127.0.0.1:{port}/{url.database}"
        finally:
            process.terminate()
            process.wait()
            readable.unlink()


def _config(url: URL, port: int) -> str:
    host = url.host or str(url.query["host"])
    password = f" password={url.password}" if url.password else ""
    return (
        f"[databases]\n* = host={host} port={url.port or 5432} user={url.username}{password}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        "pool_mode = transaction\ndefault_pool_size = 4\nserver_round_robin = 1\n"
        "ignore_startup_parameters = extra_float_digits\n"
    )


async def test_everything_but_listen_works_through_a_transaction_mode_pooler(
    pooled_url: str, database_url: str, simulator: Simulator
) -> None:
    unpublished(simulator, until="2026-03-09")
    settings = make_settings(pooled_url, simulator, TALLYHOOK_DIRECT_DATABASE_URL=database_url)

    async with open_resources(settings) as res:
        await add_rule(res)
        async with working(res):
            await work_off(res)

        assert await fetch(res, "select state, count(*) as runs from runs group by state") == [
            {"state": "stored", "runs": 8}
        ]
        assert len(simulator.runs) == 8


async def test_statements_are_prepared_where_nobody_stands_between_and_nowhere_else(
    pooled_url: str, database_url: str, simulator: Simulator
) -> None:
    for url, direct in ((database_url, True), (pooled_url, False)):
        async with open_resources(make_settings(url, simulator, TALLYHOOK_DIRECT_DATABASE_URL=database_url)) as res:
            for number in range(20):  # through the pooler: on all of its server connections
                await deliver_value(res, {"object": "event", "id": f"evt_{direct}_{number}", "type": "x.y"})
            kept = await res.intake._own[0].execute("select count(*)::text from pg_prepared_statements")
            assert (kept.get_value(0, 0) != b"0") is direct
            for _ in range(PREPARE_AFTER + 1):
                await fetch(res, "select 1 as n")
            async with res.engine.connect() as connection, raw_connection(connection) as raw:
                assert bool(raw._prepared._names) is direct
            assert await fetch(res, "select count(*) as n from events where stripe_event_id like 'evt_%'") == [
                {"n": 20 if direct else 40}
            ]


def _has(account: str) -> bool:
    try:
        pwd.getpwnam(account)
    except KeyError:
        return False
    return True


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
