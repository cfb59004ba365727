"""A rule for each connected account of a platform: new ones from the day of their creation, leavers no longer."""

from typing import Any

import httpx
import pytest

from app import handlers
from app.resources import Resources
from app.rules import schedule
from app.rules.slices import work_slice
from app.simulator import Simulator
from app.upkeep.connected_accounts import read_lists
from app.upkeep.reconcile import reconcile
from tests.api.conftest import client_of
from tests.runs.stories import deliver
from tests.service import ADMIN_TOKEN, at, execute, fetch, unpublished, work_off, work_until_found
from tests.targets.stories import add_listener, months_told

TYPE = "connected_account_balance_change_from_activity.itemized.3"
RULE = {
    "name": "each", "report_type": TYPE, "cadence": "daily", "starts_on": "2026-03-01", "connected": "each",
    "parameters": {"timezone": "Etc/UTC"},
}  # fmt: skip


@pytest.fixture
async def admin(res: Resources, simulator: Simulator) -> Any:
    """The API; data until the 4th of March, two accounts that are older than the rule and one of the 3rd."""
    unpublished(simulator, TYPE, until="2026-03-04")
    for name, made in (("acct_a", "2026-01-01"), ("acct_b", "2026-02-01"), ("acct_new", "2026-03-03T12:00")):
        simulator.connect_account(name, created=at(made).timestamp())
    await reconcile(res)
    async with client_of(res, ADMIN_TOKEN) as client:
        yield client


async def planned(res: Resources) -> None:
    """The list is read, and what follows from it is planned."""
    await read_lists(res)
    while await work_slice(res):
        pass


async def runs(res: Resources) -> list[tuple[str, str, str, bool]]:
    """Whose, which window, its state, and whether it begins later than it would."""
    rows = await fetch(res, "select connected_account, window_key, state, partial from runs order by 1, 2")
    return [(row["connected_account"], row["window_key"][5:], row["state"], row["partial"]) for row in rows]


async def a_day_later(res: Resources) -> None:
    await execute(res, "update connected_lists set recent_at = null, complete_at = null")


async def test_every_account_is_planned_from_its_making_on(res: Resources, admin: httpx.AsyncClient) -> None:
    made = await admin.post("/v1/rules", json=RULE)
    await planned(res)

    assert (made.status_code, made.json()["asks_for"], made.json()["connected"]) == (201, 0, "each")
    assert await runs(res) == [
        *((name, day, "planned", False) for name in ("acct_a", "acct_b") for day in ("03-01", "03-02", "03-03")),
        ("acct_new", "03-03", "planned", False),
    ]


async def test_a_month_in_which_an_account_is_made_begins_on_that_day(
    res: Resources, admin: httpx.AsyncClient, simulator: Simulator
) -> None:
    unpublished(simulator, TYPE, until="2026-04-01")
    await reconcile(res)
    await admin.post("/v1/rules", json={**RULE, "cadence": "monthly", "timezone": "America/New_York"})
    await planned(res)
    unpublished(simulator, TYPE, until="2026-04-02")
    await reconcile(res)

    rows = await fetch(res, "select connected_account, interval_start, partial from runs order by 1")
    assert [(row["connected_account"], row["interval_start"], row["partial"]) for row in rows] == [
        ("acct_a", at("2026-03-01T05:00"), False),
        ("acct_b", at("2026-03-01T05:00"), False),
        ("acct_new", at("2026-03-03T05:00"), True),  # local midnight of the day on which it was made
    ]


async def test_an_account_that_leaves_is_planned_no_further_and_comes_back_without_a_gap(
    res: Resources, admin: httpx.AsyncClient, simulator: Simulator
) -> None:
    await admin.post("/v1/rules", json=RULE)
    await planned(res)
    simulator.disconnect_account("acct_b")
    await a_day_later(res)
    await planned(res)
    left = [run for run in await runs(res) if run[0] == "acct_b"]
    (move,) = await fetch(res, "select distinct reason from run_moves where to_state = 'cancelled'")
    unpublished(simulator, TYPE, until="2026-03-05")
    await reconcile(res)

    assert {state for *_, state, _ in left} == {"cancelled"}
    assert move["reason"] == "its connected account has left the platform"
    assert len([run for run in await runs(res) if run[0] == "acct_b"]) == 3

    simulator.account().left.discard("acct_b")
    simulator.connect_account("acct_b", created=at("2026-02-01").timestamp())
    await a_day_later(res)
    await planned(res)
    assert ("acct_b", "03-04", "planned", False) in await runs(res)


