"""A key that is refused (401, 403) holds the account's calls of that kind, and gives nothing up."""

from app.resources import Resources
from app.runs.reconcile import reconcile
from app.simulator import Simulator
from tests.runs.stories import (
    CREATE,
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
