"""Runs are found by the dates that people know: by day, by month, the latest, those stored since a time."""

import uuid
from datetime import date, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.resources import Resources
from app.runs import moves
from app.simulator import Simulator
from app.upkeep.reconcile import reconcile
from app.vocabulary import RunState
from tests import service
from tests.days import today
from tests.service import execute, fetch

ZONE = "America/Los_Angeles"


@pytest.fixture
async def daily(res: Resources, simulator: Simulator) -> None:
    """Three stored days of a rule in Los Angeles, and a stored month of another."""
    simulator.advance(service.REPORT_TYPE, to=service.at("2026-04-02"))
    await service.add_rule(res, name="daily", timezone=ZONE, starts_on=service.at("2026-03-29").date())
    await service.add_rule(res, name="monthly", cadence="monthly", starts_on=service.at("2026-03-01").date())
    await service.work_off(res)


async def days(api: httpx.AsyncClient, **params: Any) -> list[str]:
    """The first and last local dates of the runs that are listed."""
    answer = await api.get("/v1/runs", params=params)
    assert answer.status_code == 200, answer.text
    return [f"{run['window']['first']}..{run['window']['last']}" for run in answer.json()["data"]]


@pytest.mark.usefixtures("daily")
async def test_a_run_shows_its_window_in_local_dates(api: httpx.AsyncClient) -> None:
    (run,) = (await api.get("/v1/runs", params={"rule": "monthly"})).json()["data"]

    assert run["window"] == {"first": "2026-03-01", "last": "2026-03-31", "timezone": "UTC"}


@pytest.mark.usefixtures("daily")
async def test_runs_are_filtered_by_the_day_that_their_window_counts_as(api: httpx.AsyncClient) -> None:
    until = await days(api, rule="daily", to="2026-03-31", order="-window")
    through = await days(api, rule="daily", through="2026-03-31", order="-window")
    march = await days(api, **{"from": "2026-03-31", "to": "2026-04-01"}, order="-window")

    assert until == ["2026-03-30..2026-03-30", "2026-03-29..2026-03-29"]
    assert through == ["2026-03-31..2026-03-31", *until]
    assert march == ["2026-03-01..2026-03-31", "2026-03-31..2026-03-31"]


@pytest.mark.usefixtures("daily")
async def test_both_forms_of_an_end_and_both_names_of_a_rule_are_refused(api: httpx.AsyncClient) -> None:
    ends = await api.get("/v1/runs", params={"to": "2026-03-31", "through": "2026-03-30"})
    of_checks = await api.get("/v1/checks", params={"to": "2026-03-31", "through": "2026-03-30"})
    names = await api.get("/v1/runs", params={"rule": "daily", "rule_id": "01a1fe99-9c4a-7000-bd32-e12b7cda8e62"})
    unknown = await api.get("/v1/runs", params={"rule": "dayly"})

    assert [ends.status_code, of_checks.status_code, names.status_code, unknown.status_code] == [422, 422, 422, 404]


@pytest.mark.usefixtures("daily")
@pytest.mark.parametrize("since", ["1970-01-01T00:00:00Z", "0002-01-01T00:00:00+14:00"])
async def test_a_first_request_may_ask_for_what_was_stored_since_ever(api: httpx.AsyncClient, since: str) -> None:
    everything = (await api.get("/v1/runs", params={"order": "stored"})).json()["data"]

    found = (await api.get("/v1/runs", params={"order": "stored", "stored_after": since})).json()["data"]

    assert [run["id"] for run in found] == [run["id"] for run in everything]
    assert found


