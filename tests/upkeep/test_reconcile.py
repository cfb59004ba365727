"""Without a single webhook, the timetable polls Stripe and everything arrives."""

import asyncio
import json
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
from sqlalchemy import text

from app.accounts import reconciliations
from app.queue.timetable import EntryClaim, claim, finish, hasten, make_due, release, renew
from app.resources import Resources, open_resources
from app.rules import schedule, store
from app.simulator import Simulator
from app.upkeep.reconcile import reconcile
from app.worker.steps import timetable
from tests.runs.stories import LIST_TYPES, another_process, days_due, everything_is_due, states
from tests.service import (
    REPORT_TYPE,
    add_rule,
    ask_due,
    execute,
    fetch,
    make_settings,
    make_timetable_due,
    timetable_due,
    unpublished,
    until_found,
    work_off,
    working,
)


async def test_everything_comes_in_without_a_single_webhook(res: Resources, simulator: Simulator) -> None:
    await reconcile(res)
    await add_rule(res, name="days")
    await add_rule(res, name="updates", cadence="every_update")
    for end in ("2026-03-02", "2026-03-03T12:00", "2026-03-05"):
        unpublished(simulator, until=end)
        await work_off(res)

    assert await states(res) == {"stored": 4 + 3}
    assert await fetch(res, "select 1 from events") == []
    assert len(simulator.runs) == 7


async def test_windows_of_every_update_follow_each_other_without_gap_or_overlap(
    res: Resources, simulator: Simulator
) -> None:
    await reconcile(res)
    await add_rule(res, cadence="every_update")
    for end in ("2026-03-01T12:00", "2026-03-02", "2026-03-02", "2026-03-01T12:00", "2026-03-04"):
        unpublished(simulator, until=end)
        await reconcile(res)

    windows = await fetch(res, "select interval_start, interval_end from runs order by 1")
    assert len(windows) == 3
    assert all(one["interval_end"] == next_["interval_start"] for one, next_ in pairwise(windows))


async def test_a_connected_account_that_was_taken_out_and_put_back_misses_nothing_of_an_every_update_rule(
    res: Resources, simulator: Simulator
) -> None:
    connect = "connected_account_balance_change_from_activity.itemized.3"
    unpublished(simulator, connect, until="2026-03-02")
    await reconcile(res)
    rule = await add_rule(res, cadence="every_update", report_type=connect, connected_accounts=["acct_a", "acct_b"])
    for accounts in (["acct_a"], ["acct_a", "acct_b"]):
        unpublished(simulator, connect, until="2026-03-04" if len(accounts) == 1 else "2026-03-05")
        async with res.sessions.begin() as session:
            locked = await store.get(session, rule.id, lock=True)
            await store.change(session, locked, replace(store.values_of(locked), connected_accounts=accounts))
            await schedule.plan_rule(session, rule.id, attempts=3)
        await reconcile(res)

    windows = await fetch(
        res, "select interval_start, interval_end from runs where connected_account = 'acct_b' order by 1"
    )
    assert all(one["interval_end"] == next_["interval_start"] for one, next_ in pairwise(windows))
    (known,) = await fetch(res, "select data_available_end from report_types where id = :id", id=connect)
    assert windows[-1]["interval_end"] == known["data_available_end"]


ENTRY = "select extract(epoch from due_at - now()) as seconds, finished_at from timetable where name = 'reconcile'"
ACCOUNT_ROWS = """
    select account, extract(epoch from due_at - clock_timestamp()) as seconds, finished_at from reconciliations
    order by account
"""


async def test_a_piece_of_the_timetable_is_done_by_one_process_only(res: Resources, simulator: Simulator) -> None:
    await make_timetable_due(res)
    async with another_process(res, simulator) as one, another_process(res, simulator) as other:
        done = await asyncio.gather(*(timetable_due(process) for process in (res, one, other)))
        asked = await asyncio.gather(*(ask_due(process) for process in (res, one, other)))

    assert sum(done) == len(timetable(res))
    assert (sum(asked), simulator.world.journal.counts["list_types"]) == (1, 1)


