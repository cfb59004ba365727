"""Preview, backfill and coverage of a rule."""

from collections import Counter
from datetime import date
from typing import Any

import httpx
import pytest

from app.resources import Resources
from app.rules import backfill
from app.simulator import Simulator
from app.upkeep.reconcile import reconcile
from tests.api.conftest import client_of
from tests.days import today
from tests.service import READ_TOKEN, REPORT_TYPE, add_rule, execute, fetch, unpublished, work_off

NEW = {"name": "new", "report_type": REPORT_TYPE, "cadence": "daily", "starts_on": "2026-02-27"}
# The simulator's data is [2026-01-01, 2026-03-01).


async def preview(api: httpx.AsyncClient, **rule: Any) -> dict[str, Any]:
    answer = await api.post("/v1/rules/preview", json=rule)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def days(windows: list[dict[str, Any]]) -> list[str]:
    return [f"{window['interval_start'][:10]}/{(window['interval_end'] or '')[:10]}" for window in windows]


async def test_a_rule_that_is_not_saved_shows_what_it_would_run(res: Resources) -> None:
    await reconcile(res)
    async with client_of(res, READ_TOKEN) as reader:
        found = await preview(reader, **NEW)

    assert days(found["now"]) == ["2026-02-27/2026-02-28", "2026-02-28/2026-03-01"]
    assert (found["now_total"], found["warnings"]) == (2, [])
    assert days(found["next"]) == ["2026-03-01/2026-03-02"]
    assert found["next"][0]["waiting"] == {"reason": "availability", "until": "2026-03-02T00:00:00Z"}
    assert await fetch(res, "select 1 from rules") == []


async def test_a_preview_shows_settling_partial_windows_and_each_account(
    res: Resources, api: httpx.AsyncClient
) -> None:
    await reconcile(res)

    found = await preview(
        api,
        **{**NEW, "cadence": "monthly", "starts_on": "2025-11-01", "timezone": "America/Los_Angeles"},
        settle_hours=24,
        connected_accounts=["acct_2", "acct_1"],
    )

    assert [(one["connected_account"], one["partial"]) for one in found["now"]] == [
        ("acct_1", True), ("acct_1", False), ("acct_2", True), ("acct_2", False),
    ]  # fmt: skip
    assert found["now"][0]["interval_start"] == "2026-01-01T00:00:00Z"
    assert {one["waiting"]["until"] for one in found["next"]} == {"2026-03-02T08:00:00Z"}


async def test_a_saved_rule_continues_from_where_it_is(res: Resources, api: httpx.AsyncClient) -> None:
    await reconcile(res)
    rule = (await api.post("/v1/rules", json=NEW)).json()

    as_it_is = await preview(api, rule_id=rule["id"])
    changed = await preview(api, rule_id=rule["id"], settle_hours=48)

    assert (as_it_is["now"], days(as_it_is["next"])) == ([], ["2026-03-01/2026-03-02"])
    assert changed["next"][0]["waiting"]["until"] == "2026-03-04T00:00:00Z"


async def test_a_type_without_data_is_why_a_rule_would_wait(api: httpx.AsyncClient) -> None:
    for cadence in ("daily", "every_update"):
        found = await preview(api, **{**NEW, "cadence": cadence})
        assert found["now"] == []
        assert found["next"][0]["waiting"] == {"reason": "report_type_missing", "until": None}
        assert [warning["pointer"] for warning in found["warnings"]] == ["/report_type"]


async def test_a_long_history_is_counted_and_its_beginning_shown(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator
) -> None:
    simulator.report_type(REPORT_TYPE).data_available_start = 0
    await reconcile(res)

    found = await preview(api, **{**NEW, "starts_on": "1990-01-01"}, connected_accounts=["acct_1", "acct_2"])

    assert (len(found["now"]), found["now_total"]) == (100, 2 * (date(2026, 3, 1) - date(1990, 1, 1)).days)


