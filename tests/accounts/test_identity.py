"""A slug and the Stripe account behind its key."""

import pytest

from app.errors import NotNow
from app.resources import Resources, open_resources
from app.simulator import Simulator
from app.upkeep.reconcile import reconcile
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


async def test_a_key_that_may_not_read_its_account_works_all_the_same(res: Resources, simulator: Simulator) -> None:
    unpublished(simulator, until="2026-03-02")
    simulator.inject("status", status=403, times=None, match={"path": "^/v1/account$"})

    await add_rule(res)
    await work_off(res)

    assert (await only_run(res))["interval_end"] == at("2026-03-02")
    assert (await only_run(res))["state"] == "stored"
