"""Runs over HTTP: listed, filtered, shown with their history, and why they wait."""

from dataclasses import replace
from datetime import date
from typing import Any

import httpx

from app.resources import Resources
from app.simulator import Simulator
from app.stripe_api.rate_limit import Limiter
from app.upkeep.reconcile import reconcile
from tests.api.conftest import client_of
from tests.service import REPORT_TYPE, add_rule, execute, fetch, request_due, work_off

LAST_DAY = date(2026, 2, 28)  # that there is data for
SHAPE = {
    "id", "rule_id", "account", "report_type", "connected_account", "state", "attempt", "revision", "partial",
    "recheck", "waiting", "window", "interval_start", "interval_end", "parameters", "stripe_run_id", "error", "file",
    "load", "planned_at",
    "requested_at", "ready_at", "stored_at",
}  # fmt: skip


async def listed(api: httpx.AsyncClient, query: str = "") -> list[dict[str, Any]]:
    answer = await api.get(f"/v1/runs{query}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


async def test_a_stored_run_is_shown_in_the_shape_of_the_contract(res: Resources, api: httpx.AsyncClient) -> None:
    rule = await add_rule(res, starts_on=LAST_DAY)
    await work_off(res)

    (run,) = await listed(api)
    shown = (await api.get(f"/v1/runs/{run['id']}")).json()

    assert set(run) == SHAPE
    assert {name: shown[name] for name in run} == run
    assert [(move["from_state"], move["to_state"]) for move in shown["history"]] == [
        (None, "planned"), ("planned", "requested"), ("requested", "ready"), ("ready", "stored"),
    ]  # fmt: skip
    assert (run["state"], run["rule_id"], run["attempt"], run["revision"]) == ("stored", str(rule.id), 1, 1)
    assert (run["interval_start"], run["interval_end"]) == ("2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z")
    assert run["parameters"] == {"interval_start": 1772236800, "interval_end": 1772323200}
    assert run["stripe_run_id"].startswith("frr_")
    assert (run["waiting"], run["error"]) == (None, None)
    assert run["file"]["media_type"] == "text/csv"
    assert len(run["file"]["sha256"]) == 64
    assert run["file"]["line_count"] == len((await api.get(f"/v1/runs/{run['id']}/file")).text.splitlines())
    assert all(run[name].endswith("Z") for name in ("planned_at", "requested_at", "ready_at", "stored_at"))


async def test_filters_narrow_the_list_and_combine(res: Resources, api: httpx.AsyncClient) -> None:
    await reconcile(res)
    day = LAST_DAY
    one = await add_rule(res, starts_on=day, connected_accounts=["acct_1", "acct_2"])
    await add_rule(res, starts_on=day)
    await execute(res, "update runs set state = 'failed' where connected_account = 'acct_2'")

    counts = {
        query: len(await listed(api, query))
        for query in (
            "", "?state=failed", "?state=stored", f"?rule_id={one.id}", f"?report_type={REPORT_TYPE}",
            "?report_type=a.b", "?account=default", "?account=other", "?connected_account=acct_1",
            f"?rule_id={one.id}&state=planned", "?connected_account=acct_1&state=failed",
        )
    }  # fmt: skip

    assert list(counts.values()) == [3, 1, 0, 2, 3, 0, 3, 0, 1, 1, 0]


async def test_pages_hold_every_run_once_while_others_are_added(res: Resources, api: httpx.AsyncClient) -> None:
    await reconcile(res)
    await add_rule(res, starts_on=date(2026, 2, 19))
    before = [run["id"] for run in await listed(api)]
    assert len(before) == 10

    seen, query = [], "?limit=3"
    for page in range(4):
        answer = (await api.get(f"/v1/runs{query}")).json()
        seen += [run["id"] for run in answer["data"]]
        query = f"?limit=3&cursor={answer['next_cursor']}"
        await add_rule(res, name=f"later {page}", starts_on=date(2026, 2, 27))

    assert seen == before == sorted(before, reverse=True)
    assert answer["next_cursor"] is None


async def test_the_last_full_page_is_known_to_be_the_last(res: Resources, api: httpx.AsyncClient) -> None:
    await reconcile(res)
    await add_rule(res, starts_on=date(2026, 2, 27))

    assert (await api.get("/v1/runs?limit=2")).json()["next_cursor"] is None
    assert (await api.get("/v1/runs?limit=1")).json()["next_cursor"] is not None


async def test_times_are_utc_whatever_zone_the_server_prefers(res: Resources, api: httpx.AsyncClient) -> None:
    await reconcile(res)
    await add_rule(res, starts_on=LAST_DAY)
    alter = "format('alter database %I set timezone to ''Asia/Tokyo''', current_database())"
    await execute(res, f"do $$ begin execute {alter}; end $$")
    await res.engine.dispose()

    (run,) = await listed(api)

    assert run["interval_start"] == "2026-02-28T00:00:00Z"


async def waiting(res: Resources, api: httpx.AsyncClient, *changes: str) -> Any:
    """Why the one run waits once its columns have these values."""
    for change in changes:
        await execute(res, change)
    (run,) = await listed(api)
    return run["waiting"]


async def test_a_run_says_why_it_stands_still(res: Resources, api: httpx.AsyncClient) -> None:
    await reconcile(res)
    await add_rule(res, starts_on=LAST_DAY)
    later, far = "2999-01-01T00:00:00Z", "now() + interval '1 hour'"
    end = "2026-03-01T00:00:00Z"

    assert await waiting(res, api) is None
    hold = (
        "insert into account_holds (account, call_kind, reason, next_probe_at) values ('default', 'create', '', '{}')"
    )
    pending = """
        insert into runs (id, account, report_type, state, parameters, attempts_granted)
        select gen_random_uuid(), account, report_type, 'requested', parameters, 3 from runs, generate_series(1, 20)
    """
    # Each of these takes precedence over the ones before it.
    steps = [
        (pending, "slot", None),
        (f"update runs set due_at = '{later}' where state = 'planned'", "backoff", later),
        (hold.format(later), "account_held", later),
        ("update runs set refused_at_availability = interval_end where state = 'planned'", "availability", None),
        ("update report_types set data_available_end = '2026-02-28T12:00Z'", "availability", end),
        (f"update report_types set missing_since = now(), next_probe_at = '{later}'", "report_type_missing", later),
    ]  # fmt: skip
    for statement, reason, until in steps:
        await execute(res, statement)
        (run,) = await listed(api, "?state=planned")
        assert run["waiting"] == {"reason": reason, "until": until}, reason

    await execute(res, f"update runs set lease_until = {far} where state = 'planned'")
    (run,) = await listed(api, "?state=planned")
    assert run["waiting"] is None, "somebody is at it just now"


async def test_a_run_waits_for_the_rate_limit(res: Resources) -> None:
    await reconcile(res)
    await add_rule(res, starts_on=LAST_DAY)
    await execute(res, "insert into rate_limits values ('default', 'create', '2999-01-01T00:00Z')")

    limited = replace(res, limiter=Limiter(4.0))
    async with client_of(limited) as api:
        found = await waiting(limited, api)

    # Not until then: no call puts the next one off for longer than a step.
    assert found is not None
    assert found["reason"] == "rate"
    assert found["until"] < "2999"


async def test_a_ready_run_waits_for_the_files_host_only(res: Resources, api: httpx.AsyncClient) -> None:
    await reconcile(res)
    await add_rule(res, starts_on=LAST_DAY)
    await request_due(res)
    columns = "(account, call_kind, reason, next_probe_at)"
    hold = f"insert into account_holds {columns} values ('default', '{{}}', '', '2999-01-01')"

    found = [
        await waiting(res, api, *changes)
        for changes in (
            ("update runs set state = 'ready', due_at = now()", hold.format("create")),
            (hold.format("files"),),
            ("delete from account_holds", "update runs set due_at = '2999-01-01T00:00Z'"),
            ("update runs set state = 'requested'",),
        )
    ]

    assert [why and why["reason"] for why in found] == [None, "account_held", "backoff", None]


async def test_a_failed_run_says_why(res: Resources, api: httpx.AsyncClient, simulator: Simulator) -> None:
    await reconcile(res)
    await add_rule(res, starts_on=LAST_DAY, parameters={"columns": ["no_such_column"]})
    await work_off(res)

    (run,) = await listed(api)

    assert run["state"] == "failed"
    assert run["error"]["kind"] == "rejected"
    assert set(run["error"]) == {"kind", "message", "stripe_request_id"}


async def test_report_types_are_listed_and_refreshed(res: Resources, api: httpx.AsyncClient) -> None:
    await reconcile(res)
    await execute(res, "update reconciliations set due_at = '2999-01-01'")

    page = (await api.get("/v1/report-types?limit=7")).json()
    pages = page["data"]
    while page["next_cursor"]:
        page = (await api.get(f"/v1/report-types?limit=7&cursor={page['next_cursor']}")).json()
        pages += page["data"]
    refresh = await api.post("/v1/report-types/refresh")

    stored = await fetch(res, 'select id from report_types order by id collate "C"')
    assert sorted(type_["id"] for type_ in pages) == [row["id"] for row in stored]
    assert len(pages) > 7
    (wanted,) = [type_ for type_ in pages if type_["id"] == REPORT_TYPE]
    assert wanted["data_available_end"] == "2026-03-01T00:00:00Z"
    assert refresh.status_code == 202
    assert await fetch(res, "select 1 from reconciliations where due_at <= now()") != []
    assert (await api.get("/v1/report-types?account=other")).json()["data"] == []
