"""A key that is refused (401, 403) holds the account's calls of that kind, and gives nothing up."""

from typing import Any

import pytest

from app.errors import NotNow
from app.resources import Resources
from app.runs import listing
from app.runs.listing import RunFilters
from app.runs.waiting import Waiting, waiting_for
from app.simulator import Simulator
from app.upkeep.reconcile import reconcile
from app.vocabulary import WaitReason
from tests.runs.stories import (
    CONTENTS,
    CREATE,
    READ_RUN,
    another_process,
    days_due,
    everything_is_due,
    keys_used,
    one_due_run,
)
from tests.service import (
    REPORT_TYPE,
    add_rule,
    download_due,
    execute,
    fetch,
    look_up_due,
    only_run,
    request_due,
    turn,
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


async def test_a_held_account_is_probed_with_one_call_and_continues_at_once_when_it_is_accepted(
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


async def test_many_calls_refused_at_once_do_not_lengthen_the_wait_for_the_probe(
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


async def test_a_probe_without_anything_to_request_is_still_due(res: Resources, simulator: Simulator) -> None:
    await one_due_run(res, simulator)
    simulator.inject("status", status=401, match=CREATE)
    await request_due(res)
    await everything_is_due(res)
    await execute(res, "update runs set asked_at = null, refused_at_availability = 'infinity'")
    assert await request_due(res) == 0
    await execute(res, "update runs set refused_at_availability = null")

    assert await request_due(res) == 1


REFUSED_ALONE = {
    "403": {"status": 403, "message": "The provided key does not have access to account 'acct_bad'."},
    "404": {"status": 404, "message": "No such account: 'acct_bad'", "param": "parameters[connected_account]"},
}


@pytest.mark.parametrize("answer", REFUSED_ALONE.values(), ids=REFUSED_ALONE)
async def test_one_connected_account_that_is_refused_stops_no_other_and_fails_in_the_end(
    res: Resources, simulator: Simulator, answer: dict[str, Any]
) -> None:
    bad_type = "connected_account_balance_change_from_activity.itemized.3"
    unpublished(simulator, bad_type, until="2026-03-02")
    await reconcile(res)
    await add_rule(res, name="bad", report_type=bad_type, connected_accounts=["acct_bad"])
    simulator.inject("status", **answer, times=None, match={**CREATE, "report_type": bad_type})
    await add_rule(res, name="good")

    for day in range(2, 14):
        unpublished(simulator, until=f"2026-03-{day:02}")
        await reconcile(res)
        for _ in range(2):
            await everything_is_due(res)
            await turn(res)

    good = await fetch(res, "select state from runs where connected_account is null and interval_end < '2026-03-11'")
    assert [run["state"] for run in good] == ["stored"] * 9
    bad = await fetch(res, "select * from runs where connected_account is not null")
    assert [(run["state"], run["error"]["kind"]) for run in bad] == [("failed", "refused")]
    assert await fetch(res, "select 1 from report_types where missing_since is not null") == []


async def test_one_file_that_is_refused_stops_no_other_and_its_run_fails_in_the_end(
    res: Resources, simulator: Simulator
) -> None:
    # Given a file whose contents are refused forever
    await days_due(res, simulator, 1)
    await request_due(res)
    await everything_is_due(res)
    await look_up_due(res)
    bad = simulator.files[0]
    simulator.inject("status", status=403, times=None, match={"path": f"{bad.id}/contents$"})

    # When other files come, day after day
    for day in range(3, 16):
        unpublished(simulator, until=f"2026-03-{day:02}")
        await reconcile(res)
        for _ in range(2):
            await everything_is_due(res)
            await turn(res)

    # Then they are stored, and the run of the bad one is failed as refused, visibly
    by_state = {run["state"]: run for run in await fetch(res, "select * from runs where interval_end < '2026-03-13'")}
    assert set(by_state) == {"stored", "failed"}
    assert by_state["failed"]["error"]["kind"] == "refused"
    failed = await fetch(res, "select stripe_file_id from attempts join runs on id = run_id where state = 'failed'")
    assert [row["stripe_file_id"] for row in failed] == [bad.id]


async def test_one_stripe_run_that_may_not_be_read_stops_no_other_look_up_and_fails_in_the_end(
    res: Resources, simulator: Simulator
) -> None:
    # Given a Stripe run that may not be read, and no webhooks at all
    await days_due(res, simulator, 1)
    await request_due(res)
    bad = simulator.runs[0]
    simulator.inject("status", status=403, times=None, match={"method": "GET", "path": f"{bad.id}$"})

    # When others are made, day after day
    for day in range(3, 16):
        unpublished(simulator, until=f"2026-03-{day:02}")
        await reconcile(res)
        for _ in range(2):
            await everything_is_due(res)
            await turn(res)

    # Then they are stored, and the bad one is failed as refused, visibly
    by_state = {run["state"]: run for run in await fetch(res, "select * from runs where interval_end < '2026-03-13'")}
    assert set(by_state) == {"stored", "failed"}
    assert by_state["failed"]["error"]["kind"] == "refused"
    failed = await fetch(res, "select stripe_run_id from attempts join runs on id = run_id where state = 'failed'")
    assert [row["stripe_run_id"] for row in failed] == [bad.id]


PROBES = {"read": (READ_RUN, look_up_due), "files": (CONTENTS, download_due)}


@pytest.mark.parametrize("kind", PROBES)
async def test_the_probe_of_held_reads_and_files_is_another_run_each_time_too(
    res: Resources, simulator: Simulator, kind: str
) -> None:
    # Given three runs whose next call is refused
    match, step = PROBES[kind]
    await days_due(res, simulator, 3)
    await request_due(res)
    if kind == "files":
        await everything_is_due(res)
        await look_up_due(res)
    simulator.inject("status", status=403, times=None, match=match)

    # When the account is probed
    probed = []
    for _ in range(4):
        await everything_is_due(res)
        await step(res)
        probed += await fetch(res, "select id from runs order by refused_at desc limit 1")

    # Then each probe was another one
    assert len({run["id"] for run in probed[1:]}) == 3


async def test_the_probe_of_a_held_account_is_another_run_each_time(res: Resources, simulator: Simulator) -> None:
    await days_due(res, simulator, 3)
    simulator.inject("status", status=403, times=None, match=CREATE)

    for _ in range(4):
        await everything_is_due(res)
        await request_due(res)

    probes = [call.idempotency_key for call in simulator.creates[3:]]
    assert len(set(probes)) == len(probes) == 3


async def test_a_refused_run_shows_its_last_error_and_gives_its_slot_to_others(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    simulator.inject("status", status=403, message="no access", match=CREATE)

    await request_due(res)

    run = await only_run(res)
    assert (run["last_trouble"], run["asked_at"], run["state"]) == ("403: no access", None, "planned")


ABOUT_THE_KEY = [
    "Please include the Stripe-Context header to authenticate with an Organization API key.",
    "Something that nobody has read before.",
]


@pytest.mark.parametrize("message", ABOUT_THE_KEY)
async def test_a_400_that_is_about_the_key_or_the_account_holds_it_and_fails_nothing(
    res: Resources, simulator: Simulator, message: str
) -> None:
    await one_due_run(res, simulator)
    simulator.inject("status", status=400, message=message, times=None)
    await reconcile_in_vain(res)

    await request_due(res)

    assert (await only_run(res))["state"] == "planned"
    held = await fetch(res, "select call_kind from account_holds order by call_kind")
    assert [hold["call_kind"] for hold in held] == ["create", "read"]
    simulator.clear_faults()
    await everything_is_due(res)
    await work_off(res)
    assert (await only_run(res))["state"] == "stored"


async def test_runs_of_a_slug_that_has_another_accounts_key_can_still_be_shown(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    await execute(res, "insert into account_holds values ('default', 'create', 'other key', now(), 0, 'infinity')")
    run = await only_run(res)

    async with res.sessions.begin() as session:
        waiting = await waiting_for(session, [run["id"]], res.claim_terms)

    assert waiting == {run["id"]: Waiting(WaitReason.ACCOUNT_HELD, None)}


async def test_a_run_with_a_time_outside_of_pythons_range_is_shown_with_all_others(
    res: Resources, simulator: Simulator
) -> None:
    await days_due(res, simulator, 2)
    await execute(res, "update runs set due_at = 'infinity' where interval_start = '2026-03-01+00'")

    async with res.sessions.begin() as session:
        found = await listing.list_runs(session, RunFilters(), limit=10)
        waiting = await waiting_for(session, [run.id for run in found], res.claim_terms)

    assert len(found) == 2
    assert {one.reason for one in waiting.values()} == {WaitReason.BACKOFF}


async def reconcile_in_vain(res: Resources) -> None:
    with pytest.raises(NotNow):
        await reconcile(res)
