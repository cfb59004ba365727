"""Rules over HTTP: created, shown, changed and removed, and planned at once."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from app.resources import Resources
from app.simulator import Simulator
from app.upkeep.reconcile import reconcile
from tests.service import REPORT_TYPE, fetch, request_due

NEW = {"name": "daily", "report_type": REPORT_TYPE, "cadence": "daily", "starts_on": "2026-02-26"}
FULL = {
    "name": "daily-activity",
    "account": "default",
    "report_type": REPORT_TYPE,
    "enabled": True,
    "cadence": "daily",
    "timezone": "America/Los_Angeles",
    "starts_on": "2026-10-01",
    "settle_hours": 0,
    "parameters": {"columns": ["created", "net"], "currency": "usd", "timezone": "America/Los_Angeles"},
    "connected_accounts": [],
    "retention_days": None,
}


async def make(api: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    answer = await api.post("/v1/rules", json={**NEW, **changes})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def states(res: Resources) -> list[str]:
    return [
        run["state"] for run in await fetch(res, "select state from runs order by interval_start, connected_account")
    ]


async def test_the_rule_of_the_contract_is_made_and_shown_as_it_was_given(api: httpx.AsyncClient) -> None:
    made = await api.post("/v1/rules", json=FULL)
    shown = await api.get(made.headers["location"])

    assert made.status_code == 201
    assert made.json() == {**shown.json(), "asks_for": 0}
    assert {name: shown.json()[name] for name in FULL} == FULL
    assert made.headers["etag"] == shown.headers["etag"] == '"1"'
    assert shown.json()["created_at"].endswith("Z")


async def test_omitted_fields_have_defaults(api: httpx.AsyncClient) -> None:
    rule = await make(api, starts_on=None, timezone="Pacific/Kiritimati")

    assert rule["starts_on"] in _days_around_now()
    assert (rule["account"], rule["enabled"], rule["settle_hours"], rule["parameters"]) == ("default", True, 0, {})
    assert (rule["connected_accounts"], rule["retention_days"]) == ([], None)


def _days_around_now() -> set[str]:
    # The date on Kiritimati, 14 hours ahead, may change while the test runs.
    now = datetime.now(UTC).timestamp() + 14 * 3600
    return {datetime.fromtimestamp(now - ago, UTC).date().isoformat() for ago in (0, 60)}


async def test_a_new_rule_is_planned_at_once(res: Resources, api: httpx.AsyncClient) -> None:
    await reconcile(res)

    await make(api)

    assert await states(res) == ["planned"] * 3


async def test_an_unknown_type_is_a_warning_and_still_requested(res: Resources, api: httpx.AsyncClient) -> None:
    rule = await make(api)

    assert [warning["pointer"] for warning in rule["warnings"]] == ["/report_type"]
    assert await fetch(res, "select 1 from reconciliations where due_at <= now()") != []


async def test_a_zone_that_the_file_will_not_show_is_a_warning(res: Resources, api: httpx.AsyncClient) -> None:
    await reconcile(res)

    without = await make(api, name="without", timezone="Europe/Berlin")
    with_it = await make(api, name="with", timezone="Europe/Berlin", parameters={"timezone": "Europe/Berlin"})

    assert [warning["pointer"] for warning in without["warnings"]] == ["/parameters/timezone"]
    assert with_it["warnings"] == []


BAD: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "/name"),
    ({"name": "x" * 201}, "/name"),
    ({"name": "a\nb"}, "/name"),
    ({"name": "a\x00"}, "/name"),
    ({"name": 1}, "/name"),
    ({"account": "unknown"}, "/account"),
    ({"account": "\x00"}, "/account"),
    ({"report_type": "nodots"}, "/report_type"),
    ({"report_type": "A.b"}, "/report_type"),
    ({"report_type": "a.b\n"}, "/report_type"),
    ({"report_type": "a." + "b" * 99}, "/report_type"),
    ({"report_type": "payout_reconciliation.by_id.itemized.4"}, "/cadence"),
    ({"enabled": "yes"}, "/enabled"),
    ({"cadence": "hourly"}, "/cadence"),
    ({"timezone": "Mars/Base"}, "/timezone"),
    ({"timezone": "../../etc/passwd"}, "/timezone"),
    ({"starts_on": "2026-02-30"}, "/starts_on"),
    ({"starts_on": 20261001}, "/starts_on"),
    ({"starts_on": "2026-10-01T00:00:00Z"}, "/starts_on"),
    ({"starts_on": "1969-12-31"}, "/starts_on"),
    ({"starts_on": "9000-01-01"}, "/starts_on"),
    ({"settle_hours": -1}, "/settle_hours"),
    ({"settle_hours": 1e9}, "/settle_hours"),
    ({"settle_hours": "1"}, "/settle_hours"),
    ({"retention_days": 0}, "/retention_days"),
    ({"retention_days": 1.5}, "/retention_days"),
    ({"retention_days": 10**30}, "/retention_days"),
    ({"parameters": []}, "/parameters"),
    ({"parameters": {"interval_start": 1}}, "/parameters/interval_start"),
    ({"parameters": {"connected_account": "acct_1"}}, "/parameters/connected_account"),
    ({"parameters": {"currency": 1}}, "/parameters/currency"),
    ({"parameters": {"columns": "net"}}, "/parameters/columns"),
    ({"parameters": {"x": None}}, "/parameters"),
    ({"parameters": {"x": "\x00"}}, "/parameters"),
    ({"parameters": {"x\x00": 1}}, "/parameters"),
    ({"parameters": {"x": 2**70}}, "/parameters"),
    ({"parameters": {"x": [[[[[[[[[1]]]]]]]]]}}, "/parameters"),
    ({"parameters": {"x": "y" * 65_536}}, "/parameters"),
    ({"connected_accounts": ["cus_1"]}, "/connected_accounts/0"),
    ({"connected_accounts": ["acct_1", "acct_1"]}, "/connected_accounts"),
    ({"connected_accounts": [f"acct_{n}" for n in range(1001)]}, "/connected_accounts"),
    ({"unknown": 1}, "/unknown"),
    ({"id": "x"}, "/id"),
]


async def test_a_rule_that_cannot_work_is_refused_with_a_pointer(res: Resources, api: httpx.AsyncClient) -> None:
    rule = await make(api)
    for changes, pointer in BAD:
        made = await api.post("/v1/rules", json={**NEW, "name": "other", **changes})
        changed = await api.patch(f"/v1/rules/{rule['id']}", json=changes)
        for answer in (made, changed):
            assert answer.status_code == 422, (changes, answer.text)
            assert [error["pointer"] for error in answer.json()["errors"]] == [pointer], changes

    assert len(await fetch(res, "select 1 from rules")) == 1


async def test_numbers_that_are_not_finite_are_refused(api: httpx.AsyncClient) -> None:
    for body in ('"settle_hours": NaN', '"settle_hours": Infinity', '"parameters": {"x": NaN}'):
        answer = await api.post(
            "/v1/rules", content=f'{{"name": "a", "report_type": "a.b", "cadence": "daily", {body}}}'
        )
        assert answer.status_code == 422, body


async def test_a_name_is_taken_once_by_concurrent_requests_and_free_again_after_deletion(
    api: httpx.AsyncClient,
) -> None:
    answers = await asyncio.gather(*(api.post("/v1/rules", json=NEW) for _ in range(8)))

    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    (rule,) = (answer.json() for answer in answers if answer.status_code == 201)
    assert (await api.delete(f"/v1/rules/{rule['id']}")).status_code == 204
    assert (await api.get(f"/v1/rules/{rule['id']}")).status_code == 404
    await make(api)


async def test_a_change_raises_the_version_and_none_does_not(api: httpx.AsyncClient) -> None:
    rule = await make(api)
    url = f"/v1/rules/{rule['id']}"

    same = await api.patch(url, json={"name": rule["name"], "settle_hours": 0})
    empty = await api.patch(url, json={})
    changed = await api.patch(url, json={"retention_days": 30, "name": "renamed"})
    back = await api.patch(url, json={"retention_days": None})

    assert [answer.headers["etag"] for answer in (same, empty, changed, back)] == ['"1"', '"1"', '"2"', '"3"']
    assert (changed.json()["retention_days"], back.json()["retention_days"]) == (30, None)
    assert changed.json()["name"] == "renamed"
    assert changed.json()["updated_at"] > rule["updated_at"]


async def test_null_is_accepted_for_retention_only(api: httpx.AsyncClient) -> None:
    rule = await make(api)
    for name in set(NEW) | {"enabled", "parameters", "connected_accounts", "account", "timezone", "settle_hours"}:
        answer = await api.patch(f"/v1/rules/{rule['id']}", json={name: None})
        assert answer.status_code == 422, name


async def test_a_lost_update_is_noticed(res: Resources, api: httpx.AsyncClient) -> None:
    rule = await make(api)
    url = f"/v1/rules/{rule['id']}"

    first = await api.patch(url, json={"settle_hours": 1}, headers={"If-Match": '"1"'})
    second = await api.patch(url, json={"settle_hours": 2}, headers={"If-Match": '"1"'})
    removal = await api.delete(url, headers={"If-Match": '"1"'})
    anyhow = await api.patch(url, json={"settle_hours": 3}, headers={"If-Match": "*"})

    assert [answer.status_code for answer in (first, second, removal, anyhow)] == [200, 412, 412, 200]
    assert [row["settle_hours"] for row in await fetch(res, "select settle_hours from rules")] == [3]


async def test_one_of_several_concurrent_changes_to_a_version_wins(api: httpx.AsyncClient) -> None:
    rule = await make(api)
    url = f"/v1/rules/{rule['id']}"

    answers = await asyncio.gather(
        *(api.patch(url, json={"settle_hours": hours}, headers={"If-Match": '"1"'}) for hours in range(1, 9))
    )

    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 7


@pytest.mark.parametrize("change", [{"cadence": "weekly"}, {"timezone": "Europe/Berlin"}, {"report_type": "a.b"}])
async def test_fields_that_runs_depend_on_are_fixed_once_there_are_runs(
    res: Resources, api: httpx.AsyncClient, change: dict[str, str]
) -> None:
    before = await make(api, name="before")
    free = await api.patch(f"/v1/rules/{before['id']}", json=change)
    await reconcile(res)
    after = await make(api, name="after")

    fixed = await api.patch(f"/v1/rules/{after['id']}", json=change)

    assert (free.status_code, fixed.status_code) == (200, 409)


async def test_a_change_is_planned_at_once(res: Resources, api: httpx.AsyncClient) -> None:
    await reconcile(res)
    rule = await make(api, enabled=False)
    assert await states(res) == []

    await api.patch(f"/v1/rules/{rule['id']}", json={"enabled": True})

    assert await states(res) == ["planned"] * 3


async def test_disabling_stops_planning_only(res: Resources, api: httpx.AsyncClient) -> None:
    await reconcile(res)
    rule = await make(api)

    await api.patch(f"/v1/rules/{rule['id']}", json={"enabled": False})

    assert await states(res) == ["planned"] * 3


async def test_deleting_a_rule_cancels_only_runs_that_were_not_requested(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator
) -> None:
    await reconcile(res)
    rule = await make(api, starts_on="2026-02-28")
    await request_due(res)
    await api.patch(f"/v1/rules/{rule['id']}", json={"starts_on": "2026-02-27"})
    assert len(await states(res)) == 2

    await api.delete(f"/v1/rules/{rule['id']}")

    runs = (await api.get(f"/v1/runs?rule_id={rule['id']}")).json()["data"]
    assert {run["interval_start"][:10]: run["state"] == "cancelled" for run in runs} == {
        "2026-02-27": True,
        "2026-02-28": False,
    }


async def test_removing_an_account_from_a_rule_cancels_its_planned_runs(res: Resources, api: httpx.AsyncClient) -> None:
    await reconcile(res)
    rule = await make(api, starts_on="2026-02-28", connected_accounts=["acct_1", "acct_2"])

    await api.patch(f"/v1/rules/{rule['id']}", json={"connected_accounts": ["acct_2", "acct_3"]})

    runs = await fetch(res, "select connected_account, state from runs order by connected_account")
    assert [(run["connected_account"], run["state"]) for run in runs] == [
        ("acct_1", "cancelled"), ("acct_2", "planned"), ("acct_3", "planned"),
    ]  # fmt: skip


async def test_rules_are_listed_newest_first_and_pages_stay_stable(api: httpx.AsyncClient) -> None:
    names = [(await make(api, name=f"rule {n}"))["name"] for n in range(5)]

    first = (await api.get("/v1/rules?limit=2")).json()
    await make(api, name="later")
    second = (await api.get(f"/v1/rules?limit=2&cursor={first['next_cursor']}")).json()
    third = (await api.get(f"/v1/rules?limit=2&cursor={second['next_cursor']}")).json()

    listed = [rule["name"] for page in (first, second, third) for rule in page["data"]]
    assert listed == names[::-1]
    assert third["next_cursor"] is None


async def test_planning_and_changing_the_rules_of_one_type_never_lock_each_other_out(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator
) -> None:
    await reconcile(res)
    made = [await make(api, name=f"rule {n}", starts_on="2026-02-28") for n in range(6)]

    async def change(rule: dict[str, Any]) -> int:
        changed = await api.patch(f"/v1/rules/{rule['id']}", json={"starts_on": "2026-02-01"})
        return changed.status_code

    answers = await asyncio.gather(*(change(rule) for rule in made), *(reconcile(res) for _ in range(3)))

    assert answers[:6] == [200] * 6
