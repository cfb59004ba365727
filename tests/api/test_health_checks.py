"""What `/health` tells an operator: every check made to appear, and what it says to do."""

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app import handlers
from app.health import judge
from app.health.registry import CHECKS, View
from app.health.registry import check as registered
from app.health.results import Check, ok
from app.resources import Resources
from app.simulator import Simulator
from app.upkeep.reconcile import reconcile
from tests.api.deliveries import event
from tests.days import today
from tests.runs.stories import days_due, deliver_value, one_due_run
from tests.service import (
    ADMIN_TOKEN,
    READ_TOKEN,
    REPORT_TYPE,
    WEBHOOK_SECRET,
    add_rule,
    at,
    execute,
    fetch,
    request_due,
    work_off,
)

SECRETS = (ADMIN_TOKEN, READ_TOKEN, WEBHOOK_SECRET)


@pytest.fixture
def res(res: Resources) -> Resources:
    """A process that leaves the queue to another process, which is running."""
    return replace(res, works_queue=False)


async def a_worker_is_seen(res: Resources, *, seconds_ago: float = 0) -> None:
    await execute(
        res,
        "insert into workers (id, host, pid, seen_at)"
        " values (gen_random_uuid(), 'a', 7, now() - :ago * interval '1 s')",
        ago=seconds_ago,
    )


async def asked(api: httpx.AsyncClient) -> dict[str, Any]:
    answer = await api.get("/health")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


async def check(api: httpx.AsyncClient, name: str) -> tuple[str, str]:
    """The status and the sentence of the check with this name."""
    (found,) = [one for one in (await asked(api))["checks"] if one["name"] == name]
    return found["status"], found["detail"]


async def statuses(api: httpx.AsyncClient) -> dict[str, str]:
    return {one["name"]: one["status"] for one in (await asked(api))["checks"]}


async def today_is_stored(res: Resources, simulator: Simulator) -> None:
    """A rule that began yesterday, as fresh as it can be."""
    day = today()
    simulator.report_type(REPORT_TYPE).data_available_end = int(at(day.isoformat()).timestamp())
    await add_rule(res, starts_on=day - timedelta(days=1))
    await work_off(res)


async def test_when_all_is_well_every_check_says_so(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator
) -> None:
    await a_worker_is_seen(res)
    await today_is_stored(res, simulator)
    await execute(res, "insert into reconciliations values ('default', null, null, now())")

    found = await asked(api)

    assert found["status"] == "ok", found
    assert [one["name"] for one in found["checks"]] == ["database", "schema", *sorted(CHECKS)]
    assert len(CHECKS) > 15
    (rule,) = found["rules"]
    assert (rule["status"], rule["newest_state"], rule["detail"]) == ("ok", "stored", "on time")
    assert rule["expected_by"] > rule["next_due_at"] > rule["newest_window_end"]


async def test_no_running_worker_is_failing_and_the_last_one_is_named(res: Resources, api: httpx.AsyncClient) -> None:
    assert await check(api, "workers") == ("failing", "no process works the queue: none has ever reported")

    await a_worker_is_seen(res, seconds_ago=600)
    status, detail = await check(api, "workers")

    assert (status, detail.endswith("a/7 last reported 10 minutes ago")) == ("failing", True)
    assert (await api.get("/health/ready")).status_code == 200, "the intake works"
    assert (await asked(api))["status"] == "failing"


async def test_workers_that_live_are_named(res: Resources, api: httpx.AsyncClient) -> None:
    await a_worker_is_seen(res)

    assert await check(api, "workers") == ("ok", "1 at work: a/7")


async def test_an_event_that_nobody_handles_is_reported_with_its_age(res: Resources, api: httpx.AsyncClient) -> None:
    await deliver_value(res, event("evt_1"))
    assert (await check(api, "inbox"))[0] == "ok"

    await execute(res, "update events set received_at = now() - interval '3 hours'")

    status, detail = await check(api, "inbox")
    assert status == "degraded"
    assert "1 event not handled yet, the oldest arrived 3 hours ago" in detail