@pytest.mark.usefixtures("daily")
@pytest.mark.parametrize("order", ["-planned", "-window", "stored"])
async def test_every_order_can_be_paged_through_without_a_gap(
    res: Resources, api: httpx.AsyncClient, order: str
) -> None:
    await api.post("/v1/runs", json={"report_type": "balance.summary.1", "interval_start": "2026-03-01T00:00:00Z",
                                     "interval_end": "2026-03-02T00:00:00Z"})  # fmt: skip
    await service.work_off(res)
    whole = [run["id"] for run in (await api.get("/v1/runs", params={"order": order})).json()["data"]]
    paged, cursor = [], None
    while True:
        params = {"order": order, "limit": "1"} | ({} if cursor is None else {"cursor": cursor})
        page = (await api.get("/v1/runs", params=params)).json()
        paged += [run["id"] for run in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert len(whole) == 5
    assert paged == whole


@pytest.mark.usefixtures("daily")
async def test_a_cursor_of_another_order_is_refused(api: httpx.AsyncClient) -> None:
    page = (await api.get("/v1/runs", params={"limit": 1})).json()

    refused = await api.get("/v1/runs", params={"order": "-window", "cursor": page["next_cursor"]})

    assert refused.status_code == 422


@pytest.mark.usefixtures("daily")
async def test_a_poller_gets_what_was_stored_since_strictly_and_in_order(
    res: Resources, api: httpx.AsyncClient
) -> None:
    await execute(res, "update runs set stored_at = interval_end + interval '1.000001 s'")
    all_of_them = (await api.get("/v1/runs", params={"order": "stored"})).json()["data"]
    since = all_of_them[0]["stored_at"]

    later = (await api.get("/v1/runs", params={"order": "stored", "stored_after": since})).json()["data"]

    assert [run["id"] for run in later] == [run["id"] for run in all_of_them if run["stored_at"] > since]


@pytest.mark.usefixtures("daily")
async def test_a_poller_misses_nothing_that_was_being_stored_while_it_looked(
    res: Resources, api: httpx.AsyncClient
) -> None:
    runs = [row["id"] for row in await fetch(res, "update runs set state = 'ready', stored_at = null returning id")]
    since = "2026-01-01T00:00:00Z"
    seen: list[uuid.UUID] = []

    async def poll() -> None:
        nonlocal since
        found = (await api.get("/v1/runs", params={"stored_after": since, "order": "stored"})).json()["data"]
        seen.extend(uuid.UUID(run["id"]) for run in found)
        since = found[-1]["stored_at"] if found else since

    async def store(session: AsyncSession, run_id: uuid.UUID) -> None:
        await moves.move(session, run_id, to=RunState.STORED, reason="the file is complete")

    # Given a transaction that has stored a run, and one that has only begun
    async with res.sessions.begin() as storing, res.sessions.begin() as begun:
        await store(storing, runs[0])
        await begun.execute(text("select now()"))
        async with res.sessions.begin() as session:
            await store(session, runs[1])
        await poll()
        await storing.commit()
        await poll()
        await store(begun, runs[2])
    await poll()

    assert sorted(seen) == sorted(runs[:3])


@pytest.mark.usefixtures("daily")
async def test_latest_is_the_newest_stored_revision_of_each_window(res: Resources, api: httpx.AsyncClient) -> None:
    again = {"from": "2026-03-29", "to": "2026-03-30", "rerun": True}
    await api.post("/v1/rules/daily/backfill", json=again)
    await service.work_off(res)
    await api.post("/v1/rules/daily/backfill", json=again)
    (third,) = await fetch(res, "select id from runs where revision = 3")

    latest = (await api.get("/v1/runs", params={"rule": "daily", "latest": True, "order": "-window"})).json()["data"]

    assert [(run["window"]["first"], run["revision"]) for run in latest] == [
        ("2026-03-31", 1), ("2026-03-30", 1), ("2026-03-29", 2),
    ]  # fmt: skip
    assert str(third["id"]) not in {run["id"] for run in latest}


@pytest.mark.usefixtures("daily")
async def test_a_rules_file_is_found_by_a_date_by_a_time_and_as_the_latest(
    res: Resources, api: httpx.AsyncClient
) -> None:
    (run,) = (await api.get("/v1/runs", params={"rule": "daily", "from": "2026-03-30", "to": "2026-03-31"})).json()[
        "data"
    ]

    by_date = await api.get("/v1/rules/daily/files/2026-03-30")
    by_time = await api.get("/v1/rules/daily/files/2026-03-30T20:00:00Z")
    in_month = await api.get("/v1/rules/monthly/files/2026-03-17")
    latest = await api.get("/v1/rules/daily/files/latest")

    assert by_date.headers["etag"] == f'"{run["file"]["sha256"]}"'
    assert by_time.content == by_date.content
    assert in_month.status_code == 200
    assert "2026-03-31" in latest.headers["content-disposition"]


@pytest.mark.usefixtures("daily")
async def test_a_missing_file_says_why(res: Resources, api: httpx.AsyncClient) -> None:
    await execute(res, "update runs set state = 'failed' where window_key = '2026-03-29'")

    failed = await api.get("/v1/rules/daily/files/2026-03-29")
    before = await api.get("/v1/rules/daily/files/2026-01-01")
    waits = await api.get("/v1/rules/daily/files/2026-04-05")
    odd = await api.get("/v1/rules/daily/files/2026-02-30")
    unknown = await api.get("/v1/rules/dayly/files/latest")

    assert failed.status_code == 409
    assert "failed" in failed.json()["detail"]
    assert before.status_code == 404
    assert "2026-03-29" in before.json()["detail"]
    assert waits.status_code == 409
    assert "waits" in waits.json()["detail"]
    assert odd.status_code == 422
    assert unknown.status_code == 404


async def answer_for(api: httpx.AsyncClient, rule: str, when: str) -> tuple[int, str]:
    """The status, and the reason."""
    answer = await api.get(f"/v1/rules/{rule}/files/{when}")
    return answer.status_code, answer.json()["detail"].split(": ", 1)[-1]


async def test_days_of_a_month_from_before_stripes_data_are_not_owed(
    res: Resources, simulator: Simulator, api: httpx.AsyncClient
) -> None:
    service.unpublished(simulator, until="2026-03-01")
    simulator.report_type(service.REPORT_TYPE).data_available_start = int(service.at("2026-02-10T06:00").timestamp())
    await reconcile(res)
    await service.add_rule(res, name="monthly", cadence="monthly", starts_on=date(2026, 1, 5))
    await service.work_off(res)

    assert (await api.get("/v1/rules/monthly/files/2026-02-10")).status_code == 200
    assert await answer_for(api, "monthly", "2026-02-05") == (404, "it owes nothing before 2026-02-10")
    early = await answer_for(api, "monthly", "2026-02-10T05:00:00Z")
    assert early == (404, "it owes nothing before 2026-02-10T06:00:00Z")
    # A rule that begins in the middle of a month owes the next one first.
    await service.add_rule(res, name="later", cadence="monthly", starts_on=date(2026, 3, 10))
    assert await answer_for(api, "later", "2026-03-15") == (404, "it owes nothing before 2026-04-01")


async def test_a_day_that_the_next_update_will_hold_is_waited_for(
    res: Resources, simulator: Simulator, api: httpx.AsyncClient
) -> None:
    service.unpublished(simulator, until="2026-03-01")
    await reconcile(res)
    await service.add_rule(res, name="updates", cadence="every_update", starts_on=date(2026, 2, 20))
    await service.work_off(res)
    tomorrow = str(today() + timedelta(days=1))

    status, why = await answer_for(api, "updates", "2026-03-02")
    assert (status, why) == (409, "it waits (availability until 2026-03-01 00:00 UTC)")
    assert (await api.get("/v1/rules/updates/files/2026-02-28")).status_code == 200
    assert await answer_for(api, "updates", "2026-02-19") == (404, "it starts on 2026-02-20")
    assert await answer_for(api, "updates", tomorrow) == (404, "that day is not over yet")


async def test_several_connected_accounts_are_distinguished_by_name(
    res: Resources, simulator: Simulator, api: httpx.AsyncClient
) -> None:
    await service.add_rule(res, name="connected", connected_accounts=["acct_1", "acct_2"])
    await execute(res, "update rule_progress set next_due_at = null")
    simulator.advance(service.REPORT_TYPE, to=service.at("2026-03-02"))
    await service.work_off(res)
    await execute(res, "update runs set state = 'stored' where state <> 'stored'")

    several = await api.get("/v1/rules/connected/files/2026-03-01")
    other = await api.get("/v1/rules/connected/files/2026-03-01", params={"connected_account": "acct_9"})

    assert several.status_code == 409
    assert "acct_1" in several.json()["detail"]
    assert "acct_2" in several.json()["detail"]
    assert other.status_code in (404, 409)
