"""Asking Stripe for runs: one Stripe run per attempt, whatever becomes of the answer."""

import asyncio
import json

import pytest

from app.resources import Resources
from app.runs import adopt
from app.runs.claims import Overtaken
from app.runs.reconcile import reconcile
from app.runs.request import claim_requests, request_run
from app.simulator import Simulator
from app.simulator.faults import When
from tests.runs.stories import (
    CREATE,
    attempts,
    claim_one,
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
    history,
    only_run,
    request_due,
    unpublished,
    work_off,
)

AMBIGUOUS = [
    pytest.param({"fault": "cut", "when": "before"}, id="cut before the effect"),
    pytest.param({"fault": "cut", "when": "after"}, id="cut after the effect"),
    pytest.param({"fault": "status", "status": 500, "when": "before"}, id="500 before the effect"),
    pytest.param({"fault": "status", "status": 409, "when": "before"}, id="409"),
    pytest.param({"fault": "status", "status": 429, "when": "before"}, id="429"),
    pytest.param({"fault": "status", "status": 401, "when": "before"}, id="401"),
    pytest.param({"fault": "status", "status": 403, "when": "before"}, id="403"),
]


@pytest.mark.parametrize("fault", AMBIGUOUS)
async def test_an_answer_that_says_nothing_about_the_request_keeps_the_key_and_makes_one_stripe_run(
    res: Resources, simulator: Simulator, fault: dict[str, object]
) -> None:
    await one_due_run(res, simulator)
    simulator.inject(**fault, match=CREATE)  # type: ignore[arg-type]

    assert await request_due(res) == 1
    (asked,) = await attempts(res)
    assert (await only_run(res))["state"] == "planned"
    await everything_is_due(res)
    await work_off(res)

    assert (await only_run(res))["state"] == "stored"
    assert (await only_run(res))["attempt"] == 1
    assert len(simulator.runs) == 1
    assert set(keys_used(simulator)) == {asked["idempotency_key"]}


@pytest.mark.parametrize("when", ["during", "after"])
async def test_a_server_error_that_stripe_keeps_for_the_key_is_asked_again_until_stripe_forgets_the_key(
    res: Resources, simulator: Simulator, when: When
) -> None:
    # Stripe repeats a 500 of the work itself for a day; after that its list tells whether a run was made.
    await one_due_run(res, simulator)
    simulator.inject("status", status=500, when=when, match=CREATE)
    for _ in range(3):
        await everything_is_due(res)
        await request_due(res)
    assert [call.replayed for call in simulator.creates] == [False, True, True]

    await execute(res, "update runs set asked_at = asked_at - interval '24 hours'")
    simulator.set_clock(advance=24 * 3600)
    await everything_is_due(res)
    await work_off(res)

    assert (await only_run(res))["state"] == "stored"
    assert len(simulator.runs) == 1


async def test_a_429_is_not_asked_again_before_the_answer_allows_it(res: Resources, simulator: Simulator) -> None:
    await one_due_run(res, simulator)
    simulator.inject("status", status=429, headers={"Retry-After": "40"}, match=CREATE)

    await request_due(res)

    (wait,) = await fetch(res, "select extract(epoch from due_at - now()) as seconds, attempt from runs")
    assert 30 < wait["seconds"] <= 40
    assert wait["attempt"] == 1
    assert await request_due(res) == 0


