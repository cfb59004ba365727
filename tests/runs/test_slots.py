"""How many runs are pending, and whose turn it is: slots are counted over all processes, and no rule waits for
another."""

import asyncio
import itertools
from dataclasses import replace

import pytest

from app import handlers
from app.accounts import holds
from app.resources import Resources, open_resources
from app.runs import manual, moves, request_claim
from app.runs.request import request_run
from app.runs.request_claim import _claim_for_account, claim_requests
from app.simulator import Simulator
from app.upkeep.reconcile import reconcile
from app.vocabulary import CallKind, Lane, RunState
from tests.runs.stories import (
    CREATE,
    another_process,
    days_due,
    deliver,
    everything_is_due,
    somebody_waits_for_a_lock,
    states,
)
from tests.service import (
    REPORT_TYPE,
    add_rule,
    at,
    execute,
    fetch,
    make_settings,
    request_due,
    unpublished,
    until_found,
)

OTHER_TYPE = "balance.summary.1"
CONNECT_TYPE = "connected_account_balance_change_from_activity.itemized.3"


async def test_three_processes_at_once_never_have_more_stripe_runs_pending_than_there_are_slots(
    res: Resources, simulator: Simulator
) -> None:
    await days_due(res, simulator, 28)
    simulator.configure(outcome="hang")
    most = 0

    async def ask(process: Resources) -> None:
        nonlocal most
        while len(simulator.runs) < 28:
            for claim in await claim_requests(process, 4):
                await request_run(process, claim)
                pending = [run for run in simulator.runs if run.status == "pending"]
                most = max(most, len(pending))
                if len(pending) == 5:
                    simulator.finish_run(pending[0].id)
                    await execute(
                        process, "update runs set state = 'stored', asked_at = null from attempts"
                        " where attempts.run_id = runs.id and stripe_run_id = :id", id=pending[0].id,
                    )  # fmt: skip

    async with (
        another_process(res, simulator, TALLYHOOK_MAX_PENDING_RUNS=5) as first,
        another_process(res, simulator, TALLYHOOK_MAX_PENDING_RUNS=5) as second,
        another_process(res, simulator, TALLYHOOK_MAX_PENDING_RUNS=5) as third,
    ):
        await asyncio.gather(ask(first), ask(second), ask(third))

    assert most == 5
    assert len(simulator.runs) == 28


