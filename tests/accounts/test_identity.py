"""A slug and the Stripe account behind its key."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.accounts import identity
from app.accounts.identity import check_at_start
from app.errors import NotNow
from app.resources import Resources, open_resources
from app.runs.waiting import waiting_for
from app.simulator import Simulator
from app.upkeep.reconcile import reconcile
from app.vocabulary import WaitReason
from tests.service import add_rule, at, fetch, make_settings, only_run, request_due, unpublished, work_off

OTHER_KEY = "sk_test_simulator_other"


async def test_a_key_of_another_account_holds_the_slug_until_the_right_one_is_back(
    res: Resources, simulator: Simulator, database_url: str
) -> None:
    unpublished(simulator, until="2026-03-02")
    await reconcile(res)  # binds the slug
    await add_rule(res)
    simulator.add_account("other", livemode=False, api_key=OTHER_KEY)

    async with open_resources(make_settings(database_url, simulator, STRIPE_API_KEY=OTHER_KEY)) as wrong:
        with pytest.raises(NotNow, match="bound to"):
            await reconcile(wrong)
        assert await request_due(wrong) == 0
    assert (await only_run(res))["state"] == "planned"
    assert simulator.creates == []

    await work_off(res)
    assert (await only_run(res))["state"] == "stored"
    assert await fetch(res, "select * from account_holds") == []


async def test_a_key_that_may_not_read_its_account_still_works(res: Resources, simulator: Simulator) -> None:
    unpublished(simulator, until="2026-03-02")
    simulator.inject("status", status=403, times=None, match={"path": "^/v1/account$"})

    await add_rule(res)
    await work_off(res)

    assert (await only_run(res))["interval_end"] == at("2026-03-02")
    assert (await only_run(res))["state"] == "stored"


ACCOUNT = {"method": "GET", "path": "^/v1/account$"}
PROVES_NOTHING: list[dict[str, Any]] = [
    {"fault": "status", "status": 400},
    {"fault": "status", "status": 401},
    {"fault": "status", "status": 403},
    {"fault": "status", "status": 500},
    {"fault": "slow", "seconds": 60},
]


@pytest.fixture
async def bound(res: Resources, simulator: Simulator) -> str:
    """One day is owed, and the slug is bound; returns the account's id."""
    unpublished(simulator, until="2026-03-02")
    await reconcile(res)
    await add_rule(res)
    (account,) = await fetch(res, "select stripe_account_id as id from accounts")
    return str(account["id"])


@pytest.fixture
async def other(bound: str, simulator: Simulator, database_url: str) -> AsyncIterator[Resources]:
    """A process that has the key of another account."""
    simulator.add_account("other", livemode=False, api_key=OTHER_KEY)
    async with open_resources(make_settings(database_url, simulator, STRIPE_API_KEY=OTHER_KEY)) as other:
        yield other


@pytest.mark.parametrize("answer", PROVES_NOTHING, ids=str)
async def test_an_answer_that_proves_nothing_lets_no_run_be_made_with_a_key_of_another_account(
    other: Resources, simulator: Simulator, answer: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "START_SECONDS", 0.2)
    simulator.inject(**answer, times=1 if answer["fault"] == "slow" else None, match=ACCOUNT)

    await check_at_start(other)
    asked = await request_due(other)

    run = await only_run(other)
    async with other.sessions() as session:
        waiting = await waiting_for(session, [run["id"]], other.claim_terms)
    assert (asked, len(simulator.creates), run["state"]) == (0, 0, "planned")
    assert waiting[run["id"]].reason is WaitReason.ACCOUNT_HELD
    (hold,) = await fetch(other, "select distinct reason from account_holds")
    assert hold["reason"].startswith("it is not yet confirmed that the key belongs to acct_")


@pytest.mark.parametrize("answer", PROVES_NOTHING[:4], ids=str)
async def test_an_answer_that_proves_nothing_does_not_end_the_hold_of_a_wrong_key(
    res: Resources, other: Resources, simulator: Simulator, answer: dict[str, Any]
) -> None:
    with pytest.raises(NotNow, match="bound to"):
        await reconcile(other)
    simulator.inject(**answer, times=None, match=ACCOUNT)

    for _ in range(2):
        with pytest.raises(NotNow):
            await reconcile(other)
    await check_at_start(other)

    assert await request_due(other) == 0
    assert len(await fetch(res, "select 1 from account_holds where next_probe_at = 'infinity'")) == 3


async def test_the_account_in_a_refusal_is_proof_against_a_key_and_for_it(
    res: Resources, other: Resources, simulator: Simulator, bound: str
) -> None:
    def refuse(account: str) -> None:
        simulator.clear_faults()
        message = f"The provided key 'rk_test_x' does not have the required permissions on account '{account}'."
        simulator.inject("status", status=403, message=message, times=None, match=ACCOUNT)

    refuse("acct_somebodyelse")
    await check_at_start(other)
    (hold,) = await fetch(res, "select distinct reason from account_holds")
    assert hold["reason"] == f"the key belongs to acct_somebodyelse; this account is bound to {bound}"

    refuse(bound)
    await check_at_start(res)
    assert await fetch(res, "select 1 from account_holds") == []
    assert (await request_due(other), await request_due(res)) == (0, 1)


async def test_a_run_that_only_the_right_key_can_read_is_proof_for_it(
    res: Resources, other: Resources, simulator: Simulator
) -> None:
    await work_off(res)
    unpublished(simulator, until="2026-03-03")
    await reconcile(res)
    simulator.inject("status", status=403, times=None, match=ACCOUNT)

    await check_at_start(other)
    assert (other.unconfirmed, await request_due(other)) == ({"default"}, 0)

    await check_at_start(res)
    assert (res.unconfirmed, await request_due(res)) == (set(), 1)


async def test_an_account_not_confirmed_at_start_continues_once_stripe_says_whose_the_key_is(
    res: Resources, bound: str, simulator: Simulator
) -> None:
    simulator.inject("status", status=500, times=2, match=ACCOUNT)
    await check_at_start(res)
    with pytest.raises(NotNow, match=f"not yet confirmed that the key belongs to {bound}"):
        await reconcile(res)
    assert await request_due(res) == 0

    await work_off(res)

    assert (await only_run(res))["state"] == "stored"


async def test_an_account_that_was_confirmed_works_on_while_stripe_does_not_say_whose_its_key_is(
    res: Resources, bound: str, simulator: Simulator
) -> None:
    await check_at_start(res)
    simulator.inject("status", status=500, times=None, match=ACCOUNT)

    await work_off(res)

    assert (await only_run(res))["state"] == "stored"