async def test_a_claim_that_began_before_another_takes_nothing_of_it(res: Resources) -> None:
    await make_timetable_due(res)
    every = {entry.name: entry.every for entry in timetable(res)}
    async with res.sessions.begin() as late:
        await late.execute(text("select now()"))
        async with res.sessions.begin() as session:
            taken = await claim(session, every, len(every))

        assert sorted(one.name for one in taken) == sorted(every)
        assert await claim(late, every, len(every)) == []


async def test_everything_is_due_at_start_however_lately_it_was_done(res: Resources) -> None:
    everything = len(timetable(res))
    await make_timetable_due(res)
    assert (await timetable_due(res), await ask_due(res)) == (everything, 1)
    assert (await timetable_due(res), await ask_due(res)) == (0, 0)

    await make_timetable_due(res)

    assert (await timetable_due(res), await ask_due(res)) == (everything, 1)


async def test_what_was_done_is_due_again_after_its_interval(res: Resources) -> None:
    await make_timetable_due(res)
    await timetable_due(res)
    await ask_due(res)

    (entry,), (account,) = await fetch(res, ENTRY), await fetch(res, ACCOUNT_ROWS)

    assert 1700 < entry["seconds"] <= 1800
    assert (account["seconds"], account["finished_at"] is not None) == (None, True)  # until the entry's next turn


async def test_a_round_of_many_accounts_is_spread_and_hastens_nothing_that_is_under_way(res: Resources) -> None:
    slugs = [f"a{n:03}" for n in range(116)]
    await execute(res, "insert into accounts (slug) select unnest(cast(:slugs as text[]))", slugs=slugs)
    await execute(res, "insert into reconciliations values ('a000', now() + interval '50 s', now(), null)")
    async with res.sessions.begin() as session:
        await reconciliations.begin_round(session, slugs)

    due = {row["account"]: float(row["seconds"]) for row in await fetch(res, ACCOUNT_ROWS)}

    began = max(due[slug] for slug in slugs[1:16])
    assert began <= 0
    assert due["a000"] - began > 40
    assert began < due["a030"] < due["a115"] <= 10


@pytest.mark.parametrize(
    # A read on a kept connection is made once more by the transport: twice is what shows.
    "fault",
    [{"fault": "cut", "times": 2}, {"fault": "status", "status": 500}, {"fault": "status", "status": 401}],
)
async def test_work_that_stripe_prevented_is_due_again_soon_and_not_only_at_the_next_turn(
    res: Resources, simulator: Simulator, fault: dict[str, object]
) -> None:
    await make_timetable_due(res)
    simulator.inject(**fault, match=LIST_TYPES)  # type: ignore[arg-type]

    assert (await timetable_due(res), await ask_due(res)) == (len(timetable(res)), 1)

    (account,) = await fetch(res, ACCOUNT_ROWS)
    assert 0 < account["seconds"] <= 60
    assert account["finished_at"] is None
    await execute(res, "update reconciliations set due_at = now()")
    await everything_is_due(res)
    assert await ask_due(res) == 1
    (account,) = await fetch(res, ACCOUNT_ROWS)
    assert (account["seconds"], account["finished_at"] is not None) == (None, True)
    assert await fetch(res, "select 1 from account_holds") == []


async def test_an_account_that_was_made_due_while_it_was_asked_about_is_asked_about_again(res: Resources) -> None:
    await make_timetable_due(res)
    await timetable_due(res)
    (claim,) = await reconciliations.claim_accounts(res, 1)

    async with res.sessions.begin() as session:
        await reconciliations.make_due(session, "default")
        await reconciliations.finish(session, claim)

    assert await ask_due(res) == 1


