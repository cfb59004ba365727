"""The bugs that others who built on Stripe's reports, webhooks and queues have had: each has a test. Most of these are
beside the tests of their step, and the list says where; those that belong to no single step are here."""

import ast
import asyncio
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import handlers
from app.queue import wakeups
from app.queue.wakeups import Wakeups
from app.resources import Resources
from app.runs.request import request_run
from app.runs.request_claim import claim_requests
from app.settings import Settings
from app.simulator import Simulator
from app.upkeep.reconcile import reconcile
from app.vocabulary import EventType
from app.worker import steps
from tests.runs.stories import (
    CREATE,
    attempts,
    days_due,
    deliver,
    deliver_value,
    everything_is_due,
    one_due_run,
    states,
)
from tests.service import REPORT_TYPE, add_rule, at, execute, fetch, only_run, unpublished, work_off, working
from tests.worker.workers import until_stored

ROOT = Path(__file__).parents[1]
HERE = "tests/test_other_peoples_bugs.py"
RUNS = "tests/runs"

WHERE = {
    "two states in one second":
        "tests/test_handlers.py::test_two_states_announced_in_one_second_are_ordered_by_what_they_say",
    "handler fails, then redelivery":
        f"{HERE}::test_an_event_whose_handler_failed_is_handled_when_it_is_delivered_again",
    "duplicate while the first is in flight":
        f"{HERE}::test_a_duplicate_that_comes_while_the_first_is_being_handled_is_not_handled_beside_it",
    "duplicate holds up the inbox":
        "tests/inbox/test_intake.py::test_a_duplicate_of_an_event_that_is_just_being_handled_holds_up_no_delivery",
    "event before our own create returns":
        f"{RUNS}/test_settle.py::test_an_event_that_overtakes_the_create_answer_is_applied_when_the_answer_is_recorded",
    "create returns a finished run":
        f"{RUNS}/test_request.py::test_a_create_that_answers_with_a_finished_run_continues_with_its_file_at_once",
    "two rules want the same report":
        f"{RUNS}/test_settle.py::test_two_rules_that_want_the_same_report_have_a_stripe_run_and_a_file_each",
    "lost enqueue": f"{HERE}::test_a_wake_up_that_is_lost_costs_a_poll_and_nothing_else",
    "killed in mid-download":
        "tests/worker/test_processes.py::test_the_work_of_a_process_that_was_killed_is_taken_over",
    "lease lost while alive":
        f"{RUNS}/test_download_takeover.py::test_a_slow_worker_that_comes_back_cannot_write_over_its_successor",
    "Postgres restarted":
        "tests/worker/test_processes.py::test_the_database_killed_under_load_is_started_again_and_nothing_is_lost",
    "pooler": "tests/test_pooler.py::test_everything_but_listen_works_through_a_transaction_mode_pooler",
    "LISTEN dropped":
        "tests/worker/test_lanes.py::test_a_lost_listen_connection_is_made_again_and_only_slows_things_down",
    "unknown event type":
        "tests/test_handlers.py::test_a_type_of_event_that_this_version_does_not_know_is_left_for_the_one_that_does",
    "unknown job kind": "tests/queue/test_wakeups.py::test_a_lane_that_this_version_does_not_know_is_ignored",
    "unknown state":
        "tests/upkeep/test_reconcile.py::test_a_run_in_a_state_that_this_version_does_not_know_is_left_alone",
    "non-UTF-8 body": "tests/inbox/test_delivery.py::test_what_is_not_an_event_is_refused_and_only_counted",
    "empty secret": "tests/stripe_api/test_client.py::test_without_a_secret_nothing_is_believed",
    "future timestamp": "tests/inbox/test_delivery.py::test_an_old_or_future_time_stamp_is_rejected",
    "oversized body": "tests/api/test_webhooks.py::test_a_body_of_exactly_the_limit_is_accepted_and_a_byte_more_is_not",
    "key in an error text": "tests/stripe_api/test_client.py::test_no_message_shows_the_key",
    "truncated file": f"{RUNS}/test_download.py::"
        "test_an_incomplete_file_is_never_stored_and_is_downloaded_again_without_a_new_attempt",
    "gzip on the wire": f"{RUNS}/test_download.py::"
        "test_a_file_that_comes_compressed_or_without_a_length_is_stored_as_it_was_written",
    "zero-byte file": f"{RUNS}/test_download.py::test_a_file_without_a_single_byte_is_a_file_where_stripe_says_so",
    "header-only file": f"{RUNS}/test_download.py::test_a_file_of_a_header_only_is_a_file",
    "daylight-saving windows": "tests/planning/test_windows.py::test_how_long_a_named_day_is",
    "month end": "tests/planning/test_windows.py::test_a_unit_holds_its_days_and_ends_where_the_next_begins",
    "leap day": "tests/planning/test_windows.py::test_the_months_of_a_leap_year_hold_all_its_days",
    "last second of the day": f"{HERE}::test_the_last_second_of_a_day_belongs_to_it_and_the_next_midnight_does_not",
    "only available through":
        f"{RUNS}/test_refusals.py::test_a_refused_end_waits_for_the_next_advance_with_a_new_key_and_spends_no_attempt",
    "run pending forever": f"{RUNS}/test_lookup.py::test_a_run_that_is_stuck_every_time_is_failed_as_timed_out",
    "endpoint disabled": f"{HERE}::test_a_disabled_endpoint_costs_time_and_no_report",
    "failing migration at start": "tests/db/test_migrations.py::test_a_failure_ends_the_command_with_one_clear_line",
    "database down is a 5xx":
        "tests/api/test_webhooks.py::test_while_the_database_is_away_stripe_is_asked_to_deliver_again",
    "a network swallows a connection":
        "tests/inbox/test_intake.py::test_an_intake_whose_connections_a_network_swallowed_continues_with_new_ones",
    "a row that the database refuses forever": "tests/test_handlers.py::"
        "test_what_the_database_will_never_do_for_an_event_is_the_events_own_and_ends",
    "restored from a backup":
        "tests/accounts/test_catch_up.py::test_runs_made_after_the_backup_are_adopted_and_nothing_is_made_twice",
    "a kept 500 replayed for a day":
        f"{RUNS}/test_request.py::test_a_server_error_that_stripe_keeps_for_the_key_is_not_waited_out",
    "key follows a redirect": f"{RUNS}/test_download_doors.py::test_a_redirect_is_not_followed_with_the_key",
    "availability told backwards":
        "tests/test_handlers.py::test_advances_in_any_order_and_number_only_move_forward",
    "retries spin without a pause": "tests/worker/test_due.py::"
        "test_lanes_with_nothing_that_they_can_do_sleep_instead_of_spinning",
}  # fmt: skip


