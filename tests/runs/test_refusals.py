"""Stripe refused the request itself: not yet, only from one second later, not this type, or never."""

import pytest

from app.errors import Overtaken
from app.resources import Resources
from app.runs.request import request_run
from app.simulator import Simulator
from app.upkeep.reconcile import reconcile
from tests.runs.stories import (
    CREATE,
    attempts,
    claim_one,
    days_due,
    everything_is_due,
    keys_used,
    leases_run_out,
    one_due_run,
    states,
)
from tests.service import (
    REPORT_TYPE,
    add_rule,
    at,
    execute,
    fetch,
    only_run,
    request_due,
    unpublished,
    work_off,
)


async def test_a_refused_end_waits_for_the_next_advance_with_a_new_key_and_spends_no_attempt(
    res: Resources, simulator: Simulator
) -> None:
    # Stripe announced more data than it gives out yet.
    await one_due_run(res, simulator)
    unpublished(simulator, until="2026-03-01T12:00")
    await request_due(res)
    await everything_is_due(res)
    assert await request_due(res) == 0, "nothing has advanced"

    unpublished(simulator, until="2026-03-02T12:00")
    await reconcile(res)
    await work_off(res)

    run = await only_run(res)
    assert (run["state"], run["attempt"]) == ("stored", 1)
    first, second = keys_used(simulator)
    assert first != second


