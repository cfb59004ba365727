"""Requesting a report again, days later: an unchanged one leaves no file, a different one is a new revision."""

import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import httpx
import pytest

from app.files import FileStore
from app.health.notices import announce_lasting
from app.resources import Resources
from app.rules.rechecks import plan_rechecks
from app.simulator import Simulator
from app.tables.comparing import rows_digest
from app.vocabulary import TargetKind
from app.web.month_counts import count_month
from tests.service import REPORT_TYPE, add_rule, at, execute, fetch, request_due, unpublished, work_off
from tests.tables.stored import load_all
from tests.tables.test_health import checks
from tests.targets.stories import add_target
from tests.web.visiting import log_in, visitor


async def stored_days_ago(res: Resources, days: int) -> None:
    """As if everything stored had been stored for this long, and the rule had asked for re-checks before."""
    await execute(res, "update runs set stored_at = now() - make_interval(days => :days)", days=days)
    await execute(res, "update rules set updated_at = now() - interval '90 days'")


async def runs(res: Resources) -> list[tuple[int, str, bool]]:
    found = await fetch(res, "select revision, state, recheck from runs order by revision")
    return [(row["revision"], row["state"], row["recheck"]) for row in found]


async def one_stored_window(res: Resources, simulator: Simulator, **rule: object) -> None:
    unpublished(simulator, REPORT_TYPE, until="2026-03-02")
    await add_rule(res, name="checked", recheck_days=[3, 30], **rule)
    await work_off(res)


async def test_an_unchanged_report_ends_without_a_file_and_is_requested_again_on_the_next_day_only(
    tables: Resources, simulator: Simulator
) -> None:
    await one_stored_window(tables, simulator)
    assert await plan_rechecks(tables) is False
    assert await runs(tables) == [(1, "stored", False)]

    await stored_days_ago(tables, 4)
    await plan_rechecks(tables)
    await plan_rechecks(tables)
    await work_off(tables)
    await plan_rechecks(tables)

    assert await runs(tables) == [(1, "stored", False), (2, "cancelled", True)]
    (move,) = await fetch(tables, "select reason from run_moves where to_state = 'cancelled'")
    assert move["reason"] == "unchanged"
    assert len(await fetch(tables, "select 1 from files")) == 1

    await stored_days_ago(tables, 31)
    await plan_rechecks(tables)
    await work_off(tables)
    assert await runs(tables) == [(1, "stored", False), (2, "cancelled", True), (3, "cancelled", True)]


async def test_what_differs_is_a_new_revision_and_shows(tables: Resources, simulator: Simulator) -> None:
    await one_stored_window(tables, simulator)
    await load_all(tables)
    await stored_days_ago(tables, 4)
    simulator.restate(at("2026-03-01"), at("2026-03-02"))

    await plan_rechecks(tables)
    await work_off(tables)
    await load_all(tables)

    assert await runs(tables) == [(1, "stored", False), (2, "stored", True)]
    (diff,) = await fetch(tables, "select added + removed + changed as rows from diffs")
    assert diff["rows"] > 0
    shown = await fetch(tables, "select distinct _revision from reports.balance_change_from_activity_itemized")
    assert [row["_revision"] for row in shown] == [2]


async def test_recheck_days_that_had_passed_when_the_rule_named_them_are_not_made_up_for(
    tables: Resources, simulator: Simulator
) -> None:
    await one_stored_window(tables, simulator, starts_on=date(2026, 3, 1))
    await execute(tables, "update runs set stored_at = now() - interval '40 days'")

    await plan_rechecks(tables)

    assert await runs(tables) == [(1, "stored", False)]


async def test_a_change_of_the_rule_leaves_the_days_that_are_still_to_come(
    tables: Resources, simulator: Simulator, api: httpx.AsyncClient
) -> None:
    await one_stored_window(tables, simulator)
    await stored_days_ago(tables, 4)
    await plan_rechecks(tables)
    await work_off(tables)
    (rule,) = (await api.get("/v1/rules")).json()["data"]
    assert (await api.patch(f"/v1/rules/{rule['id']}", json={"name": "renamed"})).status_code == 200

    await execute(
        tables,
        "update runs set stored_at = stored_at - interval '27 days', planned_at = planned_at - interval '27 days'",
    )
    await execute(tables, "update rules set updated_at = updated_at - interval '27 days'")
    await plan_rechecks(tables)
    await work_off(tables)
    await plan_rechecks(tables)

    assert await runs(tables) == [(1, "stored", False), (2, "cancelled", True), (3, "cancelled", True)]


