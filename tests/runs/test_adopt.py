"""A create whose answer never came and whose key Stripe has forgotten: Stripe's list is read first."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from app.errors import Overtaken
from app.resources import Resources
from app.runs import adopt, settle
from app.runs.request import Created, record_created, request_run
from app.runs.request_claim import claim_requests
from app.simulator import Simulator
from app.stripe_api.objects import StripeRun
from tests.runs.stories import (
    CREATE,
    attempts,
    claim_one,
    everything_is_due,
    keys_used,
    leases_run_out,
    one_due_run,
    somebody_waits_for_a_lock,
    states,
)
from tests.service import (
    REPORT_TYPE,
    add_rule,
    execute,
    fetch,
    only_run,
    request_due,
    work_off,
)


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


@pytest.mark.parametrize(
    ("echoed", "alike"),
    [
        ({"interval_start": 1, "compress_file": "true", "columns": ["a", "b"]}, True),
        ({"interval_start": "1", "compress_file": True, "columns": ["a", "b"], "currency": None}, True),
        ({"interval_start": 1, "compress_file": "true", "columns": ["b", "a"]}, False),
        ({"interval_start": 1, "compress_file": "true", "columns": ["a", "b"], "currency": "usd"}, False),
        ({"interval_start": 1, "compress_file": "false", "columns": ["a", "b"]}, False),
    ],
)
async def test_a_lost_run_is_known_by_its_parameters_however_stripe_echoes_them(
    res: Resources, simulator: Simulator, echoed: dict[str, Any], alike: bool
) -> None:
    await one_due_run(res, simulator)
    claim = await claim_one(res)
    claim = replace(claim, parameters={"interval_start": 1, "compress_file": True, "columns": ["a", "b"]})

    run = StripeRun("frr_1", REPORT_TYPE, echoed, claim.asked_at, "pending", None, None)

    assert adopt.is_alike(run, claim) is alike


async def test_an_answer_that_arrives_while_its_run_is_being_adopted_is_recorded(
    res: Resources, simulator: Simulator
) -> None:
    # Given an answer that is being recorded after its lease, while a successor has found its Stripe run in the list
    await one_due_run(res, simulator)
    slow = await claim_one(res)
    made = await res.stripe.create_run(
        "default", slow.report_type, parameters=slow.parameters, idempotency_key=slow.idempotency_key
    )
    await leases_run_out(res)
    successor = await claim_one(res)

    # When both go on
    async with res.sessions.begin() as recording:
        await settle.lock_stripe_runs(recording, "default", [made.id])
        adopting = asyncio.create_task(adopt.find_created_run(res, successor))
        await somebody_waits_for_a_lock(res)
        await record_created(recording, [Created(slow, made)], poll_seconds=1)

    # Then the answer is the first
    with pytest.raises(Overtaken):
        await adopting
    assert (await only_run(res))["state"] == "requested"
    assert [attempt["stripe_run_id"] for attempt in await attempts(res)] == [made.id]


async def test_an_old_ambiguous_create_that_took_no_effect_is_sent_again_with_a_new_key(
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


async def test_a_run_to_adopt_is_found_by_index_among_very_many_unknown_ones(
    res: Resources, simulator: Simulator
) -> None:
    # Given 20,000 Stripe runs that this database did not know, one of them like the run that is wanted
    run = await one_due_run(res, simulator)
    await execute(
        res,
        "insert into unclaimed_runs (account, stripe_run_id, report_type, parameters, created_at)"
        " select 'default', 'frr_' || number, :type, jsonb_build_object('interval_end', number), now()"
        " from generate_series(1, 20000) as number",
        type=run["report_type"],
    )
    await execute(
        res,
        "insert into unclaimed_runs (account, stripe_run_id, report_type, parameters, created_at)"
        " select account, 'frr_wanted', report_type, parameters, now() from runs",
    )
    await execute(res, "analyze unclaimed_runs")
    claim = await claim_one(res)

    # When it is looked for, then only what has its end is read, by index
    statement, values = adopt._unclaimed_like(claim)
    plan = await fetch(res, f"explain (analyze, format json) {statement.text}", **values)
    (node,) = [node for node in _nodes(plan[0]["QUERY PLAN"][0]["Plan"]) if node.get("Alias") == "lost"]
    assert node["Node Type"] in ("Index Scan", "Bitmap Heap Scan")
    assert node["Actual Rows"] == 1
    assert await adopt.take_unclaimed(res, claim) == "frr_wanted"


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from _nodes(child)


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
    found = await asyncio.gather(*(adopt.find_created_run(res, claim) for claim in claims))
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