async def test_a_claim_waits_for_no_run_that_is_being_cancelled(res: Resources, simulator: Simulator) -> None:
    # Given two runs of a held account, of which one is being cancelled
    await days_due(res, simulator, 2)
    simulator.inject("status", status=401, times=None, match=CREATE)
    await request_due(res)
    await everything_is_due(res)
    going, staying = await fetch(res, "select id from runs order by refused_at")

    async with res.sessions.begin() as cancelling:
        assert await moves.move(cancelling, going["id"], to=RunState.CANCELLED, reason="a test")

        # When another process claims
        claiming = asyncio.create_task(claim_requests(res, 10))
        waiting = asyncio.create_task(somebody_waits_for_a_lock(res))
        await asyncio.wait({claiming, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()

        # Then it has claimed the other run, and holds nothing that the cancellation may still need
        await holds.accepted(cancelling, "default", CallKind.CREATE)
    assert [claim.run_id for claim in await claiming] == [staying["id"]]


async def test_a_claim_does_not_wait_for_one_that_is_taking_slots_and_takes_the_rest_by_itself(
    res: Resources, simulator: Simulator
) -> None:
    await days_due(res, simulator, 9)
    async with (
        another_process(res, simulator, TALLYHOOK_MAX_PENDING_RUNS=3) as one,
        another_process(res, simulator, TALLYHOOK_MAX_PENDING_RUNS=3) as other,
    ):
        # Given a claim that is not committed
        async with one.sessions.begin() as session:
            first = await _claim_for_account(session, "default", 2, one.claim_terms)

            # When another process claims, then it returns at once, with nothing
            assert await claim_requests(other, 10) == []
            # and looks again, until the first claim is committed
            assert await other.wakeups.wait(Lane.REQUESTS, seconds=60)
            assert await claim_requests(other, 10) == []
        assert await other.wakeups.wait(Lane.REQUESTS, seconds=60)
        second = await claim_requests(other, 10)

        # Then it takes what is left
        assert (len(first), len(second)) == (2, 1)
        assert not await other.wakeups.wait(Lane.REQUESTS, seconds=0)


async def test_a_create_whose_answer_is_not_known_keeps_its_slot(res: Resources, simulator: Simulator) -> None:
    await days_due(res, simulator, 4)
    simulator.configure(outcome="hang")
    simulator.inject("cut", when="after", times=2, match=CREATE)
    async with another_process(res, simulator, TALLYHOOK_MAX_PENDING_RUNS=2) as narrow:
        assert await request_due(narrow) == 2
        await everything_is_due(narrow)

        assert await request_due(narrow) == 2, "the same two again"
        assert await request_due(narrow) == 0

    assert len(simulator.runs) == 2


async def test_unanswered_creates_are_asked_again_even_when_many_newer_windows_came_meanwhile(
    res: Resources, simulator: Simulator
) -> None:
    await days_due(res, simulator, 2)
    simulator.inject("cut", when="before", times=2, match=CREATE)
    async with another_process(res, simulator, TALLYHOOK_MAX_PENDING_RUNS=2) as narrow:
        assert await request_due(narrow) == 2
        unpublished(simulator, until="2026-04-20")
        await reconcile(res)
        await everything_is_due(narrow)

        claims = await claim_requests(narrow, 2)

    assert {claim.parameters["interval_start"] for claim in claims} == {
        int(at("2026-03-01").timestamp()),
        int(at("2026-03-02").timestamp()),
    }


async def test_a_backfill_of_two_years_holds_up_neither_its_own_newest_window_nor_another_rule(
    res: Resources, simulator: Simulator
) -> None:
    kind = simulator.report_type(REPORT_TYPE)
    kind.data_available_start = int(at("2024-03-01").timestamp())
    unpublished(simulator, OTHER_TYPE, until="2026-03-02")
    unpublished(simulator, until="2026-03-01")
    kind.data_available_start = int(at("2024-03-01").timestamp())
    await reconcile(res)
    long = await add_rule(res, name="two years", starts_on=at("2024-03-01").date())
    simulator.configure(outcome="hang")
    assert await request_due(res) == 20, "all slots"
    short = await add_rule(res, name="today", report_type=OTHER_TYPE)
    for run in simulator.runs[:2]:
        simulator.finish_run(run.id)
    await execute(
        res, "update runs set state = 'ready' from attempts where run_id = id and stripe_run_id = any(:done)",
        done=[run.id for run in simulator.runs[:2]],
    )  # fmt: skip

    assert await request_due(res) == 2

    newest, after = await fetch(
        res, "select rule_id, interval_end from runs where state = 'requested' order by requested_at desc limit 2"
    )
    assert {newest["rule_id"], after["rule_id"]} == {long.id, short.id}
    ends = [run["interval_end"] for run in await fetch(
        res, "select interval_end from runs where rule_id = :rule and state in ('requested', 'ready')", rule=long.id
    )]  # fmt: skip
    assert max(ends) == at("2026-03-01"), "its own newest window came first"
    assert (await states(res))["planned"] == 730 - 21


async def two_cancelled_at_stripe(res: Resources, simulator: Simulator) -> None:
    """Four days are due; the runs of two of them were requested, and then cancelled."""
    await days_due(res, simulator, 4)
    assert await request_due(res) == 2
    for run in await fetch(res, "select id from runs where state = 'requested'"):
        async with res.sessions.begin() as session:
            await manual.cancel(session, run["id"], by="test")


async def test_a_cancelled_run_holds_its_slot_until_stripe_is_done_with_it(
    database_url: str, simulator: Simulator
) -> None:
    simulator.configure(delay=3600)
    async with open_resources(make_settings(database_url, simulator, TALLYHOOK_MAX_PENDING_RUNS=2)) as res:
        await two_cancelled_at_stripe(res, simulator)
        assert await request_due(res) == 0

        first, second = simulator.runs
        simulator.finish_run(first.id)
        await deliver(res, simulator.events[-1])
        await handlers.drain(res)
        assert await request_due(res) == 1
        simulator.finish_run(second.id, outcome="fail")  # and no event ever says so
        assert await request_due(res) == 0
        await reconcile(res)

        assert await request_due(res) == 1
        assert await states(res) == {"cancelled": 2, "requested": 2}


async def test_a_cancelled_run_that_may_not_be_read_holds_nothing_and_the_others_are_looked_up(
    database_url: str, simulator: Simulator
) -> None:
    simulator.configure(delay=3600)
    async with open_resources(make_settings(database_url, simulator, TALLYHOOK_MAX_PENDING_RUNS=2)) as res:
        await two_cancelled_at_stripe(res, simulator)
        for one in simulator.runs:
            simulator.finish_run(one.id, outcome="fail")
        oldest = (await fetch(res, "select stripe_run_id from attempts order by requested_at limit 1"))[0]
        simulator.inject("status", status=403, match={"method": "GET", "path": oldest["stripe_run_id"]})

        await reconcile(res)

        assert await fetch(res, "select 1 from account_holds") == []
        assert await request_due(res) == 1


async def test_with_more_rules_than_one_claim_looks_at_each_has_its_turn(
    res: Resources, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_claim, "MOST_RULES", 2)
    simulator.configure(outcome="hang")
    unpublished(simulator, until="2026-03-02")
    await reconcile(res)
    rules = {(await add_rule(res, name=f"rule {number}")).id for number in range(7)}
    draws = itertools.cycle([0.0, 0.3, 0.6, 0.9])
    drawing = replace(res, random=lambda: next(draws))

    for _ in range(20):
        for claim in await claim_requests(drawing, 1):
            await request_run(res, claim)

    asked = await fetch(res, "select rule_id from runs where state = 'requested'")
    assert {run["rule_id"] for run in asked} == rules


async def test_a_run_that_waits_for_nothing_but_a_slot_is_the_one_that_is_claimed(
    res: Resources, simulator: Simulator
) -> None:
    # One view says what is in the way: for the claim, `waiting`, health and the metrics.
    await days_due(res, simulator, 6)
    blocked = {
        "leased": "lease_until = now() + interval '1 hour'",
        "beyond_availability": "interval_end = '2027-01-01'",
        "refused": "refused_at_availability = '2026-03-07'",
        "type_missing": "report_type = 'gone.1'",
    }
    await execute(
        res, "insert into report_types (account, id, missing_since, next_probe_at)"
        " values ('default', 'gone.1', now(), now() + interval '1 hour')",
    )  # fmt: skip
    for day, change in enumerate(blocked.values(), start=1):
        await execute(res, f"update runs set {change} where window_key = '2026-03-{day:02}'")
    workable = {row["run_id"] for row in await fetch(res, "select run_id from run_readiness where workable")}

    claimed = {claim.run_id for claim in await claim_requests(res, 10)}

    assert claimed == workable
    assert len(claimed) == 2


async def test_where_slots_do_not_suffice_it_is_not_always_the_same_connected_accounts_that_get_none(
    res: Resources, simulator: Simulator
) -> None:
    unpublished(simulator, CONNECT_TYPE)
    await reconcile(res)
    accounts = [f"acct_{number:02}" for number in range(30)]
    await add_rule(res, report_type=CONNECT_TYPE, connected_accounts=accounts)
    orders = []
    for day in ("2026-03-02", "2026-03-03", "2026-03-04"):
        unpublished(simulator, CONNECT_TYPE, until=day)
        await reconcile(res)
        async with another_process(res, simulator, TALLYHOOK_MAX_PENDING_RUNS=30) as process:
            claims = await claim_requests(process, 30)
        orders.append([str(claim.parameters["connected_account"]) for claim in claims])
        assert sorted(orders[-1]) == accounts  # the newest window of each, before the rest of older ones
        await execute(res, "update runs set state = 'stored', asked_at = null, lease_until = null")

    assert len({tuple(order) for order in orders}) == len(orders)


async def test_within_a_window_the_account_that_backed_off_comes_last(res: Resources, simulator: Simulator) -> None:
    unpublished(simulator, CONNECT_TYPE)
    await reconcile(res)
    await add_rule(res, report_type=CONNECT_TYPE, connected_accounts=["acct_a", "acct_b", "acct_c"])
    unpublished(simulator, CONNECT_TYPE, until="2026-03-02")
    await reconcile(res)
    await execute(res, "update runs set due_at = due_at + interval '1 second' where connected_account = 'acct_a'")
    await until_found(res, "select 1 from runs having bool_and(due_at <= clock_timestamp())")

    claims = await claim_requests(res, 3)

    assert claims[-1].parameters["connected_account"] == "acct_a"