async def test_a_preview_that_is_impossible_says_why(api: httpx.AsyncClient) -> None:
    for body, status, pointer in (
        ({}, 422, "/report_type"),
        ({**NEW, "timezone": "Mars/Base"}, 422, "/timezone"),
        ({**NEW, "unknown": 1}, 422, "/unknown"),
        ({"rule_id": "x"}, 422, "/rule_id"),
        ({"rule_id": "01a1fc8f-3f8a-7128-9132-0f4c9613f5cb"}, 404, None),
    ):
        answer = await api.post("/v1/rules/preview", json=body)
        assert answer.status_code == status, body
        assert pointer is None or pointer in [error["pointer"] for error in answer.json()["errors"]]


async def test_a_backfill_makes_what_is_missing_once(res: Resources, api: httpx.AsyncClient) -> None:
    await reconcile(res)
    rule = await add_rule(res, starts_on=date(2026, 2, 27))
    url = f"/v1/rules/{rule.id}/backfill"

    answers = [await api.post(url, json={"from": "2026-02-01", "to": "2026-03-10"}) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [202, 202]
    assert [answer.json() for answer in answers] == [
        {"planned": 26, "retried": 0, "rerun": 0},
        {"planned": 0, "retried": 0, "rerun": 0},
    ]
    starts = [run["window_key"] for run in await fetch(res, "select window_key from runs order by window_key")]
    assert starts == [f"2026-02-{day:02}" for day in range(1, 29)]


async def test_a_backfill_keeps_to_its_days_and_to_the_data_there_is(res: Resources, api: httpx.AsyncClient) -> None:
    await reconcile(res)
    rule = await add_rule(res, starts_on=date(2026, 3, 1), cadence="monthly", connected_accounts=["acct_1", "acct_2"])

    answer = await api.post(f"/v1/rules/{rule.id}/backfill", json={"from": "2025-06-15", "to": "2026-02-01"})

    assert answer.json()["planned"] == 2
    assert {run["window_key"] for run in await fetch(res, "select window_key from runs")} == {"2026-01-01"}


async def test_runs_coverage_and_backfills_select_the_same_windows(res: Resources, api: httpx.AsyncClient) -> None:
    await reconcile(res)
    rule = await add_rule(res, name="weeks", starts_on=date(2026, 1, 5), cadence="weekly")
    await execute(res, "update runs set state = 'failed'")
    february = {"from": "2026-02-01", "to": "2026-03-01"}

    listed = (await api.get("/v1/runs", params={**february, "rule": "weeks", "order": "-window"})).json()["data"]
    covered = await coverage(api, rule.id, "?from=2026-02-01&to=2026-03-01")
    counted = await api.post("/v1/rules/weeks/backfill", json={**february, "dry_run": True})
    await api.post("/v1/rules/weeks/backfill", json=february)

    # 1 February is the last day of its week, and 1 March that of the next month's first.
    weeks = ["2026-02-16", "2026-02-09", "2026-02-02", "2026-01-26"]
    assert [run["window"]["first"] for run in listed] == weeks
    assert [one["window"]["first"] for one in covered] == weeks
    assert counted.json()["retried"] == 4
    retried = await fetch(res, "select window_key from runs where state = 'planned' order by window_key desc")
    assert [run["window_key"] for run in retried] == weeks


async def test_a_window_that_began_before_its_rule_is_backfilled_only_if_the_days_begin_before_it_too(
    res: Resources, api: httpx.AsyncClient
) -> None:
    await reconcile(res)
    await add_rule(res, name="months", starts_on=date(2026, 1, 10), cadence="monthly")

    planned = [
        (await api.post("/v1/rules/months/backfill", json={"from": first, "to": "2026-02-01"})).json()["planned"]
        for first in ("2026-01-10", "2026-01-09")
    ]

    assert planned == [0, 1]


async def test_a_backfill_retries_what_failed_and_reruns_only_when_asked_to(
    res: Resources, api: httpx.AsyncClient
) -> None:
    await reconcile(res)
    rule = await add_rule(res, starts_on=date(2026, 2, 25))
    url, body = f"/v1/rules/{rule.id}/backfill", {"from": "2026-02-25", "to": "2026-03-01"}
    for day, state in (("25", "failed"), ("26", "cancelled"), ("27", "stored"), ("28", "requested")):
        await execute(res, f"update runs set state = '{state}' where window_key = '2026-02-{day}'")

    first = await api.post(url, json=body)
    again = [await api.post(url, json={**body, "rerun": True}) for _ in range(2)]

    assert first.json() == {"planned": 0, "retried": 2, "rerun": 0}
    assert [answer.json()["rerun"] for answer in again] == [1, 0], "a revision under way is not made once more"
    runs = await fetch(res, "select window_key, revision, state from runs order by window_key, revision")
    assert [(run["window_key"][-2:], run["revision"], run["state"]) for run in runs] == [
        ("25", 1, "planned"), ("26", 1, "planned"), ("27", 1, "stored"), ("27", 2, "planned"), ("28", 1, "requested"),
    ]  # fmt: skip


async def test_a_rerun_ends_in_a_file_of_its_own(res: Resources, api: httpx.AsyncClient) -> None:
    rule = await add_rule(res, starts_on=date(2026, 2, 28))
    await work_off(res)

    await api.post(f"/v1/rules/{rule.id}/backfill", json={"from": "2026-02-28", "to": "2026-03-01", "rerun": True})
    await work_off(res)

    runs = (await api.get("/v1/runs")).json()["data"]
    assert [(run["revision"], run["state"]) for run in runs] == [(2, "stored"), (1, "stored")]
    assert len({run["stripe_run_id"] for run in runs}) == 2


async def test_an_every_update_rule_is_backfilled_up_to_its_beginning(res: Resources, api: httpx.AsyncClient) -> None:
    await reconcile(res)
    rule = await add_rule(res, starts_on=date(2026, 2, 20), cadence="every_update")
    url = f"/v1/rules/{rule.id}/backfill"

    answers = [await api.post(url, json={"from": "2026-02-01", "to": "2026-03-01"}) for _ in range(2)]

    runs = await fetch(res, "select window_key, interval_end from runs order by window_key")
    assert [answer.json()["planned"] for answer in answers] == [1, 0]
    assert [(run["window_key"], f"{run['interval_end']:%d}") for run in runs] == [
        ("2026-02-01T00:00:00Z", "20"), ("2026-02-20T00:00:00Z", "01"),
    ]  # fmt: skip


async def test_a_backfill_that_cannot_be_made_says_why(
    res: Resources, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill, "MOST_RUNS", 50_000)
    many = [f"acct_{n}" for n in range(1000)]
    rule = await add_rule(res, name="many", starts_on=date(2026, 2, 28), connected_accounts=many)
    url = f"/v1/rules/{rule.id}/backfill"

    early = await api.post(url, json={"from": "2026-02-01", "to": "2026-03-01"})
    await reconcile(res)
    statuses = [
        (await api.post(url, json=body)).status_code
        for body in (
            {"from": "2026-01-01", "to": "2026-03-01"}, {"from": "2026-03-01", "to": "2026-03-01"},
            {"from": "2026-03-01"}, {"from": "x", "to": "y"},
            {"from": "2026-02-28", "to": "2026-03-01", "rerun": "yes"},
        )
    ]  # fmt: skip
    unknown = await api.post("/v1/rules/01a1fc8f-3f8a-7128-9132-0f4c9613f5cb/backfill", json={})

    assert (early.status_code, statuses, unknown.status_code) == (409, [422] * 5, 422)


async def coverage(api: httpx.AsyncClient, rule_id: object, query: str = "") -> list[dict[str, Any]]:
    answer = await api.get(f"/v1/rules/{rule_id}/coverage{query}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def test_coverage_says_for_every_window_what_there_is(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator
) -> None:
    await reconcile(res)
    rule = await add_rule(res, starts_on=date(2026, 2, 22))
    for day, state in (("28", "stored"), ("27", "failed"), ("26", "cancelled"), ("25", "requested")):
        await execute(res, f"update runs set state = '{state}' where window_key = '2026-02-{day}'")
    await execute(res, "delete from run_moves")
    await execute(res, "delete from runs where window_key = '2026-02-23'")
    await execute(res, "update runs set due_at = '2999-01-01T00:00Z' where window_key = '2026-02-22'")

    found = await coverage(api, rule.id, "?to=2026-03-03")

    shown = [(one["interval_start"][5:10], one["state"], one["waiting"] and one["waiting"]["reason"]) for one in found]
    assert shown == [
        ("03-02", "waiting", "availability"), ("03-01", "waiting", "availability"), ("02-28", "stored", None),
        ("02-27", "failed", None), ("02-26", "cancelled", None), ("02-25", "in_progress", None),
        ("02-24", "in_progress", None), ("02-23", "missing", None), ("02-22", "waiting", "backoff"),
    ]  # fmt: skip
    assert found[0]["waiting"]["until"] == "2026-03-03T00:00:00Z"
    assert [one["run_id"] is None for one in found] == [
        one["state"] == "missing" or n < 2 for n, one in enumerate(found)
    ]


async def test_coverage_reaches_to_now(res: Resources, api: httpx.AsyncClient) -> None:
    day = today()
    rule = await add_rule(res, starts_on=date(2026, 2, 28))

    (newest, *_) = await coverage(api, rule.id, "?limit=1")
    unknown = await coverage(api, rule.id, "?from=2026-02-28&to=2026-03-01")

    assert newest["interval_start"][:10] == f"{day}"
    assert [one["waiting"] for one in unknown] == [{"reason": "report_type_missing", "until": None}]


async def test_pages_of_coverage_hold_every_window_of_every_account_once(
    res: Resources, api: httpx.AsyncClient
) -> None:
    await reconcile(res)
    for cadence, zone in (
        ("daily", "America/Los_Angeles"),
        ("weekly", "UTC"),
        ("monthly", "Asia/Tokyo"),
        ("yearly", "UTC"),
    ):
        rule = await add_rule(
            res, name=cadence, starts_on=date(2026, 1, 1), cadence=cadence, timezone=zone,
            connected_accounts=["acct_2", "acct_1", "acct_3"],
        )  # fmt: skip
        whole = await coverage(api, rule.id, "?limit=100&to=2026-02-01")

        paged, query = [], "?limit=7&to=2026-02-01"
        while query:
            page = (await api.get(f"/v1/rules/{rule.id}/coverage{query}")).json()
            paged += page["data"]
            query = page["next_cursor"] and f"?limit=7&to=2026-02-01&cursor={page['next_cursor']}"

        assert paged == whole
        places = [(one["interval_start"], one["connected_account"]) for one in whole]
        assert len(set(places)) == len(places)
        assert set(Counter(start for start, _ in places).values()) <= {3}
        assert [start for start, _ in places] == sorted((start for start, _ in places), reverse=True)


async def test_windows_backfilled_before_the_start_are_shown_and_the_others_are_not_owed(
    res: Resources, api: httpx.AsyncClient
) -> None:
    await reconcile(res)
    rule = await add_rule(res, starts_on=date(2026, 2, 27))
    await api.post(f"/v1/rules/{rule.id}/backfill", json={"from": "2026-02-01", "to": "2026-02-03"})

    found = await coverage(api, rule.id, "?from=2026-01-01&to=2026-03-01")

    assert [one["interval_start"][5:10] for one in found] == ["02-28", "02-27", "02-02", "02-01"]


async def test_while_a_revision_is_made_the_stored_one_covers_the_window(
    res: Resources, api: httpx.AsyncClient
) -> None:
    await reconcile(res)
    rule = await add_rule(res, starts_on=date(2026, 2, 28))
    await execute(res, "update runs set state = 'stored'")
    await api.post(f"/v1/rules/{rule.id}/backfill", json={"from": "2026-02-28", "to": "2026-03-01", "rerun": True})

    (found,) = await coverage(api, rule.id, "?to=2026-03-01")

    assert (found["state"], len(await fetch(res, "select 1 from runs"))) == ("stored", 2)


async def test_an_every_update_rule_shows_what_it_made_and_what_it_waits_for(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator
) -> None:
    await reconcile(res)
    rule = await add_rule(res, starts_on=date(2026, 2, 20), cadence="every_update")
    unpublished(simulator, until="2026-03-02")
    await reconcile(res)

    found = await coverage(api, rule.id)
    paged = [
        (await api.get(f"/v1/rules/{rule.id}/coverage?limit=1")).json()["next_cursor"] is not None,
        days(await coverage(api, rule.id, "?to=2026-02-21")),
        days(await coverage(api, rule.id, "?from=2026-03-02&to=2026-03-03")),
        days(await coverage(api, rule.id, "?from=2026-03-03")),
    ]

    assert days(found) == ["2026-03-02/", "2026-03-01/2026-03-02", "2026-02-20/2026-03-01"]
    assert [one["state"] for one in found] == ["waiting", "in_progress", "in_progress"]
    assert found[0]["waiting"]["reason"] == "availability"
    assert paged == [True, ["2026-02-20/2026-03-01"], ["2026-03-02/"], []]


async def test_bad_queries_of_coverage_are_refused(res: Resources, api: httpx.AsyncClient) -> None:
    rule = await add_rule(res)
    url = f"/v1/rules/{rule.id}/coverage"

    bad = [await api.get(f"{url}{query}") for query in ("?from=x", "?first=2026-01-01", "?cursor=x", "?limit=0")]
    nobodys = await api.get("/v1/rules/01a1fc8f-3f8a-7128-9132-0f4c9613f5cb/coverage")

    assert [answer.status_code for answer in bad] == [422] * 4
    assert [answer.json()["errors"][0]["pointer"] for answer in bad] == ["from", "first", "cursor", "limit"]
    assert nobodys.status_code == 404


async def test_pages_of_an_every_update_rule_keep_to_their_limit_and_hold_every_window_once(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator
) -> None:
    accounts = [f"acct_{number}" for number in range(1, 6)]
    await reconcile(res)
    rule = await add_rule(res, starts_on=date(2026, 2, 20), cadence="every_update", connected_accounts=accounts)
    unpublished(simulator, until="2026-03-02")
    await reconcile(res)

    paged, query = [], "?limit=2"
    while query:
        page = (await api.get(f"/v1/rules/{rule.id}/coverage{query}")).json()
        assert len(page["data"]) <= 2
        paged += page["data"]
        query = page["next_cursor"] and f"?limit=2&cursor={page['next_cursor']}"

    assert [(one["interval_start"][5:10], one["connected_account"]) for one in paged] == [
        (day, account) for day in ("03-02", "03-01", "02-20") for account in accounts
    ]


async def test_days_of_coverage_end_before_to_or_with_through(res: Resources, api: httpx.AsyncClient) -> None:
    await reconcile(res)
    rule = await add_rule(res, starts_on=date(2026, 2, 1))
    url = f"/v1/rules/{rule.id}/coverage"

    through = await coverage(api, rule.id, "?from=2026-02-03&through=2026-02-04")
    both = await api.get(f"{url}?to=2026-02-05&through=2026-02-04")
    backfilled = await api.post(f"/v1/rules/{rule.id}/backfill", json={"from": "2026-02-03"})

    assert [one["interval_start"][5:10] for one in through] == ["02-04", "02-03"]
    assert [error["pointer"] for error in both.json()["errors"]] == ["/through"]
    assert [error["pointer"] for error in backfilled.json()["errors"]] == ["/to"]


async def test_a_preview_of_many_accounts_shows_a_bounded_part_and_counts_all(
    res: Resources, api: httpx.AsyncClient
) -> None:
    await reconcile(res)

    found = await preview(
        api, **{**NEW, "starts_on": "2026-01-01"}, connected_accounts=[f"acct_{number}" for number in range(1000)]
    )

    assert (found["now_total"], len(found["now"]), len(found["next"])) == (59_000, 100, 100)