async def test_preview_asks_for_and_coverage_know_every_account_and_its_first_day(
    res: Resources, admin: httpx.AsyncClient
) -> None:
    await admin.post("/v1/rules", json={**RULE, "name": "first", "starts_on": "2026-03-04"})
    await planned(res)

    preview = (await admin.post("/v1/rules/preview", json=RULE)).json()
    made = (await admin.post("/v1/rules", json=RULE)).json()
    again = (await admin.post("/v1/rules/preview", json={"rule": "each"})).json()
    pages: list[dict[str, Any]] = []
    asked: dict[str, Any] = {"limit": 2, "to": "2026-03-04"}
    while True:
        page = (await admin.get("/v1/rules/each/coverage", params=asked)).json()
        pages += page["data"]
        if page["next_cursor"] is None:
            break
        asked["cursor"] = page["next_cursor"]

    assert (preview["now_total"], made["asks_for"], again["now_total"]) == (7, 7, 0)
    assert (preview["forecast"]["reports"], preview["forecast"]["done_by"], again["forecast"]) == (7, None, None)
    assert [(one["connected_account"], one["interval_start"][8:10]) for one in pages] == [
        ("acct_a", "03"), ("acct_b", "03"), ("acct_new", "03"), ("acct_a", "02"), ("acct_b", "02"),
        ("acct_a", "01"), ("acct_b", "01"),
    ]  # fmt: skip


async def test_a_file_is_found_or_missed_by_account_however_many_there_are(
    res: Resources, admin: httpx.AsyncClient, simulator: Simulator
) -> None:
    for number in range(60):
        simulator.connect_account(f"acct_m{number:02}", created=at("2026-01-01").timestamp())
    await admin.post("/v1/rules", json=RULE)
    await planned(res)

    async def asked(day: str, **whose: str) -> tuple[int, str]:
        answer = await admin.get(f"/v1/rules/each/files/{day}", params=whose)
        return answer.status_code, answer.json()["detail"]

    status, several = await asked("2026-03-02")
    assert (status, several.count("acct_"), several.count("…")) == (409, 10, 1)
    assert await asked("2026-03-02", connected_account="acct_m59") == (
        409, "2026-03-02 of acct_m59 is not stored yet: it is planned; see GET /v1/runs?rule=each",
    )  # fmt: skip
    status, waits = await asked("2026-03-04", connected_account="acct_m59")
    assert (status, "not stored yet: it waits (availability" in waits) == (409, True)
    simulator.connect_account("acct_00", created=at("2026-03-06").timestamp())
    await a_day_later(res)
    await admin.post("/v1/rules", json={**RULE, "name": "months", "cadence": "monthly"})
    await planned(res)
    before = await admin.get("/v1/rules/months/files/2026-03-04", params={"connected_account": "acct_00"})
    assert (before.status_code, "acct_00 is not one of its connected accounts, or was" in before.text) == (404, True)
    others = await admin.get("/v1/rules/months/files/2026-03-04")
    assert (others.status_code, "not stored yet: it waits (availability" in others.text) == (409, True)
    status, stranger = await asked("2026-03-02", connected_account="acct_z")
    assert (status, "acct_z is not one of its connected accounts" in stranger) == (404, True)
    assert (await asked("latest", connected_account="acct_m59"))[0] == 404


async def test_accounts_are_excepted_and_taken_back_and_listed_becomes_each(
    res: Resources, admin: httpx.AsyncClient
) -> None:
    listed = {**RULE, "connected": "listed", "connected_accounts": ["acct_a"]}
    await admin.post("/v1/rules", json=listed)
    each = await admin.patch("/v1/rules/each", json={"connected": "each", "connected_accounts": []})
    await planned(res)
    assert {run[0] for run in await runs(res)} == {"acct_a", "acct_b", "acct_new"}

    changed = await admin.patch("/v1/rules/each", json={"except": ["acct_b"]})
    exported = (await admin.get("/v1/rules.yaml")).text
    together = await admin.patch("/v1/rules/each", json={"connected": "together"})

    assert (each.status_code, changed.json()["except"], "acct_b" in exported) == (200, ["acct_b"], True)
    assert {run[2] for run in await runs(res) if run[0] == "acct_b"} == {"cancelled"}
    assert (together.status_code, "connected" in together.json()["detail"]) == (409, True)


async def test_the_file_of_rules_carries_them_and_wrong_uses_are_refused(admin: httpx.AsyncClient) -> None:
    await admin.post("/v1/rules", json={**RULE, "except": ["acct_b"]})
    text = (await admin.get("/v1/rules.yaml")).text
    applied = await admin.post("/v1/rules/apply", json={"yaml": text})

    wrong = [
        await admin.post("/v1/rules/preview", json={**RULE, **change})
        for change in (
            {"connected": "listed", "connected_accounts": ["acct_a"], "except": ["acct_b"]},
            {"connected_accounts": ["acct_a"]},
            {"report_type": "balance.summary.1"},
        )
    ]

    assert "except:\n  - acct_b" in text
    assert applied.json()["unchanged"] == 1
    assert [answer.json()["errors"][0]["pointer"] for answer in wrong] == ["/except", "/connected", "/connected"]


