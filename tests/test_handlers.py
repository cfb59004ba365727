"""What events mean, and how those that cannot be handled end: the inbox always empties."""

import asyncio
import random
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app import handlers
from app.inbox.events import MOST_TRIES
from app.resources import Resources
from app.settings import Settings
from app.simulator import Simulator
from app.upkeep.reconcile import reconcile
from app.vocabulary import EventType
from tests.runs.stories import another_process, deliver, deliver_value, everything_is_due
from tests.service import REPORT_TYPE, add_rule, at, execute, fetch, unpublished, work_off

TYPE = "reporting.report_type.updated"
UNUSED_TYPE = "balance.summary.1"


def told(simulator: Simulator, report_type: str = REPORT_TYPE, *, id: str = "evt_1", **changes: Any) -> dict[str, Any]:
    """An event about a report type as it is now."""
    about = simulator.report_type(report_type).rendered() | changes
    return {"id": id, "object": "event", "type": TYPE, "created": 1, "livemode": False, "data": {"object": about}}


async def statuses(res: Resources) -> dict[str, str]:
    """Where every event stands."""
    events = await fetch(res, "select stripe_event_id, status from events")
    return {event["stripe_event_id"]: event["status"] for event in events}


async def test_an_announced_advance_plans_what_became_due(res: Resources, simulator: Simulator) -> None:
    await reconcile(res)
    await add_rule(res)
    simulator.advance(REPORT_TYPE, at("2026-03-03"))
    await deliver(res, simulator.events[-1])

    await handlers.drain(res)

    windows = await fetch(res, "select interval_start from runs order by 1")
    assert [window["interval_start"] for window in windows] == [at("2026-03-01"), at("2026-03-02")]


async def test_advances_in_any_order_and_number_only_move_forward(res: Resources, simulator: Simulator) -> None:
    await reconcile(res)
    await add_rule(res)
    for day in ("2026-03-04", "2026-03-02", "2026-03-03", "2026-03-03"):
        simulator.advance(REPORT_TYPE, at(day))
    for event in simulator.events[-4:]:
        await deliver(res, event)
        await handlers.drain(res)

    (known,) = await fetch(res, "select data_available_end from report_types where id = :id", id=REPORT_TYPE)
    assert known["data_available_end"] == at("2026-03-04")
    assert len(await fetch(res, "select 1 from runs")) == 3


async def test_two_states_announced_in_one_second_are_ordered_by_what_they_say(
    res: Resources, simulator: Simulator
) -> None:
    later = told(simulator, id="evt_later", data_available_end=int(at("2026-03-05").timestamp()))
    await deliver_value(res, later)
    await deliver_value(res, told(simulator, id="evt_earlier"))

    await handlers.drain(res)

    (known,) = await fetch(res, "select data_available_end from report_types")
    assert known["data_available_end"] == at("2026-03-05")