async def test_an_advance_that_comes_while_the_create_is_in_flight_counts_as_an_advance(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    unpublished(simulator, until="2026-03-01T12:00")
    claim = await claim_one(res)
    unpublished(simulator, until="2026-03-02T12:00")
    await reconcile(res)
    unpublished(simulator, until="2026-03-01T12:00")
    await request_run(res, claim)

    unpublished(simulator, until="2026-03-02T12:00")
    await everything_is_due(res)

    assert await request_due(res) == 1


async def test_a_refused_start_is_asked_once_more_a_second_later_and_remembered_for_windows_that_begin_there(
    res: Resources, simulator: Simulator
) -> None:
    simulator.add_report_type(REPORT_TYPE, strict_bounds=True)
    simulator.report_type(REPORT_TYPE).data_available_start = int(at("2026-03-01").timestamp())
    simulator.report_type(REPORT_TYPE).data_available_end = int(at("2026-03-03T12:00").timestamp())
    await reconcile(res)
    await add_rule(res, name="first")
    await request_due(res)
    await work_off(res)
    begins = {run.parameters["interval_start"] for run in simulator.runs}
    assert begins == {int(at("2026-03-01").timestamp()) + 1, int(at("2026-03-02").timestamp())}
    asked = len(simulator.creates)

    await add_rule(res, name="second")
    await work_off(res)

    assert await states(res) == {"stored": 4}
    assert len(simulator.creates) == asked + 2, "the second rule asks right the first time"
    assert {run["interval_start"] for run in await fetch(res, "select interval_start from runs")} == {
        at("2026-03-01"),
        at("2026-03-02"),
    }


async def test_a_start_that_is_refused_a_second_later_too_is_interval_refused(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    simulator.report_type(REPORT_TYPE).data_available_start = int(at("2026-03-01T12:00").timestamp())

    for _ in range(4):
        await request_due(res)

    run = await only_run(res)
    assert (run["state"], run["error"]["kind"]) == ("failed", "interval_refused")
    assert len(simulator.creates) == 2
    assert run["parameters"]["interval_start"] == int(at("2026-03-01").timestamp()) + 1


@pytest.mark.parametrize(
    ("message", "param", "code"),
    [
        ("Missing required param: parameters[interval_start].", "parameters[interval_start]", "parameter_missing"),
        ("Received unknown parameter: parameters[interval_end]", "parameters[interval_end]", "parameter_unknown"),
        ("Missing required param: parameters[interval_end].", "parameters[interval_end]", "parameter_missing"),
    ],
)
async def test_a_type_that_takes_another_interval_than_we_thought_fails_visibly_and_is_not_requested_forever(
    res: Resources, simulator: Simulator, message: str, param: str, code: str
) -> None:
    await one_due_run(res, simulator)
    name = param[len("parameters[") : -1]
    kind = simulator.report_type(REPORT_TYPE)
    if code == "parameter_unknown":
        kind.required, kind.optional = kind.required - {name}, kind.optional - {name}
    else:
        kind.required |= {name}
        await execute(res, "update runs set parameters = parameters - :name", name=name)

    for _ in range(4):
        await request_due(res)

    run = await only_run(res)
    assert run["state"] == "failed"
    assert message in run["error"]["message"]
    assert len(simulator.creates) == 1


async def test_a_missing_type_holds_its_runs_fails_nothing_and_continues_when_it_appears(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    kind = simulator.account().report_types.pop(REPORT_TYPE)
    await request_due(res)
    (held,) = await fetch(res, "select missing_reason from report_types where missing_since is not null")
    assert "No such report type" in held["missing_reason"]
    await everything_is_due(res)
    await request_due(res)
    assert (await only_run(res))["state"] == "planned"

    simulator.account().report_types[REPORT_TYPE] = kind
    await work_off(res)

    run = await only_run(res)
    assert (run["state"], run["attempt"]) == ("stored", 1)
    assert await fetch(res, "select 1 from report_types where missing_since is not null") == []


async def test_a_missing_type_is_found_again_by_its_probe_without_any_list_call(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    kind = simulator.account().report_types.pop(REPORT_TYPE)
    await request_due(res)
    simulator.account().report_types[REPORT_TYPE] = kind
    await everything_is_due(res)

    await request_due(res)

    assert (await only_run(res))["state"] == "requested"
    assert await fetch(res, "select 1 from report_types where missing_since is not null") == []


async def test_one_run_at_a_time_asks_whether_a_missing_type_is_still_missing(
    res: Resources, simulator: Simulator
) -> None:
    await days_due(res, simulator, 5)
    await add_rule(res, name="another rule of the same type")
    kind = simulator.account().report_types.pop(REPORT_TYPE)
    await request_due(res)
    await everything_is_due(res)

    assert await request_due(res) == 1
    simulator.account().report_types[REPORT_TYPE] = kind
    await everything_is_due(res)
    assert await request_due(res) == 1
    assert await request_due(res) == 9

    assert await states(res) == {"requested": 10}


async def test_any_other_400_fails_the_run_at_once_with_stripes_words(res: Resources, simulator: Simulator) -> None:
    await one_due_run(res, simulator, parameters={"currency": "no currency"})

    await request_due(res)

    run = await only_run(res)
    assert run["state"] == "failed"
    assert run["error"]["kind"] == "rejected"
    assert "not a known value" in run["error"]["message"]
    assert run["error"]["stripe_request_id"].startswith("req_")
    (attempt,) = await attempts(res)
    assert attempt["outcome"] == "rejected"
    assert len(simulator.creates) == 1


@pytest.mark.parametrize(
    ("status", "param"), [(400, None), (404, "report_type"), (400, "parameters.interval_end")], ids=str
)
async def test_a_slow_refusal_neither_ends_the_key_nor_the_run_that_a_successor_is_asking_for(
    res: Resources, simulator: Simulator, status: int, param: str | None
) -> None:
    await one_due_run(res, simulator)
    slow = await claim_one(res)
    await leases_run_out(res)
    successor = await claim_one(res)
    simulator.inject("cut", when="after", match=CREATE)
    await request_run(res, successor)  # it took effect, but we do not know

    if param == "parameters.interval_end":
        unpublished(simulator, until="2026-03-01T12:00")
        simulator.world.idempotency.clear()
    else:
        simulator.inject("status", status=status, match=CREATE)
    with pytest.raises(Overtaken):
        await request_run(res, slow)

    (attempt,) = await attempts(res)
    assert attempt["idempotency_key"] == successor.idempotency_key
    assert (await only_run(res))["state"] == "planned"


async def test_a_late_answer_of_a_slow_worker_fails_no_run_that_is_pending_by_now(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    simulator.configure(outcome="hang")
    slow = await claim_one(res)
    await leases_run_out(res)
    await request_run(res, await claim_one(res))
    simulator.inject("status", status=400, match=CREATE)

    with pytest.raises(Overtaken):
        await request_run(res, slow)

    assert (await only_run(res))["state"] == "requested"
