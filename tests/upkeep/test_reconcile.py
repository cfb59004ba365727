"""What nobody told: the timetable asks, and brings everything in without a single webhook."""

import asyncio
import json
from dataclasses import replace
from itertools import pairwise

import pytest

from app.errors import NotNow
from app.resources import Resources, open_resources
from app.rules import schedule, store
from app.simulator import Simulator
from app.upkeep.reconcile import reconcile
from app.worker.steps import timetable
from tests.runs.stories import LIST_TYPES, another_process, days_due, everything_is_due, states
from tests.service import (
    REPORT_TYPE,
    add_rule,
    execute,
    fetch,
    make_settings,
    make_timetable_due,
    timetable_due,
    unpublished,
    work_off,
)


async def test_everything_comes_in_without_a_single_webhook(res: Resources, simulator: Simulator) -> None:
    await reconcile(res)
    await add_rule(res, name="days")
    await add_rule(res, name="updates", cadence="every_update")
    for end in ("2026-03-02", "2026-03-03T12:00", "2026-03-05"):
        unpublished(simulator, until=end)
        await work_off(res)

    assert await states(res) == {"stored": 4 + 3}
    assert await fetch(res, "select 1 from events") == []
    assert len(simulator.runs) == 7


async def test_windows_of_every_update_follow_each_other_without_gap_or_overlap(
    res: Resources, simulator: Simulator
) -> None:
    await reconcile(res)
    await add_rule(res, cadence="every_update")
    for end in ("2026-03-01T12:00", "2026-03-02", "2026-03-02", "2026-03-01T12:00", "2026-03-04"):
        unpublished(simulator, until=end)
        await reconcile(res)

    windows = await fetch(res, "select interval_start, interval_end from runs order by 1")
    assert len(windows) == 3
    assert all(one["interval_end"] == next_["interval_start"] for one, next_ in pairwise(windows))


async def test_a_connected_account_that_was_taken_out_and_put_back_misses_nothing_of_an_every_update_rule(
    res: Resources, simulator: Simulator
) -> None:
    connect = "connected_account_balance_change_from_activity.itemized.3"
    unpublished(simulator, connect, until="2026-03-02")
    await reconcile(res)
    rule = await add_rule(res, cadence="every_update", report_type=connect, connected_accounts=["acct_a", "acct_b"])
    for accounts in (["acct_a"], ["acct_a", "acct_b"]):
        unpublished(simulator, connect, until="2026-03-04" if len(accounts) == 1 else "2026-03-05")
        async with res.sessions.begin() as session:
            locked = await store.get(session, rule.id, lock=True)
            await store.change(session, locked, replace(store.values_of(locked), connected_accounts=accounts))
            await schedule.plan_rule(session, rule.id, attempts=3)
        await reconcile(res)

    windows = await fetch(
        res, "select interval_start, interval_end from runs where connected_account = 'acct_b' order by 1"
    )
    assert all(one["interval_end"] == next_["interval_start"] for one, next_ in pairwise(windows))
    (known,) = await fetch(res, "select data_available_end from report_types where id = :id", id=connect)
    assert windows[-1]["interval_end"] == known["data_available_end"]


RECONCILE_ENTRY = """
    select extract(epoch from due_at - now()) as seconds, finished_at from timetable where name = 'reconcile'
"""


async def test_a_piece_of_the_timetable_is_done_by_one_process_only(res: Resources, simulator: Simulator) -> None:
    await make_timetable_due(res)
    async with another_process(res, simulator) as one, another_process(res, simulator) as other:
        done = await asyncio.gather(*(timetable_due(process) for process in (res, one, other)))

    assert sum(done) == len(timetable(res))
    assert simulator.world.journal.counts["list_types"] == 1


async def test_everything_is_due_at_start_however_lately_it_was_done(res: Resources) -> None:
    everything = len(timetable(res))
    await make_timetable_due(res)
    assert await timetable_due(res) == everything
    assert await timetable_due(res) == 0

    await make_timetable_due(res)

    assert await timetable_due(res) == everything


async def test_what_was_done_is_due_again_after_its_interval(res: Resources) -> None:
    await make_timetable_due(res)
    await timetable_due(res)

    (entry,) = await fetch(res, RECONCILE_ENTRY)

    assert 1700 < entry["seconds"] <= 1800
    assert entry["finished_at"] is not None


@pytest.mark.parametrize(
    # A read on a kept connection is made once more by the transport: twice is what shows.
    "fault",
    [{"fault": "cut", "times": 2}, {"fault": "status", "status": 500}, {"fault": "status", "status": 401}],
)
async def test_what_stripe_kept_from_being_done_is_due_again_soon_and_not_only_at_the_next_turn(
    res: Resources, simulator: Simulator, fault: dict[str, object]
) -> None:
    await make_timetable_due(res)
    simulator.inject(**fault, match=LIST_TYPES)  # type: ignore[arg-type]

    assert await timetable_due(res) == len(timetable(res)) - 1

    (entry,) = await fetch(res, RECONCILE_ENTRY)
    assert entry["seconds"] <= 60
    assert entry["finished_at"] is None
    await execute(res, "update timetable set due_at = now() where name = 'reconcile'")
    await everything_is_due(res)
    assert await timetable_due(res) == 1
    assert await fetch(res, "select 1 from account_holds") == []


async def test_an_account_that_does_not_answer_keeps_no_other_account_from_being_asked(
    database_url: str, simulator: Simulator
) -> None:
    simulator.add_account("b")
    keys = {account.name: {"api_key": account.keys[0].secret} for account in simulator.world.accounts.values()}
    settings = make_settings(
        database_url, simulator, STRIPE_API_KEY="", STRIPE_WEBHOOK_SECRET="",
        STRIPE_ACCOUNTS=json.dumps({"a": keys["default"], "b": keys["b"]}),
    )  # fmt: skip
    simulator.inject("status", status=500, match={**LIST_TYPES, "account": "default"})
    async with open_resources(settings) as res:
        with pytest.raises(NotNow):
            await reconcile(res)

        asked = await fetch(res, "select distinct account from report_types")
        assert [row["account"] for row in asked] == ["b"]


async def test_a_run_in_a_state_that_this_version_does_not_know_is_left_alone(
    res: Resources, simulator: Simulator
) -> None:
    await days_due(res, simulator, 2)
    await execute(res, "update runs set state = 'archived' where interval_start = '2026-03-01+00'")

    await work_off(res)

    assert await states(res) == {"archived": 1, "stored": 1}


async def test_one_odd_report_type_hides_no_other(res: Resources, simulator: Simulator) -> None:
    unpublished(simulator, until="2026-03-02")
    simulator.report_type("balance.summary.1").data_available_end = None  # type: ignore[assignment]

    await reconcile(res)

    known = {row["id"] for row in await fetch(res, "select id from report_types")}
    assert REPORT_TYPE in known
    assert "balance.summary.1" not in known