async def test_an_event_that_failed_for_good_waits_for_somebody(res: Resources, api: httpx.AsyncClient) -> None:
    await deliver_value(res, event("evt_1"))
    await execute(res, "update events set status = 'failed'")

    assert (await check(api, "failed_events"))[0] == "degraded"


async def test_a_run_that_could_continue_but_does_not_is_overdue(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator
) -> None:
    await days_due(res, simulator, 3)
    assert (await check(api, "overdue_runs"))[0] == "ok"

    await execute(res, "update runs set due_at = now() - interval '1 hour'")

    status, detail = await check(api, "overdue_runs")
    assert (status, "3 to be requested, the oldest due 60 minutes ago" in detail) == ("degraded", True)


@pytest.mark.parametrize(
    "reason",
    [
        "update report_types set data_available_end = '2026-03-01'",
        "update report_types set missing_since = now()",
        "insert into account_holds values ('default', 'create', '401', now(), 0, now())",
        "update runs set lease_until = now() + interval '1 minute'",
        "update runs set state = 'requested', due_at = now() where window_key = '2026-03-01'",
    ],
    ids=["data", "type", "key", "at work", "behind another"],
)
async def test_a_run_that_waits_for_something_is_not_overdue(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator, reason: str
) -> None:
    await days_due(res, simulator, 2)
    await execute(res, "update runs set due_at = now() - interval '1 hour'")
    await execute(res, reason)

    assert (await check(api, "overdue_runs"))[0] == "ok"


@pytest.mark.parametrize(("state", "lane"), [("requested", "to be looked up"), ("ready", "to be downloaded")])
async def test_every_lane_can_be_overdue(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator, state: str, lane: str
) -> None:
    await one_due_run(res, simulator)
    await execute(res, "update runs set due_at = now() - interval '1 hour', state = :state", state=state)

    status, detail = await check(api, "overdue_runs")

    assert (status, f"1 {lane}" in detail) == ("degraded", True)


async def test_failed_runs_are_counted_recently_and_in_total(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator
) -> None:
    await days_due(res, simulator, 2)
    await execute(res, "update runs set state = 'failed'")
    await execute(res, "update run_moves set at = now() - interval '2 days' where id = (select min(id) from run_moves)")

    status, detail = await check(api, "failed_runs")

    assert (status, detail.startswith("1 in the last 24 hours, 2 runs in all")) == ("degraded", True)


async def rule_detail(api: httpx.AsyncClient) -> str:
    found = await asked(api)
    (rule,) = found["rules"]
    assert rule["status"] == "degraded"
    (freshness,) = [one for one in found["checks"] if one["name"] == "freshness"]
    assert (freshness["status"], freshness["detail"]) == ("degraded", f"late: {rule['name']}")
    assert freshness["link"] == {"kind": "rules", "filter": {}}
    return str(rule["detail"])


