"""A month's page counts the same windows as its pack holds, without reading each of them."""

import uuid
from collections import Counter
from datetime import UTC, date, datetime
from typing import Any

import pytest

from app.packs.contents import read_pack
from app.planning.dates import month_bounds
from app.resources import Resources
from app.simulator import Simulator
from app.web.month_counts import count_month, is_over
from tests import service
from tests.service import execute, fetch
from tests.targets.stories import add_listener, months_told
from tests.web.visiting import heading, log_in, plain, visitor

ACCOUNTS = ["acct_1A", "acct_1B"]


@pytest.fixture
async def spring(res: Resources, simulator: Simulator) -> None:
    """Rules of all kinds whose data reaches the 25th of March, and everything that can happen to a window."""
    simulator.advance(service.REPORT_TYPE, to=service.at("2026-03-25"))
    rules: dict[str, dict[str, Any]] = {
        "los angeles": {"timezone": "America/Los_Angeles", "starts_on": date(2026, 2, 27)},
        "weekly": {"cadence": "weekly", "starts_on": date(2026, 2, 2)},
        "monthly": {"cadence": "monthly", "starts_on": date(2026, 2, 1)},
        "two accounts": {"connected_accounts": ACCOUNTS, "starts_on": date(2026, 3, 23)},
        "off": {"enabled": False, "starts_on": date(2026, 3, 20)},
        "deleted": {"starts_on": date(2026, 3, 22)},
        "no such type": {"report_type": "payouts.itemised.5", "starts_on": date(2026, 3, 1)},
    }
    for name, more in rules.items():
        await service.add_rule(res, name=name, **more)
    await service.work_off(res)
    for day, change in {
        "2026-03-02": 'state = \'failed\', error = \'{"kind": "rejected", "message": "Invalid column: nett"}\'',
        "2026-03-03": "state = 'cancelled'",
        "2026-03-04": "state = 'planned'",
    }.items():
        await execute(res, f"update runs set {change} where window_key = :day", day=day)
    await execute(
        res,
        """update files set removed_at = now(), removed_reason = 'retention'
           where run_id in (select id from runs where window_key = '2026-03-05')""",
    )
    await _again(res, "2026-03-06", "stored")
    await _again(res, "2026-03-07", "failed")
    await execute(res, "update rules set deleted_at = now(), name = 'deleted ' || id where name = 'deleted'")


async def _again(res: Resources, day: str, state: str) -> None:
    """A second revision of the windows of a day, in this state."""
    (run,) = await fetch(res, "select * from runs where window_key = :day", day=day)
    names = ", ".join(name for name in run if name not in ("id", "revision", "state"))
    newer = uuid.uuid4()
    columns = f"select :newer, 2, :state, {names} from runs where id = :id"
    await execute(
        res,
        f"insert into runs (id, revision, state, {names}) {columns}",
        id=run["id"],
        newer=newer,
        state=state,
    )
    if state == "stored":
        await execute(res, "update files set run_id = :newer where run_id = :id", newer=newer, id=run["id"])


@pytest.mark.usefixtures("spring")
@pytest.mark.parametrize("month", [date(2026, 2, 1), date(2026, 3, 1)], ids=str)
async def test_a_month_counts_what_its_pack_holds(res: Resources, month: date) -> None:
    first, until = month_bounds(month)
    async with res.sessions() as session:
        pack = await read_pack(session, month, (), res.claim_terms)
        counted = await count_month(session, first, until, datetime.now(UTC))

    assert {rule.name: rule.missing for rule in counted if rule.missing} == Counter(one.rule for one in pack.missing)
    assert {rule.name: rule.cancelled for rule in counted if rule.cancelled} == Counter(
        one.rule for one in pack.cancelled
    )
    stored = [one for one in counted if one.stored]
    assert {rule.name: rule.stored for rule in stored} == Counter(one.rule for one in pack.files)
    assert {rule.name: rule.restated for rule in stored} == {
        rule.name: sum(one.revision > 1 for one in pack.files if one.rule == rule.name) for rule in stored
    }


