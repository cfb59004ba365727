"""Long work of rules: a first slice with the answer, the rest behind it; nothing lost, doubled or requested."""

from collections import Counter
from collections.abc import Iterator
from datetime import date
from typing import Any

import httpx
import pytest

from app.resources import Resources
from app.rules import backfill, schedule, withdrawals
from app.rules.slices import work_slice
from app.simulator import Simulator
from app.upkeep.reconcile import reconcile
from tests.service import REPORT_TYPE, add_rule, execute, fetch, request_due, unpublished

NEW = {"name": "new", "report_type": REPORT_TYPE, "cadence": "daily", "starts_on": "2026-02-01"}
ACCOUNTS = [f"acct_{letter}" for letter in "abcde"]


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """So that a few runs are many."""
    monkeypatch.setattr(schedule, "SLICE", 8)
    monkeypatch.setattr(backfill, "SLICE", 8)
    monkeypatch.setattr(withdrawals, "BATCH", 8)
    return iter([None])


async def finish(res: Resources) -> int:
    """Do slices until there is nothing more; returns how many it took."""
    turns = 0
    while await work_slice(res):
        turns += 1
    return turns


async def states(res: Resources) -> Counter[str]:
    return Counter(run["state"] for run in await fetch(res, "select state from runs"))


async def make(api: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    answer = await api.post("/v1/rules", json={**NEW, **changes})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_planning_continues_after_the_answer_and_makes_each_window_of_each_account_once(
    res: Resources, api: httpx.AsyncClient
) -> None:
    await reconcile(res)

    rule = await make(api, connected_accounts=ACCOUNTS)
    at_once = sum((await states(res)).values())
    turns = await finish(res)

    assert (rule["asks_for"], at_once) == (5 * 28, 5)
    assert turns > 10
    windows = await fetch(res, "select connected_account, window_key from runs order by 1, 2")
    assert [(*one.values(),) for one in windows] == [
        (account, f"2026-02-{day:02}") for account in ACCOUNTS for day in range(1, 29)
    ]


async def test_a_rule_with_many_accounts_leaves_room_for_the_others_of_its_type(res: Resources) -> None:
    big = await add_rule(res, name="big", starts_on=date(2026, 2, 1), connected_accounts=ACCOUNTS)
    small = await add_rule(res, name="small", starts_on=date(2026, 2, 27))

    await reconcile(res)

    found = await fetch(res, "select rule_id, count(*) as runs from runs group by rule_id")
    assert {one["rule_id"] for one in found} == {big.id, small.id}


async def test_a_rule_that_cannot_be_planned_says_why_and_stops_neither_the_others_nor_the_lane(
    res: Resources, api: httpx.AsyncClient
) -> None:
    broken = await add_rule(res, name="broken", starts_on=date(2026, 2, 27))
    await execute(res, "update rules set timezone = 'No/Where' where id = :id", id=broken.id)
    await add_rule(res, name="sound", starts_on=date(2026, 2, 27))

    await reconcile(res)
    turns = await finish(res)

    assert turns == 0, "what cannot be planned is not tried again before the data moves"
    assert len(await fetch(res, "select 1 from runs")) == 2
    details = {rule["name"]: rule["detail"] for rule in (await api.get("/health")).json()["rules"]}
    assert details["sound"] == "on time"
    assert details["broken"].startswith(
        "it cannot be planned: ZoneInfoNotFoundError: 'No time zone found with key No/Where'"
    )

    await api.patch(f"/v1/rules/{broken.id}", json={"timezone": "UTC"})

    assert {rule["detail"] for rule in (await api.get("/health")).json()["rules"]} == {"on time"}
    assert len(await fetch(res, "select 1 from runs")) == 4


@pytest.mark.parametrize("cadence", ["daily", "every_update"])
async def test_a_rule_that_begins_later_than_the_data_reaches_leaves_the_lane_nothing_to_do(
    res: Resources, cadence: str
) -> None:
    await add_rule(res, starts_on=date(2027, 1, 1), cadence=cadence)

    await reconcile(res)

    assert await finish(res) == 0


async def test_nothing_is_requested_for_a_deleted_rule_while_its_runs_are_being_cancelled(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator
) -> None:
    await reconcile(res)
    rule = await make(api)
    await finish(res)

    answer = await api.delete(f"/v1/rules/{rule['id']}")
    at_once, asked = await states(res), await request_due(res)
    await finish(res)

    assert (answer.status_code, at_once, asked) == (204, {"cancelled": 8, "planned": 20}, 0)
    assert (await states(res), simulator.creates) == ({"cancelled": 28}, [])
    assert await fetch(res, "select 1 from withdrawals") == []
    reasons = await fetch(res, "select distinct reason from run_moves where to_state = 'cancelled'")
    assert [one["reason"] for one in reasons] == ["the rule was deleted"]


async def test_a_run_that_was_retried_by_hand_meanwhile_is_not_cancelled_with_the_others(
    res: Resources, api: httpx.AsyncClient
) -> None:
    await reconcile(res)
    rule = await make(api)
    await finish(res)
    await api.delete(f"/v1/rules/{rule['id']}")
    (cancelled, *_) = await fetch(res, "select id from runs where state = 'cancelled'")

    await api.post(f"/v1/runs/{cancelled['id']}/retry")
    await finish(res)

    assert await states(res) == {"cancelled": 27, "planned": 1}


async def test_an_account_that_was_taken_out_and_put_back_keeps_what_is_planned_for_it_again(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator
) -> None:
    await reconcile(res)
    rule = await make(api, connected_accounts=ACCOUNTS[:2])
    await finish(res)

    for accounts in (ACCOUNTS[:1], ACCOUNTS[:2]):
        await api.patch(f"/v1/rules/{rule['id']}", json={"connected_accounts": accounts})
    unpublished(simulator, until="2026-03-02")
    await reconcile(res)
    await finish(res)

    found = await fetch(res, "select connected_account, state, count(*) as runs from runs group by 1, 2 order by 1, 2")
    assert [(*one.values(),) for one in found] == [
        ("acct_a", "planned", 29), ("acct_b", "cancelled", 28), ("acct_b", "planned", 1),
    ]  # fmt: skip


async def test_a_backfill_continues_after_the_answer_and_a_rerun_makes_each_window_once(
    res: Resources, api: httpx.AsyncClient
) -> None:
    await reconcile(res)
    rule = await make(api, starts_on="2026-02-15", connected_accounts=ACCOUNTS[:2])
    await finish(res)
    await execute(res, "update runs set state = 'stored' where window_key < '2026-02-20'")
    await execute(res, "update runs set state = 'failed' where window_key > '2026-02-25'")
    url, body = f"/v1/rules/{rule['name']}/backfill", {"from": "2026-02-01", "through": "2026-02-28", "rerun": True}

    dry = await api.post(url, json={**body, "dry_run": True})
    before = await states(res)
    real = await api.post(url, json=body)
    await finish(res)
    await execute(res, "update runs set state = 'stored' where revision = 2")
    turns = await finish(res)

    expected = {"planned": 2 * 14, "retried": 2 * 3, "rerun": 2 * 5}
    assert (dry.status_code, dry.json(), real.status_code, real.json()) == (200, expected, 202, expected)
    assert before == {"planned": 12, "stored": 10, "failed": 6}
    assert turns == 0, "a backfill that is done is not begun again"
    made = await fetch(res, "select revision, state, count(*) as runs from runs group by 1, 2 order by 1, 2")
    assert [(*one.values(),) for one in made] == [(1, "planned", 46), (1, "stored", 10), (2, "stored", 10)]


async def test_a_backfill_of_a_rule_that_is_deleted_meanwhile_ends(res: Resources, api: httpx.AsyncClient) -> None:
    await reconcile(res)
    rule = await make(api, starts_on="2026-03-01")
    await api.post(f"/v1/rules/{rule['id']}/backfill", json={"from": "2026-02-01", "to": "2026-03-01"})

    await api.delete(f"/v1/rules/{rule['id']}")
    await finish(res)

    assert (await states(res), await fetch(res, "select 1 from backfills")) == ({"cancelled": 8}, [])