async def test_a_day_that_passes_shortly_before_a_change_of_the_rule_is_not_lost(
    tables: Resources, simulator: Simulator
) -> None:
    await one_stored_window(tables, simulator)
    await execute(tables, "update runs set stored_at = now() - interval '3 days 10 minutes'")
    await execute(tables, "update rules set updated_at = now() - interval '5 minutes'")
    for _ in range(2):
        await plan_rechecks(tables)
        await work_off(tables)
    assert await runs(tables) == [(1, "stored", False), (2, "cancelled", True)]

    await execute(
        tables,
        "update runs set stored_at = stored_at - interval '27 days', planned_at = planned_at - interval '27 days'",
    )
    await execute(tables, "update rules set updated_at = updated_at - interval '27 days'")
    for _ in range(2):
        await plan_rechecks(tables)
        await work_off(tables)
    assert await runs(tables) == [(1, "stored", False), (2, "cancelled", True), (3, "cancelled", True)]


@pytest.mark.parametrize("store", ["database", "file"])
async def test_the_same_rows_in_other_bytes_are_unchanged_where_there_is_a_table(
    tables: Resources, simulator: Simulator, store: str, tmp_path: Path
) -> None:
    if store == "file":
        tables = replace(tables, files=FileStore(tables.sessions, f"file://{tmp_path}"))
    await one_stored_window(tables, simulator)
    await load_all(tables)
    await stored_days_ago(tables, 4)
    simulator.inject("report_unquoted")
    simulator.inject("report_bom")

    await plan_rechecks(tables)
    await work_off(tables)

    assert await runs(tables) == [(1, "stored", False), (2, "cancelled", True)]
    assert len(await fetch(tables, "select 1 from files")) == 1


async def test_other_bytes_are_a_new_revision_where_there_is_no_table(tables: Resources, simulator: Simulator) -> None:
    await one_stored_window(tables, simulator)
    await stored_days_ago(tables, 4)
    simulator.inject("report_unquoted")

    await plan_rechecks(tables)
    await work_off(tables)

    assert await runs(tables) == [(1, "stored", False), (2, "stored", True)]


async def seen_outside(res: Resources, api: httpx.AsyncClient) -> dict[str, object]:
    """Every view of whether the rule's reports are stored."""
    (rule,) = (await api.get("/v1/rules")).json()["data"]
    health = (await api.get("/health")).json()
    day = {"from": "2026-03-01", "through": "2026-03-01"}
    coverage = (await api.get(f"/v1/rules/{rule['id']}/coverage", params=day)).json()["data"]
    backfill = (await api.post(f"/v1/rules/{rule['id']}/backfill", json={**day, "dry_run": True})).json()
    await announce_lasting(res)
    async with visitor(res) as client:
        await log_in(client)
        today, calendar = (await client.get("/")).text, (await client.get(f"/rules/{rule['id']}")).text
    async with res.sessions.begin() as session:
        month = await count_month(session, date(2026, 3, 1), date(2026, 4, 1), at("2026-05-01"))
    return {
        "health": [one for one in health["checks"] if one["name"] in ("freshness", "failed_runs")],
        "rules": health["rules"],
        "metrics": re.findall(r'tallyhook_runs{.*state="failed"} .*', (await api.get("/metrics")).text),
        "today": re.findall(r"<h2[^>]*>[^<]*|Stripe is tired|\blate\b", today),
        "calendar": re.findall(r'<p class="lead">.*', calendar),
        "month": month,
        "coverage": [(one["state"], one["run_id"]) for one in coverage],
        "latest": [one["id"] for one in (await api.get("/v1/runs?latest=true")).json()["data"]],
        "backfill": backfill,
        "messages": [row["type"] for row in await fetch(res, "select type from messages order by id")],
    }