async def test_a_rule_whose_newest_window_failed_or_takes_long_is_late(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    await request_due(res)
    assert (await asked(api))["rules"][0]["status"] == "ok"

    await execute(res, "update runs set planned_at = now() - interval '7 hours'")
    assert await rule_detail(api) == "the window until 2026-03-02 00:00 UTC is late: still requested"

    await execute(res, "update runs set state = 'failed'")
    failed = "1 window failed, the newest until 2026-03-02 00:00 UTC: see its error, then retry"
    assert await rule_detail(api) == failed


async def test_a_rule_that_stripe_owes_data_to_is_late(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    await work_off(res)

    detail = await rule_detail(api)

    assert detail == "Stripe's data reaches 2026-03-02 00:00 UTC, but should reach 2026-03-03 00:00 UTC by now"


async def test_each_connected_account_of_a_rule_is_looked_at(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator
) -> None:
    await days_due(res, simulator, 2, connected_accounts=["acct_1", "acct_2"])
    assert await check(api, "freshness") == ("ok", "1 rule is on time")
    await execute(res, "update runs set state = 'failed' where connected_account = 'acct_2'")

    rules = (await asked(api))["rules"]

    assert [(rule["connected_account"], rule["status"]) for rule in rules] == [("acct_2", "degraded"), ("acct_1", "ok")]


async def test_a_disabled_rule_is_never_late(res: Resources, api: httpx.AsyncClient, simulator: Simulator) -> None:
    await one_due_run(res, simulator, enabled=True)
    await execute(res, "update rules set enabled = false")

    assert (await asked(api))["rules"] == []
    assert await check(api, "freshness") == ("ok", "no rule is enabled")


async def test_a_refused_key_is_reported_with_the_reason_and_without_the_key(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator
) -> None:
    key = next(iter(simulator.world.keys))
    values = "('default', 'create', :reason, now(), 0, now())"
    await execute(res, f"insert into account_holds values {values}", reason=f"401: Invalid key {key}")

    answer = await api.get("/health")
    status, detail = await check(api, "credentials")

    assert status == "degraded"
    assert detail.startswith("Stripe refuses the key of default for requesting reports (401: Invalid key [redacted]), ")
    assert not any(secret in answer.text for secret in (key, *SECRETS))


async def test_a_type_that_the_account_does_not_have_is_named_with_its_rule(
    res: Resources, api: httpx.AsyncClient
) -> None:
    await add_rule(res, name="mine", report_type="no.such.1")
    await execute(
        res, "insert into report_types (account, id, missing_since, missing_reason) values"
        " ('default', 'no.such.1', now(), 'there is none')"
    )  # fmt: skip

    status, detail = await check(api, "report_types")

    assert (status, detail) == ("degraded", "missing: no.such.1 of default (rule 'mine'): there is none")


async def test_a_rule_without_news_of_its_data_is_late_after_hours(res: Resources, api: httpx.AsyncClient) -> None:
    await add_rule(res, report_type="no.such.1")
    assert (await check(api, "report_types"))[0] == (await check(api, "freshness"))[0] == "ok"

    await execute(res, "update rules set created_at = now() - interval '7 hours'")

    assert (await check(api, "report_types"))[0] == (await check(api, "freshness"))[0] == "degraded"


async def test_the_last_webhook_of_each_account_is_reported(res: Resources, api: httpx.AsyncClient) -> None:
    assert await check(api, "webhooks") == ("ok", "default: no webhook recently")

    await deliver_value(res, event("evt_1"))
    await execute(res, "update events set received_at = now() - interval '5 minutes'")

    assert await check(api, "webhooks") == ("ok", "default: the last webhook arrived 5 minutes ago")


async def test_data_that_moved_without_a_webhook_is_reported(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    await execute(res, "update accounts set created_at = now() - interval '2 days'")
    await execute(res, "update report_types set stripe_updated_at = now() - interval '2 hours'")

    status, detail = await check(api, "endpoint_selection")
    await deliver_value(res, event("evt_1", data={"object": {"id": REPORT_TYPE}}))

    assert (status, f"({REPORT_TYPE}) advanced without a webhook" in detail) == ("degraded", True)
    assert (await check(api, "endpoint_selection"))[0] == "ok"


async def test_polling_that_stopped_is_reported(res: Resources, api: httpx.AsyncClient) -> None:
    await reconcile(res)
    await execute(res, "update accounts set created_at = now() - interval '2 days'")
    assert await check(api, "polling") == (
        "failing",
        "Stripe has never been polled about account default, and no webhook has arrived since: no new data is noticed",
    )
    await deliver_value(res, event("evt_1"))
    assert await check(api, "polling") == ("degraded", "Stripe has never been polled about account default")

    await execute(res, "insert into reconciliations values ('default', null, null, now() - interval '1 minute')")
    assert await check(api, "polling") == ("ok", "Stripe is polled every 30 minutes")


async def test_an_older_schema_is_reported_and_nothing_else_is_read(
    res: Resources, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.health.process.known_revisions", lambda: frozenset({"0000_older"}))
    await execute(res, "update alembic_version set version_num = '0000_older'")

    assert await statuses(api) == {"database": "ok", "schema": "failing"}


async def test_handled_events_leave_health_quiet(res: Resources, api: httpx.AsyncClient) -> None:
    await deliver_value(res, event("evt_1"))
    await handlers.drain(res)

    assert await check(api, "inbox") == ("ok", "every event is handled")


async def test_a_check_that_breaks_or_takes_too_long_fails_and_the_others_run(
    res: Resources, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sleeps(view: View) -> Check:
        await view.session.execute(text("select pg_sleep(60)"))
        return ok("sleeps", "never")

    async def breaks(_view: View) -> Check:
        raise KeyError("secret-canary")

    monkeypatch.setattr(judge, "STATEMENT_SECONDS", 1)
    monkeypatch.setattr(judge, "CHECKS", {"sleeps": sleeps, "breaks": breaks, **CHECKS})
    await a_worker_is_seen(res)

    found = await asked(api)

    assert found["status"] == "failing"
    seen = {one["name"]: one for one in found["checks"]}
    assert {name for name, one in seen.items() if one["status"] == "failing"} == {"sleeps", "breaks"}
    assert seen["breaks"]["detail"] == "the check failed: KeyError"
    assert seen["workers"]["status"] == "ok"


def test_no_two_checks_have_one_name() -> None:
    with pytest.raises(ValueError, match="two checks called workers"):
        registered(CHECKS["workers"])


async def test_a_mistyped_report_type_is_reported_at_once_and_its_rule_is_not_on_time(
    res: Resources, api: httpx.AsyncClient
) -> None:
    await reconcile(res)
    await add_rule(res, name="mine", report_type="balance_change_from_activity.itemised.7")

    found = await asked(api)

    (rule,) = found["rules"]
    assert rule["status"] == "degraded"
    assert (
        "Stripe does not list it for this account; did you mean balance_change_from_activity.itemized.7?"
        in rule["detail"]
    )
    assert (await check(api, "report_types"))[0] == "degraded"
    assert (await check(api, "freshness"))[0] == "degraded"


async def test_a_rule_is_healthy_when_every_owed_window_is_however_old(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator
) -> None:
    await days_due(res, simulator, 3)
    await execute(res, "update runs set state = 'stored'")
    await execute(res, "update runs set state = 'failed' where window_key = '2026-03-01'")
    await execute(res, "update rule_progress set next_due_at = now()")

    assert "1 window failed, the newest until 2026-03-02" in await rule_detail(api)

    # When it is there in a newer revision, nothing is owed any more
    columns = "account, rule_id, report_type, window_key, interval_start, interval_end, timezone, parameters"
    await execute(
        res, f"insert into runs (id, {columns}, revision, state, attempts_granted)"
        f" select gen_random_uuid(), {columns}, 2, 'stored', 3 from runs where state = 'failed'"
    )  # fmt: skip
    assert [rule["status"] for rule in (await asked(api))["rules"]] == ["ok"]


@pytest.mark.parametrize(
    ("change", "late"),
    [
        ("state = 'requested'", True),
        ("state = 'ready'", True),
        ("state = 'planned', tries = 3", True),
        ("state = 'planned'", False),
    ],
)
async def test_an_old_window_that_was_tried_for_hours_is_late_and_one_that_waits_its_turn_is_not(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator, change: str, *, late: bool
) -> None:
    await days_due(res, simulator, 3)
    await execute(res, "update rule_progress set next_due_at = now()")
    await execute(res, "update runs set state = 'stored' where window_key <> '2026-03-01'")
    await execute(
        res, f"update runs set {change}, planned_at = now() - interval '7 hours' where window_key = '2026-03-01'"
    )
    await execute(res, "update run_moves set at = now() - interval '7 hours'")

    (rule,) = (await asked(api))["rules"]

    assert (rule["status"], "1 window is late" in rule["detail"]) == (("degraded", True) if late else ("ok", False))


async def test_a_window_that_was_just_retried_is_not_late(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator
) -> None:
    await days_due(res, simulator, 2)
    await execute(res, "update rule_progress set next_due_at = now()")
    await execute(res, "update runs set state = 'stored' where window_key <> '2026-03-01'")
    await execute(res, "update runs set state = 'requested', planned_at = '2026-01-01' where window_key = '2026-03-01'")

    assert [rule["status"] for rule in (await asked(api))["rules"]] == ["ok"]


async def test_a_rule_in_trouble_is_looked_at_however_many_rules_there_are(
    res: Resources, api: httpx.AsyncClient, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.health.rule_rows.MOST_RULES", 1)
    await days_due(res, simulator, 1, name="well", starts_on=date(2026, 3, 1))
    await add_rule(res, name="in trouble", starts_on=date(2026, 3, 1))
    await execute(res, "update rule_progress set next_due_at = now() where id = (select min(id) from rule_progress)")
    await execute(
        res,
        "update rule_progress set next_due_at = now() + interval '1 day' where next_due_at <> now()"
        " and id <> (select min(id) from rule_progress)",
    )
    await execute(res, "update runs set state = 'stored'")
    await execute(
        res, "update runs set state = 'failed' where rule_id = (select id from rules where name = 'in trouble')"
    )

    rules = {rule["name"]: rule["status"] for rule in (await asked(api))["rules"]}

    assert rules["in trouble"] == "degraded"


@pytest.mark.parametrize(
    ("report_type", "seen", "hours", "status"),
    [
        ("balance_change_from_activity.itemized.7", None, 35, "ok"),
        ("balance_change_from_activity.itemized.7", None, 37, "degraded"),
        ("connected_account_payouts.itemized.5", None, 37, "degraded"),
        ("all_fees.incurred_at.summary.2", None, 95, "ok"),
        ("all_fees.incurred_at.summary.2", None, 97, "degraded"),
        ("tax.transactions.itemized.2", None, 95, "ok"),
        ("tax.transactions.itemized.2", 40, 49, "ok"),
        ("tax.transactions.itemized.2", 40, 51, "degraded"),
        ("tax.transactions.itemized.2", 10_000, 241, "degraded"),
    ],
)
async def test_how_late_data_may_be_is_a_property_of_the_type(
    res: Resources, api: httpx.AsyncClient, report_type: str, seen: int | None, hours: int, status: str
) -> None:
    await add_rule(res, report_type=report_type)
    await execute(
        res, "insert into report_types"
        " (account, id, data_available_start, data_available_end, longest_data_age_seconds)"
        " values ('default', :type, '2026-01-01', '2026-03-01', :seen)", type=report_type,
        seen=None if seen is None else seen * 3600,
    )  # fmt: skip
    await execute(res, "update rule_progress set next_due_at = now() - :hours * interval '1 hour'", hours=hours)

    (rule,) = (await asked(api))["rules"]

    assert rule["status"] == status, rule["detail"]


async def test_the_lateness_of_data_is_learned_from_its_advances(res: Resources, simulator: Simulator) -> None:
    kind = simulator.report_type(REPORT_TYPE)
    kind.data_available_end = int(at("2026-03-01").timestamp())
    await reconcile(res)
    for until, updated in (("2026-03-02", "2026-03-03T16:00"), ("2026-03-03", "2026-03-03T20:00")):
        kind.data_available_end = int(at(until).timestamp())
        kind.updated = int(at(updated).timestamp())
        await reconcile(res)

    (found,) = await fetch(
        res, "select longest_data_age_seconds / 3600 as hours from report_types where id = :id", id=REPORT_TYPE
    )
    assert found["hours"] == pytest.approx(0.9 * 64), "64 hours old before the first advance, and that fades"
