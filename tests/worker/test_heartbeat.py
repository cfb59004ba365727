"""The heartbeat and the other tasks beside the lanes: errors of the database do not end them; if one ends, so does the
worker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from structlog.testing import capture_logs

from app.accounts import catch_up
from app.background import beside, outlive
from app.resources import Resources, open_resources
from app.runs.download import download
from app.simulator import Simulator
from app.tables.loading import claim_loads
from app.targets.send import claim_deliveries
from app.vocabulary import TargetKind
from app.worker.lanes import Claimed
from app.worker.steps import DELIVERIES, LOADS, RUNS, work
from tests.runs.ready import claim_download, one_ready_run
from tests.runs.stories import database_of
from tests.service import calls_of, fetch, make_settings, only_run, until_found, working
from tests.targets.stories import add_target, make_due
from tests.until import until
from tests.worker.workers import until_stored

C = TypeVar("C")


@pytest.fixture
async def res(database_url: str, simulator: Simulator) -> AsyncIterator[Resources]:
    """A process that renews its leases every 3 s."""
    async with open_resources(make_settings(database_url, simulator, TALLYHOOK_STALLED_AFTER_SECONDS=12)) as res:
        yield res


@asynccontextmanager
async def read_only(res: Resources) -> AsyncIterator[None]:
    """The database takes no writes, as after a fail-over, and every connection is a new one."""
    await _make_read_only(res, "on")
    try:
        yield
    finally:
        await _make_read_only(res, "off")


async def _make_read_only(res: Resources, how: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_of(res), autocommit=True) as connection:
        await connection.execute("set default_transaction_read_only = off")
        name = connection.info.dbname
        await connection.execute(f'alter database "{name}" set default_transaction_read_only = {how}'.encode())
        await connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )


async def test_leases_are_renewed_after_a_time_in_which_the_database_took_no_writes(
    res: Resources, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a file on its way
    await one_ready_run(res, simulator)
    at_work, go_on, open_file = asyncio.Event(), asyncio.Event(), res.stripe.open_file

    @asynccontextmanager
    async def slowly(*what: Any, **how: Any) -> AsyncIterator[Any]:
        async with open_file(*what, **how) as stream:
            at_work.set()
            await go_on.wait()
            yield stream

    monkeypatch.setattr(res.stripe, "open_file", slowly)
    with capture_logs() as lines:
        async with working(res):
            await at_work.wait()
            claimed = (await only_run(res))["lease_until"]

            # When a heartbeat has met a database that is read-only, and that has passed
            async with read_only(res):
                await until(lambda: any(line["event"] == "heartbeat.database_trouble" for line in lines))

            # Then the lease is renewed, nobody else takes the run, and the file is fetched once
            await until_found(res, "select 1 from runs where lease_until > :claimed", claimed=claimed)
            go_on.set()
            await until_stored(res, 1)

    assert calls_of(simulator)["file_contents"] == 1


async def test_a_heartbeat_waits_for_nothing_that_is_being_recorded_and_renews_nothing_that_was_released(
    res: Resources, simulator: Simulator
) -> None:
    told = {"TALLYHOOK_TABLES": "on", "TALLYHOOK_SLACK_URLS": '{"finance": "https://hooks.example.com/"}'}
    res = replace(res, settings=make_settings(database_of(res), simulator, **told))
    await add_target(res, TargetKind.SLACK, url="finance")
    await one_ready_run(res, simulator)
    run = await claim_download(res)
    await _is_renewed_while_it_is_claimed(res, RUNS, run, "runs")
    await download(res, run)
    await make_due(res)
    (load,), (delivery,) = await claim_loads(res, 1), await claim_deliveries(res, 1)
    await _is_renewed_while_it_is_claimed(res, LOADS, load, "loads")
    await _is_renewed_while_it_is_claimed(res, DELIVERIES, delivery, "deliveries")


async def _is_renewed_while_it_is_claimed(res: Resources, kind: Claimed[C], claim: C, table: str) -> None:
    """It is, but not while its row is locked."""
    renewed = f"select 1 from {table} where lease_until > now() + interval '30 minutes'"
    async with res.sessions.begin() as recording:
        await recording.execute(text(f"select from {table} for update"))
        await _renew(res, kind, claim)
        assert await fetch(res, renewed) == []
    await _renew(res, kind, claim)
    assert len(await fetch(res, renewed)) == 1
    async with res.sessions.begin() as session:
        await kind.release(session, claim)
    await _renew(res, kind, claim)
    assert await fetch(res, f"select 1 from {table} where lease_until is not null") == []


async def _renew(res: Resources, kind: Claimed[C], claim: C) -> None:
    async with res.sessions.begin() as session:
        await session.execute(text("set local lock_timeout = '1 s'"))
        await kind.renew(session, [claim], seconds=3600)


async def test_a_heartbeat_with_an_error_of_our_own_beats_on_and_says_so(
    database_url: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound, calls = catch_up.move_marks, 0

    async def broken(session: AsyncSession, **how: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:  # the first one is at the start
            raise RuntimeError("a bug of ours")
        await sound(session, **how)

    monkeypatch.setattr("app.accounts.catch_up.move_marks", broken)
    settings = make_settings(database_url, simulator, TALLYHOOK_STALLED_AFTER_SECONDS=1)
    with capture_logs() as lines:
        async with open_resources(settings) as res, working(res):
            await until(lambda: sum(line["event"] == "heartbeat.crashed" for line in lines) >= 3)


@pytest.mark.parametrize("error", [RuntimeError("a bug of ours"), None], ids=["with an error", "in silence"])
async def test_a_background_loop_that_ends_takes_the_worker_down(
    res: Resources, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    async def ends(*_: Any, **__: Any) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr("app.worker.lanes.repeat", ends)

    with capture_logs() as lines, pytest.raises(RuntimeError, match=r"a bug of ours|`heartbeat` ended by itself"):
        await work(res)

    assert any(line["event"] == "background.ended" for line in lines) is (error is not None)


async def test_the_block_beside_a_loop_that_ends_is_ended() -> None:
    async def ends() -> None:
        return

    with pytest.raises(RuntimeError, match="`short` ended by itself"):
        async with beside(short=ends()):  # type: ignore[arg-type]
            await asyncio.Event().wait()


async def test_a_loop_that_outlives_errors_does_not_outlive_its_cancellation() -> None:
    async def turns_its_end_into_an_error() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError from None  # as the driver, in the middle of a pipeline

    task = asyncio.create_task(outlive("alarm", turns_its_end_into_an_error()))
    await asyncio.sleep(0)
    task.cancel()

    await asyncio.wait({task})
    assert task.cancelled()