async def test_whatever_becomes_of_a_recheck_its_window_stays_stored_everywhere(
    tables: Resources, simulator: Simulator, api: httpx.AsyncClient
) -> None:
    tables = replace(tables, settings=tables.settings.model_copy(update={"target_folders": ("file:///srv/reports",)}))
    await add_target(tables, TargetKind.FOLDER, url="file:///srv/reports")
    await one_stored_window(tables, simulator)
    await stored_days_ago(tables, 4)
    await execute(tables, "update rule_progress set next_due_at = now() + interval '1 day'")
    stored = await seen_outside(tables, api)
    simulator.inject("run_fails", times=3, message="Stripe is tired")

    await plan_rechecks(tables)
    await request_due(tables)
    await execute(tables, "update runs set planned_at = now() - interval '7 hours' where recheck")
    await execute(tables, "update run_moves set at = now() - interval '7 hours'")
    assert await runs(tables) == [(1, "stored", False), (2, "requested", True)]
    assert await seen_outside(tables, api) == stored, "overdue"

    await work_off(tables)
    assert await runs(tables) == [(1, "stored", False), (2, "failed", True)]
    assert await seen_outside(tables, api) == stored, "failed"
    (failed,) = (await api.get("/v1/runs?state=failed")).json()["data"]
    assert (failed["revision"], failed["recheck"], failed["error"]["message"]) == (2, True, "Stripe is tired")
    async with visitor(tables) as client:
        await log_in(client)
        assert "re-check, revision 2" in (await client.get("/runs?state=failed")).text
        assert "2, a re-check" in (await client.get(f"/runs/{failed['id']}")).text

    await execute(tables, "update rules set parameters = jsonb_build_object('currency', 'eur')")
    await api.post(f"/v1/runs/{failed['id']}/retry")
    await work_off(tables)
    assert await runs(tables) == [(1, "stored", False), (2, "cancelled", True)], "with the parameters that it had"
    assert await seen_outside(tables, api) == stored, "unchanged"


async def test_health_says_so_while_rechecks_prove_nothing(
    tables: Resources, simulator: Simulator, api: httpx.AsyncClient
) -> None:
    async def said() -> tuple[str, str]:
        return (await checks(api))["rechecks"]

    async def request_again(*, after_days: int) -> None:
        await stored_days_ago(tables, after_days)
        await plan_rechecks(tables)
        await work_off(tables)

    ok = ("ok", "no re-check was answered with the file that it checks")
    simulator.inject("run_earlier_file", times=3)
    await one_stored_window(tables, simulator)
    await execute(tables, "update rules set recheck_days = array[3, 30, 60]")
    assert await said() == ok

    await request_again(after_days=4)
    await execute(tables, "update report_types set same_file_since = '2026-03-05' where same_file_since is not null")
    await request_again(after_days=31)
    nothing = f"Stripe answers with the earlier file, so re-checks prove nothing for {REPORT_TYPE} of default"
    assert await said() == ("degraded", f"{nothing} (since 2026-03-05)")
    await execute(tables, "update rules set report_type = 'balance_change_from_activity.itemized.latest'")
    assert await said() == ok, "no rule has this type re-checked"
    await execute(
        tables,
        "insert into report_types (account, id, resolves_to) select account, report_type, :resolved from rules",
        resolved=REPORT_TYPE,
    )
    assert (await said())[0] == "degraded", "the rule's type resolves to it"

    await execute(tables, "update rules set report_type = :report_type", report_type=REPORT_TYPE)
    await request_again(after_days=61)
    assert await runs(tables) == [(1, "stored", False), *((number, "cancelled", True) for number in (2, 3, 4))]
    assert await said() == ok, "a file of its own"


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (b"b,a\n2,1\n4,3\n", True),  # columns in another order
        (b"a,b\n3,4\n1,2\n", True),  # rows in another order
        (b'\xef\xbb\xbf"a","b"\r\n"1","2"\r\n"3","4"\r\n', True),
        (b"a,b\n1,2\n3,4\n3,4\n", False),  # a row twice
        (b"a,b\n1,2\n", False),
        (b"a,b\n1,2\n4,3\n", False),
        (b"a,c\n1,2\n3,4\n", False),
        (b"a,b,c\n1,2,\n3,4,\n", False),
    ],
)
def test_rows_are_the_same_in_any_order_and_any_writing(other: bytes, same: bool) -> None:
    assert (rows_digest([b"a,b\n1,2\n3,4\n"]) == rows_digest([other])) is same
