"""A database restored from a backup: Stripe's runs from the gap are adopted, and nothing is made twice."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import date

import pytest
from sqlalchemy import make_url, text

from app.accounts import catch_up
from app.health.judge import judge
from app.resources import Resources, open_resources
from app.runs import adopt, manual
from app.runs.request import request_run
from app.runs.request_claim import claim_requests
from app.simulator import Simulator
from tests.database import PostgresServer, fresh_database
from tests.proofs.promises import broken_promises, owed_days
from tests.runs.stories import CREATE, attempts, days_due, everything_is_due, leases_run_out, states
from tests.service import REPORT_TYPE, add_rule, execute, fetch, make_settings, request_due, unpublished, work_off

LISTS = {"method": "GET", "path": "report_runs$"}


class Backups:
    """The database of a test, and the copy of it that is restored."""

    def __init__(self, server: PostgresServer, url: str, simulator: Simulator) -> None:
        self.server, self.url, self.simulator = server, url, simulator

    @asynccontextmanager
    async def service(self) -> AsyncIterator[Resources]:
        """The service on the current database."""
        async with open_resources(make_settings(self.url, self.simulator), random=lambda: 0.0) as res:
            yield res

    @contextmanager
    def copy(self) -> Iterator[str]:
        """The URL of a copy of the database as it is now; nobody may be connected."""
        with fresh_database(self.server, template=str(make_url(self.url).database)) as name:
            yield self.server.url(name)


@pytest.fixture
def backups(postgres_server: PostgresServer, database_url: str, simulator: Simulator) -> Backups:
    return Backups(postgres_server, database_url, simulator)


async def backed_up(res: Resources) -> None:
    """The last thing that a worker did before the backup, an hour ago."""
    async with res.sessions.begin() as session:
        await catch_up.move_marks(session, settings=res.settings)
    await execute(res, "update accounts set known_until = now() - interval '1 hour'")


async def test_runs_made_after_the_backup_are_adopted_and_nothing_is_made_twice(
    backups: Backups, simulator: Simulator
) -> None:
    async with backups.service() as res:
        await days_due(res, simulator, 3)
        simulator.configure(delay=3600)
        (asked, *_) = await claim_requests(res, 1)
        await request_run(res, asked)
        await backed_up(res)
    with backups.copy() as backup:
        # Given that the first run failed at Stripe, was made again, and all others were made after the backup
        async with backups.service() as res:
            await execute(res, "update accounts set known_until = now()")
            simulator.finish_run(simulator.runs[0].id, outcome="fail")
            simulator.configure(delay=0)
            unpublished(simulator, until="2026-03-06")
            await everything_is_due(res)
            await work_off(res)
            assert await states(res) == {"stored": 5}
        made = [run.id for run in simulator.runs]
        assert len(made) == 6

        # When the service continues from the backup
        backups.url = backup
        async with backups.service() as res:
            await work_off(res)

            # Then it has the same Stripe runs
            assert await states(res) == {"stored": 5}
            assert {run.id for run in simulator.runs} == set(made)
            assert {attempt["stripe_run_id"] for attempt in await attempts(res)} == set(made)
            (rule,) = await fetch(res, "select id from rules")
            assert await broken_promises(res, simulator, owed=owed_days(rule["id"], date(2026, 3, 1), 5)) == []


async def test_rules_that_want_the_same_report_each_adopt_a_run_of_their_own(
    backups: Backups, simulator: Simulator
) -> None:
    async with backups.service() as res:
        await days_due(res, simulator, 2, name="one")
        await add_rule(res, name="other")
        await backed_up(res)
    with backups.copy() as backup:
        async with backups.service() as res:
            await execute(res, "update accounts set known_until = now()")
            await work_off(res)
        for run in simulator.runs:
            run.created -= 1800  # between the backup and now
        backups.url = backup
        async with backups.service() as res:
            await work_off(res)

            assert len({attempt["stripe_run_id"] for attempt in await attempts(res)}) == 4
            assert len(simulator.runs) == 4


async def test_a_new_revision_gets_a_new_run_although_stripe_has_one_like_it(
    backups: Backups, simulator: Simulator
) -> None:
    async with backups.service() as res:
        await days_due(res, simulator, 1)
        await work_off(res)
        run = simulator.runs[0]
        simulator.create_run(REPORT_TYPE, run.parameters)
        await backed_up(res)
        await execute(
            res, "insert into runs (id, account, rule_id, report_type, window_key, revision, interval_start,"
            " interval_end, parameters, state, attempts_granted, planned_at) select gen_random_uuid(), account,"
            " rule_id, report_type, window_key, 2, interval_start, interval_end, parameters, 'planned', 3,"
            " now() + interval '1 minute' from runs",
        )  # fmt: skip

        await work_off(res)

    assert len(simulator.runs) == 3


async def test_no_run_is_made_while_stripe_cannot_say_what_it_has(backups: Backups, simulator: Simulator) -> None:
    async with backups.service() as res:
        await days_due(res, simulator, 2)
        await backed_up(res)
        simulator.inject("status", status=500, times=2, match=LISTS)

        assert [await request_due(res), await request_due(res)] == [0, 0]
        assert simulator.creates == []
        assert await request_due(res) == 2

    assert len(simulator.runs) == 2


async def test_a_key_that_may_make_runs_but_not_list_them_makes_them(backups: Backups, simulator: Simulator) -> None:
    async with backups.service() as res:
        await days_due(res, simulator, 2)
        await backed_up(res)
        simulator.inject("status", status=403, times=None, match=LISTS)

        assert await request_due(res) == 2


async def test_dying_between_adopting_a_run_and_recording_it_makes_no_other(
    backups: Backups, simulator: Simulator
) -> None:
    async with backups.service() as res:
        await days_due(res, simulator, 1)
        (wanted,) = await fetch(res, "select parameters from runs")
        simulator.create_run(REPORT_TYPE, wanted["parameters"])
        await backed_up(res)
        (claim,) = await claim_requests(res, 1)
        found = await adopt.take_unclaimed(res, claim)
        await leases_run_out(res)

        await work_off(res)

        assert [attempt["stripe_run_id"] for attempt in await attempts(res)] == [found]
    assert len(simulator.runs) == 1


async def test_a_claim_that_is_dropped_before_it_looks_makes_its_successor_look(
    backups: Backups, simulator: Simulator
) -> None:
    async with backups.service() as res:
        await days_due(res, simulator, 1)
        (wanted,) = await fetch(res, "select parameters from runs")
        made = simulator.create_run(REPORT_TYPE, wanted["parameters"])
        await backed_up(res)
        await claim_requests(res, 1)
        await leases_run_out(res)

        await work_off(res)

        assert [attempt["stripe_run_id"] for attempt in await attempts(res)] == [made.id]
    assert len(simulator.runs) == 1


async def test_a_run_whose_answer_is_still_awaited_is_not_adopted_by_another(
    backups: Backups, simulator: Simulator
) -> None:
    async with backups.service() as res:
        await days_due(res, simulator, 1, name="one")
        simulator.inject("cut", when="after", match=CREATE)
        await request_due(res)
        await backed_up(res)
        await execute(res, "update runs set due_at = now() + interval '1 hour'")
        await add_rule(res, name="other")

        assert await request_due(res) == 1
        await everything_is_due(res)
        await work_off(res)

        assert len({attempt["stripe_run_id"] for attempt in await attempts(res)}) == 2


@pytest.mark.parametrize(("age", "moves"), [("30 s", True), ("2 minutes", False)])
async def test_the_watermark_moves_while_a_worker_lives_and_stands_still_otherwise(
    res: Resources, age: str, *, moves: bool
) -> None:
    await execute(res, f"update accounts set known_until = now() - interval '{age}'")

    async with res.sessions.begin() as session:
        await catch_up.move_marks(session, settings=res.settings)

    (account,) = await fetch(res, "select known_until > now() - interval '10 s' as moved from accounts")
    assert account["moved"] is moves


async def test_a_watermark_that_was_moved_a_moment_ago_is_left_as_it_is(res: Resources) -> None:
    await execute(res, "update accounts set known_until = now(), timeline = server_timeline()")
    before = await fetch(res, "select known_until from accounts")

    async with res.sessions.begin() as session:
        await catch_up.move_marks(session, settings=res.settings)

    assert await fetch(res, "select known_until from accounts") == before


async def test_a_claim_moves_the_watermark_that_heartbeats_find_locked(res: Resources, simulator: Simulator) -> None:
    await days_due(res, simulator, 6)
    for _ in range(5):  # with 15 seconds between two heartbeats, longer than the watermark may be behind
        await execute(res, "update accounts set known_until = known_until - interval '15 s'")
        async with res.sessions.begin() as claiming:
            await claiming.execute(text("select from accounts for no key update"))
            await _move_marks_at_once(res)
        assert len(await claim_requests(res, 1)) == 1

    assert not [request for request in simulator.calls if request.method == "GET" and request.path.endswith("_runs")]


async def test_moving_the_watermarks_does_not_wait_for_a_claim(res: Resources) -> None:
    await execute(res, "update accounts set known_until = now() - interval '30 s'")
    moved = "select 1 from accounts where known_until > now() - interval '20 s'"

    async with res.sessions.begin() as claiming:
        await claiming.execute(text("select from accounts for no key update"))
        await _move_marks_at_once(res)
        assert await fetch(res, moved) == []

    await _move_marks_at_once(res)
    assert len(await fetch(res, moved)) == 1


async def _move_marks_at_once(res: Resources) -> None:
    async with res.sessions.begin() as session:
        await session.execute(text("set local lock_timeout = '1 s'"))
        await catch_up.move_marks(session, settings=res.settings)


async def test_a_cancelled_run_that_is_retried_after_the_restore_adopts_the_existing_one(
    backups: Backups, simulator: Simulator
) -> None:
    async with backups.service() as res:
        await days_due(res, simulator, 1)
        (run,) = await fetch(res, "select id, parameters from runs")
        simulator.create_run(REPORT_TYPE, run["parameters"])
        await backed_up(res)
        async with res.sessions.begin() as session:
            await manual.cancel(session, run["id"], by="test")
        async with res.sessions.begin() as session:
            await manual.retry(session, run["id"], attempts=3, by="test")

        await work_off(res)

    assert len(simulator.runs) == 1


async def test_a_fail_over_is_noticed_by_the_servers_timeline_however_short_the_gap(
    backups: Backups, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with backups.service() as res:
        await days_due(res, simulator, 3)
        async with res.sessions.begin() as session:
            await catch_up.move_marks(session, settings=res.settings)
    with backups.copy() as standby:
        async with backups.service() as res:
            await work_off(res)
        made = [run.id for run in simulator.runs]
        assert len(made) == 3

        # Given a standby that was promoted a moment later, and has none of that
        backups.url = standby
        async with backups.service() as res:
            await execute(res, "update accounts set timeline = timeline - 1, known_until = now()")

            # When a worker continues, then it makes nothing while a create from before may be under way,
            assert await request_due(res) == 0
            async with res.sessions.begin() as session:
                await catch_up.move_marks(session, settings=res.settings)
            assert await request_due(res) == 0
            assert await found_by_health(res) == ("degraded", "a standby took over the database")
            # and then adopts what Stripe has
            monkeypatch.setattr(catch_up, "CREATES_END_SECONDS", 0.0)
            await everything_is_due(res)
            await work_off(res)

            assert await states(res) == {"stored": 3}
            assert [run.id for run in simulator.runs] == made
            (account,) = await fetch(res, "select timeline = server_timeline() as same from accounts")
            assert account["same"]
            assert (await found_by_health(res))[0] == "ok"


async def test_a_create_that_is_answered_after_a_fail_over_is_recorded_although_the_standby_lacks_the_claim(
    backups: Backups, simulator: Simulator
) -> None:
    async with backups.service() as res:
        await days_due(res, simulator, 1)
    with backups.copy() as standby:
        async with backups.service() as res:
            (claim,) = await claim_requests(res, 1)

        # When the standby, which has nothing of the claim, takes over before Stripe answers
        backups.url = standby
        async with backups.service() as res:
            await request_run(res, claim)
            await everything_is_due(res)
            await work_off(res)

            assert await states(res) == {"stored": 1}
            assert [attempt["idempotency_key"] for attempt in await attempts(res)] == [claim.idempotency_key]
    assert len(simulator.runs) == 1


async def found_by_health(res: Resources) -> tuple[str, str]:
    (found,) = [one for one in (await judge(res.sessions, res.settings)).checks if one.name == "fail_over"]
    return found.status.value, found.detail.partition(":")[0]


async def test_where_the_timeline_cannot_be_read_health_says_what_that_means(res: Resources) -> None:
    await execute(
        res, "create or replace function server_timeline() returns bigint language sql as 'select cast(null as bigint)'"
    )
    async with res.sessions.begin() as session:
        await catch_up.move_marks(session, settings=res.settings)

    assert await found_by_health(res) == ("ok", "the server does not show its timeline")
    assert (await fetch(res, "select 1 from accounts where known_until > now() - interval '1 minute'")) != []
