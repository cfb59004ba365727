"""The worker as a whole: it finishes what it finds, and survives what happens."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import psycopg
import pytest

from app import handlers
from app.db.engine import make_engine
from app.resources import Resources, open_resources
from app.runs.download import claim_downloads
from app.runs.request_claim import claim_requests
from app.runs.transfer import DownloadClaim
from app.serving import running
from app.simulator import Simulator
from app.stripe_api.objects import StripeRun
from app.upkeep.reconcile import reconcile
from app.vocabulary import EventType, Lane
from app.worker.due import Alarm
from app.worker.lanes import Line, Loop, Pool, _Engine, _work_loop, _work_pool
from app.worker.steps import RUNS, work
from tests.detour import detour
from tests.runs.ready import one_ready_run
from tests.runs.stories import (
    CONTENTS,
    attempts,
    days_due,
    deliver,
    deliver_value,
    keys_used,
    one_due_run,
    states,
)
from tests.service import (
    REPORT_TYPE,
    WEBHOOK_SECRET,
    add_rule,
    at,
    execute,
    fetch,
    make_settings,
    only_run,
    unpublished,
    until_found,
    working,
)
from tests.until import PATIENCE_SECONDS, until
from tests.worker.workers import QUICK, called, until_stored


@pytest.fixture
async def quick(database_url: str, simulator: Simulator) -> AsyncIterator[Resources]:
    """A process that takes over after a second."""
    async with open_resources(make_settings(database_url, simulator, **QUICK)) as res:
        yield res


async def test_a_worker_brings_everything_in_by_itself(res: Resources, simulator: Simulator) -> None:
    unpublished(simulator, until="2026-03-06")
    await add_rule(res)

    async with working(res):
        await until_stored(res, 5)

    assert len(simulator.runs) == 5


async def test_the_next_run_starts_when_one_settles_and_not_at_the_next_poll(
    database_url: str, simulator: Simulator
) -> None:
    settings = make_settings(database_url, simulator, TALLYHOOK_MAX_PENDING_RUNS=1, TALLYHOOK_PENDING_POLL_SECONDS=900)
    async with running(settings) as service:
        simulator.add_endpoint(f"{service.url}/webhooks/stripe", secrets=[WEBHOOK_SECRET])
        unpublished(simulator, until="2026-03-09")
        await reconcile(service.res)
        await add_rule(service.res)

        await until_stored(service.res, 8)

    assert simulator.world.journal.counts["retrieve_run"] == 0


async def test_work_is_not_taken_from_a_worker_that_is_only_slow(
    database_url: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a worker that renews its lease every 2 s, and a call to Stripe that lasts
    settings = make_settings(database_url, simulator, TALLYHOOK_STALLED_AFTER_SECONDS=8)
    async with open_resources(settings) as res, open_resources(settings) as other:
        await one_due_run(res, simulator)
        at_work, go_on, create_run = asyncio.Event(), asyncio.Event(), res.stripe.create_run

        async def slowly(*what: Any, **how: Any) -> StripeRun:
            at_work.set()
            await go_on.wait()
            return await create_run(*what, **how)

        monkeypatch.setattr(res.stripe, "create_run", slowly)
        async with working(res):
            await at_work.wait()
            claimed = (await only_run(res))["lease_until"]

            # When the lease has been renewed
            await until_found(res, "select 1 from runs where lease_until > :claimed", claimed=claimed)

            # Then nobody else gets the run, and one call makes it
            assert await claim_requests(other, 10) == []
            assert (await only_run(res))["leased_by"] == res.worker_id
            go_on.set()
            await until_stored(res, 1)

    assert len(simulator.creates) == 1


async def test_steps_that_are_stopped_are_due_again_at_once(res: Resources, simulator: Simulator) -> None:
    await one_due_run(res, simulator)
    simulator.inject("slow", seconds=30, match=CONTENTS)
    async with working(res):
        await until(called(simulator, "download"))

    (run,) = await fetch(res, "select lease_until, due_at <= now() as due, attempt, crashes, tries from runs")
    assert dict(run) == {"lease_until": None, "due": True, "attempt": 1, "crashes": 0, "tries": 0}


async def test_a_step_whose_cancellation_the_driver_turns_into_an_error_is_due_again_at_once(
    res: Resources, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await one_ready_run(res, simulator)
    begun = asyncio.Event()

    async def in_a_pipeline(_res: Resources, _claim: DownloadClaim) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise psycopg.OperationalError("sending query failed") from None

    monkeypatch.setattr("app.worker.steps.download", in_a_pipeline)
    async with working(res):
        await begun.wait()

    (run,) = await fetch(res, "select lease_until, due_at <= now() as due from runs where fence > 0")
    assert dict(run) == {"lease_until": None, "due": True}


async def test_a_lost_listen_connection_is_made_again_and_only_slows_things_down(
    res: Resources, simulator: Simulator
) -> None:
    await reconcile(res)
    await add_rule(res)
    async with working(res):
        await until(_listening(res))
        await execute(
            res, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tallyhook-listen'"
            " and datname = current_database()",
        )  # fmt: skip
        unpublished(simulator, until="2026-03-02")
        await reconcile(res)
        await until_stored(res, 1)
        await until(_listening(res))


def _listening(res: Resources) -> Callable[[], Awaitable[bool]]:
    async def met() -> bool:
        found = await fetch(
            res, "select 1 from pg_stat_activity where application_name = 'tallyhook-listen'"
            " and datname = current_database()",
        )  # fmt: skip
        return res.wakeups.listening and bool(found)

    return met


async def test_connections_that_break_again_and_again_lose_and_double_nothing(
    quick: Resources, simulator: Simulator, database_url: str
) -> None:
    simulator.configure(delay=0.05)
    unpublished(simulator, until="2026-03-26")
    await reconcile(quick)
    await add_rule(quick)

    async def break_connections() -> None:
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
            for times in range(1, 9):
                await until(lambda: len(simulator.runs) >= 2 * times)  # noqa: B023 - awaited within the turn
                await connection.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where datname = current_database() and pid <> pg_backend_pid()"
                )

    async with working(quick):
        await break_connections()
        await until_stored(quick, 25)

    assert {run["attempt"] for run in await fetch(quick, "select attempt from runs")} == {1}
    assert {run["crashes"] for run in await fetch(quick, "select crashes from runs")} == {0}
    assert len(simulator.runs) == 25
    assert await fetch(quick, "select 1 from files where stored_at is null") == []


async def test_a_worker_whose_connections_a_network_swallowed_continues_with_new_ones(
    database_url: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        make_engine, "__kwdefaults__", {**(make_engine.__kwdefaults__ or {}), "transaction_seconds": 1.0}
    )
    monkeypatch.setattr("app.queue.wakeups.POLL_SECONDS", 0.2)  # LISTEN may be deaf for a while
    monkeypatch.setattr("app.worker.steps.POLL_SECONDS", 0.2)
    simulator.configure(delay=0.05)
    unpublished(simulator, until="2026-03-26")
    async with detour(database_url) as way, open_resources(make_settings(way.url, simulator, **QUICK)) as res:
        await reconcile(res)
        await add_rule(res)
        async with working(res):
            for made in (3, 9, 15):
                await until(lambda: len(simulator.runs) >= made)  # noqa: B023 - awaited within the turn
                way.swallow()
            await until_stored(res, 25)

        assert {run["crashes"] for run in await fetch(res, "select crashes from runs")} == {0}
        assert len(simulator.runs) == 25


async def test_a_process_that_ends_as_it_claims_releases_the_claim(
    res: Resources, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await one_ready_run(res, simulator)

    async def claim_and_end(res: Resources, limit: int, *, big: bool) -> list[DownloadClaim]:
        claims = await claim_downloads(res, limit, big=big)
        if claims:
            res.stopping.set()
        return claims

    monkeypatch.setattr("app.worker.steps.claim_downloads", claim_and_end)
    await work(res)

    assert (await only_run(res))["state"] == "ready"
    assert await fetch(res, "select 1 from runs where fence > 0 and lease_until is null"), "claimed, and released"


async def test_a_process_whose_database_is_silent_still_ends(
    database_url: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a service that looks for work on a network that carries nothing
    monkeypatch.setattr(
        make_engine, "__kwdefaults__", {**(make_engine.__kwdefaults__ or {}), "transaction_seconds": 3600.0}
    )
    monkeypatch.setattr("app.db.cutting.LAST_SECONDS", 0.5)
    monkeypatch.setattr("app.db.cutting.LATER_SECONDS", 0.2)
    monkeypatch.setattr("app.db.cutting.NOTHING_AFTER_SECONDS", 1.0)
    async with detour(database_url) as way, asyncio.timeout(PATIENCE_SECONDS):
        async with running(make_settings(way.url, simulator)) as service:
            pool: Any = service.res.engine.sync_engine.pool
            await until_found(service.res, "select 1 from workers")
            await until(lambda: pool.checkedout() == 0)
            way.stall()
            service.res.wakeups.ring([Lane.REQUESTS, Lane.LOOKUPS, Lane.DOWNLOADS])
            await until(lambda: pool.checkedout() >= 3)

            # When it is asked to stop, then it does

        way.flow()


async def test_the_grace_of_calls_begins_with_the_stop_though_the_lane_notices_it_later(res: Resources) -> None:
    engine = _Engine(res, Alarm(res, {}))
    assert engine.grace(8.0) == 0.0, "nothing stops"

    res.stopping.set()
    whole = engine.grace(8.0)
    await asyncio.sleep(0.01)

    assert engine.grace(8.0) < whole == 8.0
    assert engine.grace(0.0) == 0.0


async def test_a_run_that_keeps_crashing_is_failed_as_internal_redacted_and_blocks_nobody(
    res: Resources, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await days_due(res, simulator, 3)
    healthy = res.stripe.create_run
    (poisoned,) = await fetch(res, "select id, parameters from runs where interval_start = '2026-03-02+00'")

    async def create_run(account: str, report_type: str, **how: Any) -> StripeRun:
        if how["parameters"] == poisoned["parameters"]:
            raise RuntimeError("boom with sk_test_4242424242424242")
        return await healthy(account, report_type, **how)

    monkeypatch.setattr(res.stripe, "create_run", create_run)
    async with working(res):
        await until(_is_failed(res))
        await until_stored(res, 2)

    (run,) = await fetch(res, "select state, error from runs where id = :id", id=poisoned["id"])
    assert run["error"]["kind"] == "internal"
    assert run["error"]["message"].startswith("RuntimeError: boom with ")
    assert "4242" not in run["error"]["message"]


def _is_failed(res: Resources) -> Callable[[], Awaitable[bool]]:
    async def met() -> bool:
        return (await states(res))["failed"] == 1

    return met


async def test_a_poison_event_does_not_stop_the_lane_that_it_lies_in(
    database_url: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def poisoned(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setitem(handlers.HANDLERS, EventType.REPORT_RUN_FAILED, poisoned)
    hour = {"TALLYHOOK_RETRY_BASE_SECONDS": 3600, "TALLYHOOK_RETRY_MAX_SECONDS": 3600}
    async with open_resources(make_settings(database_url, simulator, **hour), random=lambda: 1.0) as res:
        event = {"id": "evt_1", "object": "event", "created": 1, "livemode": False}
        await deliver_value(res, {**event, "type": "reporting.report_run.failed", "data": {"object": {"id": "frr_1"}}})
        async with working(res):
            await until_found(res, "select 1 from events where tries > 0")
            simulator.advance(REPORT_TYPE, to=at("2026-03-02"))
            await deliver(res, simulator.events[-1])
            await until_found(res, "select 1 from events where status = 'handled'")

        (kept,) = await fetch(res, "select status, tries from events where stripe_event_id = 'evt_1'")
        assert (kept["status"], kept["tries"]) == ("pending", 1)


async def test_a_worker_with_a_key_of_another_account_makes_no_run_there(
    database_url: str, simulator: Simulator
) -> None:
    # Given two accounts that owe a report each, and one whose key was replaced by a stranger's
    simulator.add_account("other")
    simulator.add_account("sound")
    sound = {"sound": {"api_key": simulator.account("sound").keys[0].secret}}
    both = {"STRIPE_ACCOUNTS": json.dumps(sound)}
    async with open_resources(make_settings(database_url, simulator, **both)) as res:
        simulator.report_type(REPORT_TYPE, account="sound").data_available_end = int(at("2026-03-02").timestamp())
        await one_due_run(res, simulator)
        await add_rule(res, account="sound")
        assert len(await fetch(res, "select 1 from runs where state = 'planned'")) == 2
    elsewhere = simulator.account("other").keys[0].secret

    async with open_resources(make_settings(database_url, simulator, STRIPE_API_KEY=elsewhere, **both)) as res:
        # When the worker has brought in what the other account is owed, and looked for more
        async with working(res):
            await until_stored(res, 1)

        # Then it has requested nothing with the stranger's key
        assert len(await fetch(res, "select 1 from account_holds where account = 'default'")) == 3
        assert len(simulator.account("other").runs) == 0
        (run,) = await fetch(res, "select state from runs where account = 'default'")
        assert run["state"] == "planned"


async def test_many_processes_share_the_work_and_make_one_stripe_run_per_window(
    res: Resources, simulator: Simulator
) -> None:
    unpublished(simulator, until="2026-03-29")
    await reconcile(res)
    await add_rule(res, report_type=REPORT_TYPE)

    async with (
        open_resources(res.settings) as second,
        open_resources(res.settings) as third,
        working(res),
        working(second),
        working(third),
    ):
        await until_stored(res, 28)

    assert len(simulator.runs) == 28
    assert len(await attempts(res)) == 28
    # A lease that a busy machine lost is taken over with the same key.
    assert len(set(keys_used(simulator))) == 28


async def test_a_loop_looks_again_at_once_only_after_a_full_batch(
    res: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [2, 2, 1, 0]

    async def step(_: Resources) -> int:
        return left.pop(0)

    async def rest(_: Lane) -> None:
        res.stopping.set()

    monkeypatch.setattr(res.wakeups, "wait", rest)
    await _work_loop(_Engine(res, Alarm(res, {Lane.INBOX: []})), Loop(Lane.INBOX, step, next_due=[], batch=2))

    assert left == [0]


@pytest.mark.parametrize(("slots", "looks_soon"), [(2, True), (1, False)], ids=["room left", "full"])
async def test_a_pool_looks_again_after_a_step_at_once_if_it_was_full_and_a_little_later_if_not(
    res: Resources, monkeypatch: pytest.MonkeyPatch, slots: int, looks_soon: bool
) -> None:
    due, rung, soon = [object()], list[Lane](), list[Lane]()

    async def claim(_: Resources, limit: int) -> list[object]:
        return [due.pop() for _ in range(min(limit, len(due)))]

    async def step(_: Resources, claim: object) -> None:
        res.stopping.set()

    def ring(lanes: Iterable[Lane]) -> None:
        rung.extend(lanes)

    def ring_soon(lane: Lane, *, seconds: float) -> None:
        soon.append(lane)

    async def wait(_: Lane) -> None:
        await until(lambda: rung or soon)

    for name, instead in (("ring", ring), ("ring_soon", ring_soon), ("wait", wait)):
        monkeypatch.setattr(res.wakeups, name, instead)
    pool: Pool[Any] = Pool(
        Lane.DOWNLOADS, slots=slots, claim=claim, step=step, kind=RUNS, line=lambda _: Line("x", {}), next_due=[],
        patience=60.0,
    )  # fmt: skip
    await _work_pool(_Engine(res, Alarm(res, {Lane.DOWNLOADS: []})), pool)

    assert (soon, rung) == (([Lane.DOWNLOADS], []) if looks_soon else ([], [Lane.DOWNLOADS]))
