"""A rule that is changed while it is planned, backfilled or deleted: the second one sees what the first one did.

Who comes first is decided by a lock that the test holds, never by time.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date
from itertools import pairwise
from typing import Any

import httpx
import pytest

from app.db.models import Rule
from app.errors import Conflict
from app.resources import Resources
from app.rules import backfill, changes, schedule, store
from app.rules.backfill import Backfill
from app.rules.slices import work_slice
from app.simulator import Simulator
from app.upkeep.reconcile import reconcile
from tests.runs.stories import somebody_waits_for_a_lock
from tests.service import add_rule, fetch, unpublished

Act = Callable[[], Coroutine[Any, Any, Any]]


@asynccontextmanager
async def changing(res: Resources, rule: Rule, **fields: Any) -> AsyncIterator[None]:
    """A PATCH that has made its change, and has not committed it."""
    async with res.sessions.begin() as session:
        locked = await store.get(session, rule.id, lock=True)
        wanted = replace(store.values_of(locked), **fields)
        await changes.change(session, locked, wanted, settings=res.settings, by="a test")
        yield


async def then(res: Resources, act: Act, *, first: Any) -> Any:
    """Start `act` while `first` holds its lock, and let `first` end when `act` waits for it."""
    async with first:
        second: asyncio.Task[Any] = asyncio.create_task(act())
        waits = asyncio.create_task(somebody_waits_for_a_lock(res))
        await asyncio.wait({second, waits}, return_when=asyncio.FIRST_COMPLETED)
        waits.cancel()
    return await second


async def planned(res: Resources) -> list[Any]:
    return await fetch(res, "select * from runs order by connected_account, interval_start")


FIELDS: list[dict[str, Any]] = [
    {"parameters": {"currency": "eur"}},
    {"enabled": False},
    {"starts_on": date(2026, 3, 3)},
    {"timezone": "America/Los_Angeles"},
    {"settle_hours": 30.0},
]


@pytest.mark.parametrize("fields", FIELDS, ids=str)
async def test_planning_beside_a_change_makes_nothing_with_the_old_values(
    res: Resources, simulator: Simulator, fields: dict[str, Any]
) -> None:
    await reconcile(res)
    rule = await add_rule(res, starts_on=date(2026, 3, 1), parameters={"currency": "usd"})
    unpublished(simulator, until="2026-03-04")

    await then(res, lambda: reconcile(res), first=changing(res, rule, **fields))
    while await work_slice(res):
        pass

    found = await planned(res)
    now = (await fetch(res, "select * from rules"))[0]
    first = {"starts_on": "2026-03-03"}.get(next(iter(fields)), "2026-03-01")
    assert {run["parameters"].get("currency") for run in found} <= {now["parameters"].get("currency")}
    assert {run["timezone"] for run in found} <= {now["timezone"]}
    assert [run["window_key"] for run in found] == {
        "enabled": [],
        "timezone": ["2026-03-01", "2026-03-02"],
        "settle_hours": ["2026-03-01"],
    }.get(next(iter(fields)), [f"2026-03-0{day}" for day in (1, 2, 3) if f"2026-03-0{day}" >= first])
    assert all(one["interval_end"] == next_["interval_start"] for one, next_ in pairwise(found))


async def test_a_zone_cannot_change_any_more_once_the_planning_that_was_first_has_made_runs(
    res: Resources, simulator: Simulator
) -> None:
    await reconcile(res)
    rule = await add_rule(res)
    unpublished(simulator, until="2026-03-03")
    await reconcile(res)  # made known, so that planning has something to do
    await fetch(res, "delete from run_moves returning 1")
    await fetch(res, "delete from runs returning 1")
    await fetch(res, "update rule_progress set planned_until = null, next_due_at = null returning 1")

    @asynccontextmanager
    async def planning() -> AsyncIterator[None]:
        async with res.sessions.begin() as session:
            assert await schedule.plan_any(session, attempts=3) == 1
            yield

    async def change() -> None:
        async with changing(res, rule, timezone="Asia/Tokyo"):
            pass

    with pytest.raises(Conflict, match="once the rule has runs"):
        await then(res, change, first=planning())
    assert {run["timezone"] for run in await planned(res)} == {"UTC"}


@pytest.mark.parametrize("fields", [FIELDS[0], FIELDS[3]], ids=str)
async def test_a_backfill_beside_a_change_makes_nothing_with_the_old_values(
    res: Resources, api: httpx.AsyncClient, fields: dict[str, Any]
) -> None:
    await reconcile(res)
    rule = await add_rule(res, starts_on=date(2026, 3, 1), parameters={"currency": "usd"})
    body = {"from": "2026-02-01", "to": "2026-02-04"}

    answer = await then(
        res, lambda: api.post(f"/v1/rules/{rule.id}/backfill", json=body), first=changing(res, rule, **fields)
    )

    assert answer.json() == {"planned": 3, "retried": 0, "rerun": 0}
    found, now = await planned(res), (await fetch(res, "select * from rules"))[0]
    assert {run["timezone"] for run in found} == {now["timezone"]}
    assert {run["parameters"].get("currency") for run in found} == {now["parameters"].get("currency")}


async def test_a_retry_beside_a_change_takes_the_new_parameters(res: Resources, api: httpx.AsyncClient) -> None:
    await reconcile(res)
    rule = await add_rule(res, starts_on=date(2026, 2, 28), parameters={"currency": "usd"})
    (run,) = await planned(res)
    await api.post(f"/v1/runs/{run['id']}/cancel")

    answer = await then(
        res, lambda: api.post(f"/v1/runs/{run['id']}/retry"), first=changing(res, rule, parameters={"currency": "eur"})
    )

    assert (answer.status_code, answer.json()["parameters"]["currency"]) == (202, "eur")


async def test_a_rule_that_is_being_deleted_is_neither_planned_nor_backfilled(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator
) -> None:
    await reconcile(res)
    rule = await add_rule(res)
    unpublished(simulator, until="2026-03-04")

    @asynccontextmanager
    async def deleting() -> AsyncIterator[None]:
        async with res.sessions.begin() as session:
            await changes.remove(session, await store.get(session, rule.id, lock=True), by="a test")
            yield

    async def both() -> int:
        await reconcile(res)
        answer = await api.post(f"/v1/rules/{rule.id}/backfill", json={"from": "2026-02-01", "to": "2026-02-04"})
        return answer.status_code

    assert await then(res, both, first=deleting()) == 404
    assert await planned(res) == []


async def test_a_slice_of_a_backfill_takes_what_the_rule_says_by_then(
    res: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill, "SLICE", 2)
    await reconcile(res)
    rule = await add_rule(res, starts_on=date(2026, 3, 1), parameters={"currency": "usd"})
    async with res.sessions.begin() as session:
        locked = await store.get(session, rule.id, lock=True)
        asked = Backfill(date(2026, 2, 1), date(2026, 2, 6), rerun=False)
        counts = await backfill.begin(session, locked, asked, attempts=3, by="a test")
    async with changing(res, rule, parameters={"currency": "eur"}):
        pass
    while await work_slice(res):
        pass

    assert counts == (5, 0, 0)
    assert [run["parameters"]["currency"] for run in await planned(res)] == ["usd", "usd", "eur", "eur", "eur"]