@cache
def names_in(path: str) -> frozenset[str]:
    """The names of a file's tests."""
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("bug", WHERE)
def test_every_bug_on_the_list_has_its_test(bug: str) -> None:
    path, _, name = WHERE[bug].partition("::")

    assert name in names_in(path)


async def test_an_event_whose_handler_failed_is_handled_when_it_is_delivered_again(
    res: Resources, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("a bug of ours")

    await reconcile(res)
    await add_rule(res)
    simulator.advance(REPORT_TYPE, at("2026-03-02"))
    monkeypatch.setitem(handlers.HANDLERS, EventType.REPORT_TYPE_UPDATED, broken)
    await deliver(res, simulator.events[-1])
    await handlers.drain(res)
    monkeypatch.undo()
    assert await handlers.drain(res) == 0, "it waits for its next try"

    await deliver(res, simulator.events[-1])
    await handlers.drain(res)

    assert await states(res) == {"planned": 1}


async def test_a_duplicate_that_comes_while_the_first_is_being_handled_is_not_handled_beside_it(
    res: Resources, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work, go_on = asyncio.Event(), asyncio.Event()
    handled: list[str] = []

    async def slow(session: AsyncSession, settings: Settings, account: str, values: list[dict[str, Any]]) -> None:
        handled.extend(value["id"] for value in values)
        at_work.set()
        await go_on.wait()
        await session.execute(text("select 1"))

    monkeypatch.setitem(handlers.HANDLERS, EventType.REPORT_TYPE_UPDATED, slow)
    simulator.advance(REPORT_TYPE, at("2026-03-02"))
    value = simulator.events[-1].rendered("2026-10-28.endive")
    await deliver_value(res, value)
    first = asyncio.create_task(handlers.drain(res))
    await at_work.wait()

    await deliver_value(res, value)
    assert await handlers.drain(res) == 0
    go_on.set()
    await first

    assert await handlers.drain(res) == 0
    assert len(handled) == 1


async def test_a_wake_up_that_is_lost_costs_a_poll_and_nothing_else(
    res: Resources, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def deaf(self: Wakeups, url: str) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Wakeups, "listen", deaf)
    monkeypatch.setattr(wakeups, "POLL_SECONDS", 0.2)
    monkeypatch.setattr(steps, "POLL_SECONDS", 0.2)
    async with working(res):
        await reconcile(res)
        await days_due(res, simulator, 3)
        await until_stored(res, 3)

    assert not res.wakeups.listening


async def test_the_last_second_of_a_day_belongs_to_it_and_the_next_midnight_does_not(
    res: Resources, simulator: Simulator
) -> None:
    unpublished(simulator, until="2026-03-08")
    await reconcile(res)
    await add_rule(res, timezone="America/Los_Angeles", starts_on=at("2026-03-05").date())

    asked = [run["parameters"] for run in await fetch(res, "select parameters from runs order by interval_start")]

    assert asked[0]["interval_end"] == asked[1]["interval_start"] == int(at("2026-03-06T08:00").timestamp())
    assert len(asked) == 2, "the third day is not over in California"


async def test_a_disabled_endpoint_costs_time_and_no_report(res: Resources, simulator: Simulator) -> None:
    endpoint = simulator.add_endpoint("http://127.0.0.1:9/nobody")
    simulator.change_endpoint(endpoint.id, enabled=False)
    await days_due(res, simulator, 2)

    await work_off(res)

    assert await states(res) == {"stored": 2}
    assert simulator.deliveries == []


async def test_a_retry_of_a_request_never_changes_the_request(res: Resources, simulator: Simulator) -> None:
    # Stripe refuses an idempotency key that comes with other parameters: rules may change, a planned run may not.
    await one_due_run(res, simulator)
    simulator.inject("cut", when="after", match=CREATE)
    (claim,) = await claim_requests(res, 10)
    await request_run(res, claim)
    await execute(res, 'update rules set parameters = \'{"currency": "usd"}\'')
    await everything_is_due(res)

    await work_off(res)

    assert (await only_run(res))["state"] == "stored"
    assert len(await attempts(res)) == 1
    assert len(simulator.runs) == 1