async def test_hints_that_arrive_while_an_account_is_asked_about_have_it_asked_again_once_a_minute_later(
    res: Resources, simulator: Simulator
) -> None:
    # Given an account that is being asked about
    await make_timetable_due(res)
    await timetable_due(res)
    (claim,) = await reconciliations.claim_accounts(res, 1)

    # When a burst of hints arrives meanwhile
    for _ in range(3):
        async with res.sessions.begin() as session:
            await reconciliations.hasten(session, claim.account)

    # Then nobody else asks until the answers are here, and a minute later the account is asked about again
    assert await ask_due(res) == 0
    async with res.sessions.begin() as session:
        await reconciliations.renew(session, [claim], seconds=3600)
        await reconciliations.finish(session, claim)
    (finished,) = await fetch(res, ACCOUNT_ROWS)
    assert finished["seconds"] is not None, "the hints are lost"
    assert 0 < finished["seconds"] <= 60
    await execute(res, "update reconciliations set due_at = now()")
    assert await ask_due(res) == 1
    (done,) = await fetch(res, ACCOUNT_ROWS)
    assert done["seconds"] is None


async def test_hints_that_arrive_while_an_entry_is_under_way_have_it_done_again_once_a_minute_later(
    res: Resources,
) -> None:
    # Given an entry that was done an hour ago, and is under way
    await make_timetable_due(res)
    await execute(res, "update timetable set finished_at = now() - interval '1 hour' where name = 'reconcile'")
    (mine,) = await _claim(res)

    # When a burst of hints arrives meanwhile
    for _ in range(3):
        async with res.sessions.begin() as session:
            await hasten(session, "reconcile")

    # Then nobody else does it while it is renewed, and a minute later it is done once more
    assert await _claim(res) == []
    async with res.sessions.begin() as session:
        await renew(session, [mine], seconds=3600)
    (under_way,) = await fetch(res, ENTRY)
    assert under_way["seconds"] > 3500
    async with res.sessions.begin() as session:
        await finish(session, mine, again_after=1800.0)
    (finished,) = await fetch(res, ENTRY)
    assert 0 < finished["seconds"] <= 60
    await execute(res, "update timetable set due_at = now() where name = 'reconcile'")
    (mine,) = await _claim(res)
    async with res.sessions.begin() as session:
        await finish(session, mine, again_after=1800.0)
    (done,) = await fetch(res, ENTRY)
    assert 1700 < done["seconds"] <= 1800


async def test_a_hint_that_a_process_of_the_version_before_takes_too_is_not_lost(res: Resources) -> None:
    # Given an entry under way, and a hint for it
    await make_timetable_due(res)
    (mine,) = await _claim(res)
    async with res.sessions.begin() as session:
        await hasten(session, "reconcile")

    # When that process takes another hint, which it does not expect beside ours
    await execute(
        res, "update timetable set finished_at = greatest(started_at, finished_at), started_at = null"
        " where name = 'reconcile'",
    )  # fmt: skip
    async with res.sessions.begin() as session:
        await finish(session, mine, again_after=1800.0)

    # Then the entry is done again soon, and a hint that arrives then leaves its claim alone, as ever
    (finished,) = await fetch(res, ENTRY)
    assert finished["seconds"] <= 60
    await execute(res, "update timetable set finished_at = 'infinity', due_at = now() where name = 'reconcile'")
    (mine,) = await _claim(res)
    async with res.sessions.begin() as session:
        await hasten(session, "reconcile")
        await renew(session, [mine], seconds=3600)
    (under_way,) = await fetch(res, ENTRY)
    assert under_way["seconds"] > 3500


async def test_a_heartbeat_that_comes_late_leaves_an_entry_due_that_has_more_to_do_or_was_released(
    res: Resources,
) -> None:
    await make_timetable_due(res)
    for end in (partial(finish, again_after=0.0), release):
        (mine,) = await _claim(res)
        async with res.sessions.begin() as session:
            await end(session, mine)
            await renew(session, [mine], seconds=3600)

    (entry,) = await fetch(res, ENTRY)
    assert entry["seconds"] <= 0


