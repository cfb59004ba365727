"""A key that is refused (401, 403) holds the account's calls of that kind, and gives nothing up."""

from app.resources import Resources
from app.simulator import Simulator
from app.upkeep.reconcile import reconcile
from tests.runs.stories import (
    CREATE,
    another_process,
    days_due,
    everything_is_due,
    keys_used,
    one_due_run,
)
from tests.service import (
    REPORT_TYPE,
    add_rule,
    execute,
    fetch,
    only_run,
    request_due,
    unpublished,
    work_off,
)


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


async def test_many_calls_that_are_refused_at_once_make_the_wait_for_the_probe_no_longer(
    res: Resources, simulator: Simulator
) -> None:
    await days_due(res, simulator, 5)
    simulator.inject("status", status=401, times=None, match=CREATE)

    assert await request_due(res) == 5
    assert [hold["tries"] for hold in await fetch(res, "select tries from account_holds")] == [0]
    await everything_is_due(res)
    await request_due(res)

    assert [hold["tries"] for hold in await fetch(res, "select tries from account_holds")] == [1]


async def test_a_probe_that_the_rate_limit_did_not_allow_is_still_due(res: Resources, simulator: Simulator) -> None:
    await one_due_run(res, simulator)
    simulator.inject("status", status=401, match=CREATE)
    await request_due(res)
    await everything_is_due(res)
    async with another_process(res, simulator, TALLYHOOK_REQUESTS_PER_SECOND=1) as slow:
        await execute(res, "insert into rate_limits values ('default', 'create', now() + interval '1 hour')")
        assert await request_due(slow) == 0
        await execute(res, "delete from rate_limits")

        assert await request_due(slow) == 1

    assert (await only_run(res))["state"] == "requested"


async def test_a_probe_that_found_nothing_to_ask_for_is_still_due(res: Resources, simulator: Simulator) -> None:
    await one_due_run(res, simulator)
    simulator.inject("status", status=401, match=CREATE)
    await request_due(res)
    await everything_is_due(res)
    await execute(res, "update runs set asked_at = null, refused_at_availability = 'infinity'")
    assert await request_due(res) == 0
    await execute(res, "update runs set refused_at_availability = null")

    assert await request_due(res) == 1