async def test_a_slice_of_accounts_is_planned_at_a_time(
    res: Resources, admin: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "SLICE", 2)
    await admin.post("/v1/rules", json=RULE)

    await planned(res)

    assert len(await runs(res)) == 7


async def test_a_backfill_begins_for_each_account_on_the_day_it_was_made(
    res: Resources, admin: httpx.AsyncClient
) -> None:
    await admin.post("/v1/rules", json={**RULE, "starts_on": "2026-03-04"})
    await planned(res)

    counts = (await admin.post("/v1/rules/each/backfill", json={"from": "2026-03-02", "to": "2026-03-04"})).json()

    assert counts["planned"] == 5
    assert [(name, day) for name, day, *_ in await runs(res)] == [
        ("acct_a", "03-02"), ("acct_a", "03-03"), ("acct_b", "03-02"), ("acct_b", "03-03"), ("acct_new", "03-03"),
    ]  # fmt: skip


async def test_a_platform_with_a_refused_account_a_leaver_and_a_newcomer(
    res: Resources, admin: httpx.AsyncClient, simulator: Simulator
) -> None:
    columns = {"columns": ["connected_account", "balance_transaction_id", "net"]}
    await admin.post("/v1/rules", json={**RULE, "starts_on": "2026-03-03"})
    await admin.post("/v1/rules", json={**RULE, "starts_on": "2026-03-03", "name": "together", "connected": "together",
                                        "parameters": columns})  # fmt: skip
    simulator.connect_account("acct_refused", created=at("2026-01-01").timestamp())
    await planned(res)
    simulator.account().left.add("acct_refused")  # Stripe refuses it, while its list still has it
    await turns_until_stored(res, 4)

    assert await states_of(res, "2026-03-03") == {
        None: "stored", "acct_a": "stored", "acct_b": "stored", "acct_new": "stored", "acct_refused": "planned",
    }  # fmt: skip

    simulator.disconnect_account("acct_b")
    simulator.connect_account("acct_late", created=at("2026-03-04T10:00").timestamp())
    for event in simulator.events[-2:]:
        await deliver(res, event)
    await handlers.drain(res)
    await planned(res)
    unpublished(simulator, TYPE, until="2026-03-05")
    await reconcile(res)
    await turns_until_stored(res, 4 + 4)

    assert await states_of(res, "2026-03-04") == {
        None: "stored", "acct_a": "stored", "acct_late": "stored", "acct_new": "stored", "acct_refused": "planned",
    }  # fmt: skip
    assert len(simulator.runs) == 4 + 4  # one for each account's day, and one for all of them together
    lines = await admin.get("/v1/rules/together/files/2026-03-04", params={"connected_account": "acct_late"})
    assert {line.split(",")[0] for line in lines.text.splitlines()[1:]} == {'"acct_late"'}

    simulator.disconnect_account("acct_refused")
    await a_day_later(res)
    await planned(res)
    assert (await states_of(res, "2026-03-03"))["acct_refused"] == "cancelled"


async def turns_until_stored(res: Resources, number: int) -> None:
    """Turn until this many runs are stored."""
    stored = "select 1 from runs where state = 'stored' having count(*) = :number"
    await work_until_found(res, stored, number=number)


async def states_of(res: Resources, window: str) -> dict[str | None, str]:
    """The runs of a window by connected account."""
    rows = await fetch(res, "select connected_account, state from runs where window_key = :window", window=window)
    return {row["connected_account"]: row["state"] for row in rows}


async def test_a_forecast_says_when_the_reports_are_done_at_the_current_pace(
    res: Resources, admin: httpx.AsyncClient
) -> None:
    await admin.post("/v1/rules", json={**RULE, "name": "first", "starts_on": "2026-03-03"})
    await planned(res)
    await work_off(res)
    # Stripe took three minutes for each: with 20 slots 400 an hour.
    await execute(res, "update runs set requested_at = ready_at - interval '3 minutes'")

    found = (await admin.post("/v1/rules/preview", json=RULE)).json()["forecast"]

    assert (found["reports"], found["ahead"], found["per_hour"]) == (7, 0, 400.0)
    assert found["says"].startswith("7 reports, done by ")


async def test_a_month_is_complete_without_the_accounts_that_were_made_after_it(
    res: Resources, admin: httpx.AsyncClient, simulator: Simulator
) -> None:
    await add_listener(res)
    unpublished(simulator, TYPE, until="2026-04-01")
    await admin.post("/v1/rules", json={**RULE, "cadence": "monthly"})
    await planned(res)
    await work_off(res)
    for name, made in (("acct_last", "2026-03-31T12:00"), ("acct_later", "2026-04-01T12:00")):
        simulator.connect_account(name, created=at(made).timestamp())
    await a_day_later(res)
    await read_lists(res)

    assert await months_told(res) == [], "acct_last owes its day in March"
    await work_off(res)
    assert await months_told(res) == [("2026-03", 4)]