async def test_an_entry_that_another_process_has_begun_again_is_left_to_that_one(res: Resources) -> None:
    # Given an entry that was made due while it was under way, and that another process has begun
    await make_timetable_due(res)
    (overtaken,) = await _claim(res)
    async with res.sessions.begin() as session:
        await make_due(session, "reconcile")
    assert len(await _claim(res)) == 1

    # When the first ends, however it does, or is renewed
    ends = partial(finish, again_after=1800.0), release, lambda session, one: renew(session, [one], seconds=3600)
    for end in ends:
        async with res.sessions.begin() as session:
            await end(session, overtaken)

    # Then the other's lease stands: if Stripe cannot be asked, the entry is due again within a minute
    (entry,) = await fetch(res, ENTRY)
    assert 0 < entry["seconds"] <= 60


async def test_an_account_that_another_process_asks_about_again_is_left_to_that_one(
    res: Resources, simulator: Simulator
) -> None:
    # Given an account that was made due while it was asked about, and that another process asks about now
    await make_timetable_due(res)
    await timetable_due(res)
    (overtaken,) = await reconciliations.claim_accounts(res, 1)
    async with res.sessions.begin() as session:
        await reconciliations.make_due(session, "default")
    (claim,) = await reconciliations.claim_accounts(res, 1)

    # When the first ends, however it does, and Stripe cannot be asked for the other
    for end in (reconciliations.finish, reconciliations.put_off, reconciliations.release):
        async with res.sessions.begin() as session:
            await end(session, overtaken)
        assert await reconciliations.claim_accounts(res, 1) == []
    async with res.sessions.begin() as session:
        await reconciliations.renew(session, [overtaken], seconds=3600)
        await reconciliations.put_off(session, claim)

    # Then the account is due again within a minute; and what the first was told counts
    (account,) = await fetch(res, ACCOUNT_ROWS)
    assert account["seconds"] is not None, "what made it due is lost"
    assert 0 < account["seconds"] <= 60
    assert account["finished_at"] is not None


async def _claim(res: Resources) -> list[EntryClaim]:
    async with res.sessions.begin() as session:
        return await claim(session, {"reconcile": 1800.0}, 1)


async def test_an_account_that_does_not_answer_keeps_no_other_account_from_being_asked(
    database_url: str, simulator: Simulator
) -> None:
    simulator.add_account("b")
    keys = {account.name: {"api_key": account.keys[0].secret} for account in simulator.world.accounts.values()}
    settings = make_settings(
        database_url, simulator, STRIPE_API_KEY="", STRIPE_WEBHOOK_SECRET="",
        STRIPE_ACCOUNTS=json.dumps({"a": keys["default"], "b": keys["b"]}),
    )  # fmt: skip
    simulator.inject("slow", seconds=600, times=None, match={**LIST_TYPES, "account": "default"})
    async with open_resources(settings) as res, working(res):
        await until_found(res, "select 1 from reconciliations where account = 'b' and finished_at is not null")
        (hanging,) = await fetch(res, "select started_at from reconciliations where account = 'a'")
        assert hanging["started_at"] is not None  # it hangs still
    simulator.clear_faults()


async def test_a_run_in_a_state_that_this_version_does_not_know_is_left_alone(
    res: Resources, simulator: Simulator
) -> None:
    await days_due(res, simulator, 2)
    await execute(res, "update runs set state = 'archived' where interval_start = '2026-03-01+00'")

    await work_off(res)

    assert await states(res) == {"archived": 1, "stored": 1}


async def test_one_odd_report_type_hides_no_other(res: Resources, simulator: Simulator) -> None:
    unpublished(simulator, until="2026-03-02")
    simulator.report_type("balance.summary.1").data_available_end = None  # type: ignore[assignment]

    await reconcile(res)

    known = {row["id"] for row in await fetch(res, "select id from report_types")}
    assert REPORT_TYPE in known
    assert "balance.summary.1" not in known
