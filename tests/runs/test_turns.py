"""Accounts take turns, and those that owe nothing cost nothing, however many there are."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError

from app.resources import Resources
from app.runs.download import claim_downloads
from app.runs.lookup import claim_lookups
from app.runs.request_claim import claim_requests
from app.runs.turns import accounts_due, claim_in_turn
from app.simulator import Simulator
from app.vocabulary import Lane, RunState
from tests.runs.stories import another_process, everything_is_due, leases_run_out, one_due_run
from tests.service import execute, request_due

CLAIMS: dict[RunState, Callable[[Resources], Awaitable[Sequence[Any]]]] = {
    RunState.PLANNED: lambda res: claim_requests(res, 10),
    RunState.REQUESTED: lambda res: claim_lookups(res, 10),
    RunState.READY: lambda res: claim_downloads(res, 10, big=False),
}

LANES = {RunState.PLANNED: Lane.REQUESTS, RunState.REQUESTED: Lane.LOOKUPS, RunState.READY: Lane.DOWNLOADS}


@asynccontextmanager
async def with_accounts(res: Resources, simulator: Simulator, slugs: Sequence[str]) -> AsyncIterator[Resources]:
    """Another process on the same database, with keys for these accounts beside the usual one."""
    keys = {slug: {"api_key": f"sk_test_{number:024}"} for number, slug in enumerate(slugs)}
    async with another_process(res, simulator, STRIPE_ACCOUNTS=json.dumps(keys)) as process:
        yield process


async def add_a_run(res: Resources, slug: str) -> None:
    """A run of this account, due like the one that is there."""
    await execute(
        res,
        "insert into runs (id, account, report_type, state, parameters, attempts_granted)"
        " select gen_random_uuid(), :slug, report_type, state, parameters, 3 from runs limit 1",
        slug=slug,
    )


@pytest.mark.parametrize("state", CLAIMS)
async def test_accounts_with_nothing_due_cost_a_claim_no_statement(
    res: Resources, simulator: Simulator, state: RunState
) -> None:
    # Given one run of one account, and 200 accounts that owe nothing
    await one_due_run(res, simulator)
    if state is not RunState.PLANNED:
        await request_due(res)
        await execute(res, "update runs set state = :state", state=state.value)
        await everything_is_due(res)
    async with with_accounts(res, simulator, [f"account-{number}" for number in range(200)]) as many:
        statements: list[str] = []
        event.listen(many.engine.sync_engine, "before_cursor_execute", lambda *about: statements.append(about[2]))

        # When it is claimed
        claimed = await CLAIMS[state](many)

    # Then the statements are those of one account
    assert len(claimed) == 1
    assert len(statements) < 12


async def test_no_lane_waits_for_a_process_that_has_the_account(res: Resources, simulator: Simulator) -> None:
    await one_due_run(res, simulator)
    await execute(res, "insert into rate_limits values ('default', 'read', now()), ('default', 'files', now())")
    async with another_process(res, simulator, TALLYHOOK_REQUESTS_PER_SECOND=10) as process:
        for state, lane in LANES.items():
            await execute(res, "update runs set state = :state", state=state.value)
            await everything_is_due(res)
            await leases_run_out(res)

            # Given a process that claims for the account, when another one does
            async with res.sessions.begin() as session:
                await session.execute(text("select from accounts for update"))
                await session.execute(text("select from rate_limits for update"))
                assert await CLAIMS[state](process) == []

            # Then it looks again by itself
            assert await process.wakeups.wait(lane, seconds=60)
            assert len(await CLAIMS[state](process)) == 1


async def test_what_is_claimed_is_worked_on_although_the_next_account_cannot_be_claimed_from(
    res: Resources, simulator: Simulator
) -> None:
    await one_due_run(res, simulator)
    async with with_accounts(res, simulator, ["a", "b"]) as process:
        for slug in ("a", "b"):
            await add_a_run(res, slug)
        asked: list[str] = []

        async def claim(account: str, limit: int) -> list[str]:
            asked.append(account)
            if len(asked) == 2:
                raise OperationalError("select", {}, Exception("the server closed the connection"))
            return [account]

        assert await claim_in_turn(process, Lane.REQUESTS, 10, claim) == asked[:1]
        assert len(asked) == 2, "it is worked on at once"
        assert await process.wakeups.wait(Lane.REQUESTS, seconds=60), "and it looks again soon"

        asked[:] = ["somebody"]
        with pytest.raises(OperationalError):  # nothing is claimed: the lane deals with it
            await claim_in_turn(process, Lane.REQUESTS, 10, claim)


async def test_an_account_whose_calls_are_used_up_is_not_even_locked(res: Resources, simulator: Simulator) -> None:
    await one_due_run(res, simulator)
    async with another_process(res, simulator, TALLYHOOK_REQUESTS_PER_SECOND=0.001) as process:
        await execute(res, "insert into rate_limits values ('default', 'create', now() + interval '500 s')")
        async with res.sessions.begin() as session:
            await session.execute(text("select from accounts for update"))

            assert await claim_requests(process, 10) == []

        # The alarm knows when a call is allowed again.
        assert not await process.wakeups.wait(Lane.REQUESTS, seconds=0)


async def test_with_many_accounts_due_another_one_comes_first_each_time(res: Resources, simulator: Simulator) -> None:
    await one_due_run(res, simulator)
    async with with_accounts(res, simulator, ["a", "b"]) as process:
        for slug in ("a", "b"):
            await add_a_run(res, slug)

        turns = []
        for chance in (0.0, 0.4, 0.9):
            drawn = replace(process, random=partial(float, chance))
            turns.append(await accounts_due(drawn, RunState.PLANNED))

    assert turns == [["a", "b", "default"], ["b", "default", "a"], ["default", "a", "b"]]