async def test_a_cut_create_that_took_effect_and_a_401_after_it_are_still_one_stripe_run(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    simulator.inject("cut", when="after", match=CREATE)
    await request_due(res)
    (key,) = simulator.world.keys
    simulator.change_key(key, revoked=True)
    await everything_is_due(res)
    assert await request_due(res) == 1
    assert [hold["call_kind"] for hold in await fetch(res, "select call_kind from account_holds")] == ["create"]
    await execute(res, "update account_holds set next_probe_at = now() + interval '1 hour'")
    assert await request_due(res) == 0, "the account is held"

    simulator.change_key(key, revoked=False)
    await everything_is_due(res)
    await work_off(res)

    assert len(simulator.runs) == 1
    assert len(set(keys_used(simulator))) == 1
    assert (await only_run(res))["state"] == "stored"
    assert await fetch(res, "select 1 from account_holds") == []


async def test_a_held_account_is_probed_with_one_call_and_goes_on_at_once_when_it_is_accepted(
    res: Resources, simulator: Simulator
) -> None:
    unpublished(simulator, until="2026-03-06")
    await reconcile(res)
    await add_rule(res)
    simulator.inject("status", status=403, times=None, match=CREATE)
    await request_due(res)
    asked = len(simulator.creates)
    await everything_is_due(res)

    assert await request_due(res) == 1, "only the probe"
    simulator.clear_faults()
    await everything_is_due(res)
    assert await request_due(res) == 1, "only the probe"
    assert await request_due(res) == 4, "and then the rest"

    assert len(simulator.creates) == asked + 6
    assert len(simulator.runs) == 5


async def test_a_probe_that_stripe_answers_with_a_refusal_of_the_request_shows_that_the_key_works(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    simulator.inject("status", status=401, match=CREATE)
    await request_due(res)
    simulator.remove_report_type(REPORT_TYPE)
    await everything_is_due(res)

    await request_due(res)

    assert await fetch(res, "select 1 from account_holds") == []


async def test_a_refused_end_waits_for_the_next_advance_with_a_new_key_and_spends_no_attempt(
    res: Resources, simulator: Simulator
) -> None:
    # Stripe told of more data than it gives out yet.
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
async def test_a_type_that_takes_another_interval_than_we_thought_fails_visibly_and_is_not_asked_for_ever(
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


async def test_a_type_that_is_missing_holds_its_runs_fails_nothing_and_goes_on_when_it_appears(
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


async def test_a_create_that_answers_with_a_finished_run_goes_on_to_its_file_at_once(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    simulator.configure(instant=True)

    await request_due(res)

    assert (await only_run(res))["state"] == "ready"
    assert await history(res) == ["planned", "requested", "ready"]


async def test_a_create_that_answers_with_a_failed_run_makes_the_next_attempt(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    simulator.configure(instant=True)
    simulator.inject("run_fails", message="Stripe is tired")

    await request_due(res)
    run = await only_run(res)
    assert (run["state"], run["attempt"]) == ("planned", 2)
    await work_off(res)

    first, second = await attempts(res)
    assert (first["outcome"], second["outcome"]) == ("stripe_failed", "stored")
    assert first["idempotency_key"] != second["idempotency_key"]
    assert first["stripe_run_id"] != second["stripe_run_id"]


async def test_a_run_that_always_fails_at_stripe_is_failed_after_its_last_attempt(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    simulator.configure(outcome="fail")

    await work_off(res)

    run = await only_run(res)
    assert (run["state"], run["attempt"], run["error"]["kind"]) == ("failed", 3, "stripe_failed")
    assert len(simulator.runs) == 3


async def test_a_cancel_wins_over_a_create_in_flight_whose_run_is_remembered_but_not_fetched(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    claim = await claim_one(res)
    await execute(res, "update runs set state = 'cancelled', fence = fence + 1, asked_at = null, lease_until = null")

    await request_run(res, claim)
    await work_off(res)

    assert (await only_run(res))["state"] == "cancelled"
    (attempt,) = await attempts(res)
    assert attempt["stripe_run_id"] == simulator.runs[0].id
    assert await fetch(res, "select 1 from files") == []


async def test_a_worker_that_died_after_its_call_is_followed_by_one_that_asks_with_the_same_key(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    dead = await claim_one(res)
    await res.stripe.create_run(
        "default", dead.report_type, parameters=dead.parameters, idempotency_key=dead.idempotency_key
    )
    assert await request_due(res) == 0, "the lease is respected"
    await leases_run_out(res)

    await work_off(res)

    assert len(simulator.runs) == 1
    assert (await only_run(res))["state"] == "stored"


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
    await request_run(res, successor)  # it took effect, and nobody knows

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


async def test_an_old_ambiguous_create_that_took_effect_is_found_in_stripes_list(
    res: Resources, simulator: Simulator
) -> None:
    run = await one_due_run(res, simulator)
    simulator.inject("cut", when="after", match=CREATE)
    await request_due(res)
    simulator.world.idempotency.clear()
    simulator.create_run(REPORT_TYPE, {**run["parameters"], "currency": "usd"})  # somebody else's, and different
    await execute(res, "update runs set asked_at = asked_at - interval '24 hours'")
    made = simulator.runs[0]
    await everything_is_due(res)

    await work_off(res)

    (attempt,) = await attempts(res)
    assert attempt["stripe_run_id"] == made.id
    assert len(simulator.creates) == 1
    assert (await only_run(res))["state"] == "stored"


async def test_an_old_ambiguous_create_that_took_no_effect_is_asked_anew_with_a_new_key(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    simulator.inject("cut", when="before", match=CREATE)
    await request_due(res)
    await execute(res, "update runs set asked_at = asked_at - interval '24 hours'")
    await everything_is_due(res)

    await work_off(res)

    first, second = keys_used(simulator)
    assert first != second
    assert (await attempts(res))[0]["idempotency_key"] == second
    assert len(simulator.runs) == 1


async def test_a_run_in_stripes_list_that_belongs_to_another_run_of_ours_is_not_adopted(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator, name="first")
    simulator.inject("cut", when="after", match=CREATE)
    await request_due(res)
    await everything_is_due(res)
    await work_off(res)
    await add_rule(res, name="second")
    simulator.inject("cut", when="before", match=CREATE)
    await request_due(res)
    await execute(res, "update runs set asked_at = asked_at - interval '24 hours' where state = 'planned'")
    await everything_is_due(res)

    await work_off(res)

    first, second = await attempts(res)
    assert first["stripe_run_id"] != second["stripe_run_id"]
    assert len(simulator.runs) == 2


async def test_two_old_creates_that_look_alike_never_adopt_the_same_stripe_run(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator, name="first")
    await add_rule(res, name="second")
    simulator.inject("cut", when="after", match=CREATE)
    simulator.inject("cut", when="before", match=CREATE)
    await request_due(res)
    assert len(simulator.runs) == 1
    await execute(res, "update runs set asked_at = asked_at - interval '24 hours'")
    await everything_is_due(res)

    # Both look before either has recorded what it found.
    claims = await claim_requests(res, 10)
    found = await asyncio.gather(*(adopt.find_lost_run(res, claim) for claim in claims))
    assert [run is None for run in found].count(True) == 1
    await asyncio.gather(*(request_run(res, claim) for claim in claims))
    await everything_is_due(res)
    await work_off(res)

    assert await states(res) == {"stored": 2}
    first, second = await attempts(res)
    assert first["stripe_run_id"] != second["stripe_run_id"]
    assert len(simulator.runs) == 2


async def test_a_new_key_is_never_used_by_a_worker_that_was_overtaken_before_it_was_stored(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    simulator.inject("cut", when="before", match=CREATE)
    await request_due(res)
    await execute(res, "update runs set asked_at = asked_at - interval '24 hours'")
    await everything_is_due(res)
    slow = await claim_one(res)
    await leases_run_out(res)
    await request_run(res, await claim_one(res))
    made = len(simulator.creates)

    with pytest.raises(Overtaken):
        await request_run(res, slow)

    assert len(simulator.creates) == made
    assert len(simulator.runs) == 1


async def test_what_was_sent_is_exactly_what_the_run_shows(res: Resources, simulator: Simulator) -> None:
    await one_due_run(res, simulator, parameters={"currency": "usd", "columns": ["created", "net"]})

    await request_due(res)

    run = await only_run(res)
    assert simulator.runs[0].parameters == run["parameters"]
    assert json.loads(json.dumps(run["parameters"]))["columns"] == ["created", "net"]