async def test_two_drains_at_once_handle_each_event_once(
    res: Resources, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    handled: list[str] = []

    async def slowly(session: AsyncSession, settings: Settings, account: str, values: list[dict[str, Any]]) -> None:
        handled.extend(value["id"] for value in values)
        await session.execute(text("select pg_sleep(0.02)"))

    monkeypatch.setitem(handlers.HANDLERS, EventType.REPORT_TYPE_UPDATED, slowly)
    await asyncio.gather(*(deliver_value(res, told(simulator, id=f"evt_{n}") | _about(n)) for n in range(120)))

    async with another_process(res, simulator) as other:
        await asyncio.gather(*(_drain_all(process) for process in (res, other, res)))

    assert sorted(handled) == sorted(f"type.{n}" for n in range(120))
    assert set((await statuses(res)).values()) == {"handled"}


def _about(number: int) -> dict[str, Any]:
    return {"data": {"object": {"id": f"type.{number}"}}}


async def _drain_all(res: Resources) -> None:
    while await handlers.drain(res):
        pass


async def test_an_event_whose_handler_raises_is_tried_a_bounded_number_of_times_and_blocks_nobody(
    res: Resources, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = handlers.HANDLERS[EventType.REPORT_TYPE_UPDATED]

    async def poisoned(session: AsyncSession, settings: Settings, account: str, values: list[dict[str, Any]]) -> None:
        if any(value["id"] == REPORT_TYPE for value in values):
            raise RuntimeError("no luck with sk_test_4242424242424242")
        await healthy(session, settings, account, values)

    monkeypatch.setitem(handlers.HANDLERS, EventType.REPORT_TYPE_UPDATED, poisoned)
    await deliver_value(res, told(simulator, id="evt_poison"))
    await deliver_value(res, told(simulator, UNUSED_TYPE, id="evt_healthy"))

    await handlers.drain(res)
    assert await statuses(res) == {"evt_poison": "pending", "evt_healthy": "handled"}
    assert await handlers.drain(res) == 0, "it waits"
    for _ in range(MOST_TRIES):
        await everything_is_due(res)
        await handlers.drain(res)

    (event,) = await fetch(res, "select * from events where stripe_event_id = 'evt_poison'")
    assert (event["status"], event["tries"]) == ("failed", MOST_TRIES - 1)
    assert event["reason"].startswith("RuntimeError: no luck with")
    assert "4242" not in event["reason"]


@pytest.mark.parametrize("error", [KeyError("x"), TypeError("x"), ValueError("x"), RecursionError()], ids=repr)
async def test_an_error_of_our_own_is_never_taken_for_a_malformed_event(
    res: Resources, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def broken(session: AsyncSession, settings: Settings, account: str, values: list[dict[str, Any]]) -> None:
        raise error

    monkeypatch.setitem(handlers.HANDLERS, EventType.REPORT_TYPE_UPDATED, broken)
    await deliver_value(res, told(simulator))

    await handlers.drain(res)
    monkeypatch.undo()
    await everything_is_due(res)
    await handlers.drain(res)

    assert await statuses(res) == {"evt_1": "handled"}


async def test_what_a_broken_handler_wrote_is_undone(
    res: Resources, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def half(session: AsyncSession, settings: Settings, account: str, values: list[dict[str, Any]]) -> None:
        await session.execute(text("delete from timetable"))
        raise RuntimeError

    monkeypatch.setitem(handlers.HANDLERS, EventType.REPORT_TYPE_UPDATED, half)
    await execute(res, "insert into timetable (name, due_at) values ('kept', now())")
    await deliver_value(res, told(simulator))

    await handlers.drain(res)

    assert len(await fetch(res, "select 1 from timetable")) == 1


async def test_handling_events_does_not_wait_for_the_disk_and_whatever_comes_next_on_the_connection_does(
    res: Resources, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Any, ...]] = []
    how = text("select current_setting('synchronous_commit'), pg_backend_pid()")

    async def look(session: AsyncSession, settings: Settings, account: str, values: list[dict[str, Any]]) -> None:
        seen.append(tuple((await session.execute(how)).one()))

    monkeypatch.setitem(handlers.HANDLERS, EventType.REPORT_TYPE_UPDATED, look)
    await deliver_value(res, told(simulator))
    await handlers.drain(res)
    async with res.sessions.begin() as session:
        await look(session, res.settings, "default", [])

    (while_handling, one), (after, other) = seen
    assert (while_handling, after, one) == ("off", "on", other)


LACKING: list[Any] = [
    {},
    {"object": {}},
    {"object": None},
    {"object": []},
    {"object": {"id": REPORT_TYPE}},
    {"object": {"id": REPORT_TYPE, "data_available_start": "x", "data_available_end": 1}},
    {"object": {"id": REPORT_TYPE, "data_available_start": 1, "data_available_end": 10**30}},
    {"object": {"id": random.Random(1).randbytes(4000).hex(), "data_available_start": 1, "data_available_end": 2}},
    [],
    None,
    "data",
]


async def test_events_that_lack_what_we_need_are_ignored_visibly_and_block_nobody(
    res: Resources, simulator: Simulator
) -> None:
    for number, data in enumerate(LACKING):
        await deliver_value(res, told(simulator, id=f"evt_{number}") | {"data": data})
    await deliver_value(res, told(simulator, id="evt_whole"))

    await handlers.drain(res)

    odd = {f"evt_{number}": "ignored" for number in range(len(LACKING))}
    assert await statuses(res) == odd | {"evt_whole": "handled"}
    reasons = await fetch(res, "select reason from events where status = 'ignored'")
    assert all(row["reason"].startswith("malformed") for row in reasons)


async def test_a_type_of_event_that_this_version_does_not_know_is_left_for_the_one_that_does(
    res: Resources, simulator: Simulator
) -> None:
    await deliver_value(res, told(simulator))
    await execute(res, "update events set type = 'reporting.of_the_future', due_at = now() - interval '1 day'")

    assert await handlers.drain(res) == 0

    assert await statuses(res) == {"evt_1": "pending"}


async def test_an_error_of_the_database_is_not_the_events_and_is_not_counted(
    res: Resources, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cut_off(session: AsyncSession, settings: Settings, account: str, values: list[dict[str, Any]]) -> None:
        await session.execute(text("select pg_terminate_backend(pg_backend_pid())"))

    monkeypatch.setitem(handlers.HANDLERS, EventType.REPORT_TYPE_UPDATED, cut_off)
    await deliver_value(res, told(simulator))
    for _ in range(2 * MOST_TRIES):
        with pytest.raises(DBAPIError):
            await handlers.drain(res)

    (event,) = await fetch(res, "select status, tries from events")
    assert (event["status"], event["tries"]) == ("pending", 0)
    monkeypatch.undo()
    await handlers.drain(res)
    assert await statuses(res) == {"evt_1": "handled"}


@pytest.mark.parametrize(
    "statement",
    ["select repeat('a', 2000000000)", "select set_config('statement_timeout', '10', true); select pg_sleep(5)"],
    ids=["more than the database can hold", "longer than it allows"],
)
async def test_what_the_database_will_never_do_for_an_event_is_the_events_own_and_ends(
    res: Resources, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    async def impossible(session: AsyncSession, settings: Settings, account: str, values: list[dict[str, Any]]) -> None:
        for part in statement.split(";"):
            await session.execute(text(part))

    monkeypatch.setitem(handlers.HANDLERS, EventType.REPORT_TYPE_UPDATED, impossible)
    await deliver_value(res, told(simulator))
    for _ in range(MOST_TRIES):
        await handlers.drain(res)
        await execute(res, "update events set due_at = now()")

    (event,) = await fetch(res, "select status, tries, reason from events")
    assert event["status"] == "failed"
    assert event["reason"]


async def test_a_rule_that_cannot_be_planned_keeps_no_other_rule_from_being_planned(
    res: Resources, simulator: Simulator
) -> None:
    await reconcile(res)
    broken = await add_rule(res, name="broken")
    await add_rule(res, name="healthy")
    await execute(res, "update rules set timezone = 'Mars/Base' where id = :id", id=broken.id)
    unpublished(simulator, until="2026-03-03")
    await deliver_value(res, told(simulator))

    await handlers.drain(res)
    unpublished(simulator, until="2026-03-04")
    await reconcile(res)
    await work_off(res)

    runs = await fetch(res, "select rule_id, state from runs")
    assert len(runs) == 3
    assert all(run["rule_id"] != broken.id and run["state"] == "stored" for run in runs)


async def test_a_report_type_without_any_data_is_skipped(res: Resources, simulator: Simulator) -> None:
    kind = simulator.report_type(REPORT_TYPE)
    kind.data_available_start = kind.data_available_end
    await deliver_value(res, told(simulator))

    await handlers.drain(res)

    assert await statuses(res) == {"evt_1": "handled"}
    assert await fetch(res, "select 1 from report_types") == []