@pytest.mark.usefixtures("spring")
async def test_a_month_names_the_days_that_a_rule_does_not_cover_or_shares_with_a_neighbour(res: Resources) -> None:
    async with res.sessions() as session:
        february = await count_month(session, *month_bounds(date(2026, 2, 1)), datetime.now(UTC))
        march = await count_month(session, *month_bounds(date(2026, 3, 1)), datetime(2026, 3, 27, tzinfo=UTC))

    of_february, of_march = {one.name: one for one in february}, {one.name: one for one in march}
    assert of_february["los angeles"].not_covered == ["1–26 Feb 2026 are before this rule starts"]
    assert of_february["weekly"].not_covered == ["1 Feb 2026 is before this rule starts"]
    assert of_february["weekly"].shared == ["23–28 Feb 2026 are in the pack of March 2026"]
    assert of_march["weekly"].shared == [
        "23–28 Feb 2026 are in this pack too",
        "30–31 Mar 2026 are in the pack of April 2026",
    ]
    assert "off" not in of_march  # it never requested anything
    assert of_march["monthly"].not_due == 1
    async with visitor(res) as client:
        await log_in(client)
        page = await client.get("/months/2026-02")
    assert "1–26 Feb 2026 are before this rule starts" in plain(page.text)


async def test_a_month_that_is_not_over_lists_every_rule_and_keeps_apart_what_is_not_due_yet(
    res: Resources, simulator: Simulator
) -> None:
    first, _ = month_bounds(datetime.now(UTC).date())
    simulator.advance(service.REPORT_TYPE, to=datetime.now(UTC))
    await service.add_rule(res, name="whole month", cadence="monthly", starts_on=first)
    await service.add_rule(res, name="by update", cadence="every_update", starts_on=first)
    await service.work_off(res)
    async with visitor(res) as client:
        await log_in(client)
        page = await client.get(f"/months/{first:%Y-%m}")

    assert heading(page).startswith(f"{first:%B %Y} is not over: ")
    assert heading(page).endswith("0 reports are missing, 2 are not due yet.")
    assert "whole month" in page.text
    assert "by update" in page.text
    assert "none due yet" in page.text


async def test_a_month_of_updates_is_complete_on_its_page_in_its_pack_and_in_the_message_at_once(
    res: Resources, simulator: Simulator
) -> None:
    await add_listener(res)
    simulator.advance(service.REPORT_TYPE, to=service.at("2026-03-31T12:00"))
    await service.add_rule(res, name="updates", cadence="every_update", timezone="America/Los_Angeles")
    await service.work_off(res)
    async with visitor(res) as client:
        await log_in(client)
        page, pack = await client.get("/months/2026-03"), await client.get("/months/2026-03/pack.zip")
        before = await months_told(res)
        simulator.advance(service.REPORT_TYPE, to=service.at("2026-04-01T07:00"))
        await service.work_off(res)
        later, whole = await client.get("/months/2026-03"), await client.get("/months/2026-03/pack.zip")

    assert heading(page).startswith("March 2026 is not complete: 1 report is missing")
    assert (pack.status_code, before) == (409, [])
    assert [(one["first"], one["last"], one["reason"]) for one in pack.json()["missing"]] == [
        ("2026-03-31", "2026-03-31", "waits (availability until 2026-03-31 12:00 UTC)")
    ]
    assert heading(later).startswith("March 2026 is complete")
    assert (whole.status_code, await months_told(res)) == (200, [("2026-03", 2)])


async def test_a_month_is_not_over_before_it_is_in_each_rules_zone(res: Resources, simulator: Simulator) -> None:
    simulator.advance(service.REPORT_TYPE, to=service.at("2026-03-31T07:00"))
    for cadence in ("daily", "every_update"):
        await service.add_rule(res, name=cadence, cadence=cadence, timezone="America/Los_Angeles")
    await service.work_off(res)
    now, (first, until) = service.at("2026-04-01T02:00"), month_bounds(date(2026, 3, 1))
    async with res.sessions() as session:
        counted = await count_month(session, first, until, now)

    assert not is_over(counted, until, now)
    assert [(rule.name, rule.missing, rule.later) for rule in counted] == [("daily", 0, 1), ("every_update", 0, 1)]


@pytest.mark.usefixtures("spring")
async def test_a_month_says_what_is_missing_and_why(res: Resources) -> None:
    async with visitor(res) as client:
        await log_in(client)
        page = await client.get("/months/2026-03")

    assert heading(page).startswith("March 2026 is not complete")
    for said in ("Invalid column: nett.", "Its file was removed.", "Stripe does not have this report type."):
        assert said in plain(page.text)


@pytest.mark.usefixtures("spring")
async def test_windows_that_are_blocked_are_one_line_with_their_reason(res: Resources) -> None:
    async with res.sessions() as session:
        counted = await count_month(session, *month_bounds(date(2026, 3, 1)), datetime(2026, 3, 27, tzinfo=UTC))

    (gap,) = next(one for one in counted if one.name == "no such type").gaps
    assert (gap.state, gap.number, gap.dates, gap.is_due) == ("blocked", 26, "1–26 Mar 2026", True)
