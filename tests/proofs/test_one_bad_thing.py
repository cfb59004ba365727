"""One bad thing stops nothing else, and health reports it: for every kind of item from outside.

A worker works on what a good rule owes, with one bad item beside it: an event, a report type, a run in Stripe's list,
a file, a connected account, a rule, an account, an answer of the database.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app import handlers
from app.health.judge import judge
from app.health.results import Status
from app.resources import Resources, open_resources
from app.settings import Settings
from app.simulator import Simulator
from app.upkeep.reconcile import reconcile
from app.vocabulary import EventType
from tests.runs.stories import CREATE, deliver_value, everything_is_due
from tests.service import REPORT_TYPE, add_rule, execute, fetch, make_settings, unpublished, working
from tests.until import until

OTHER_TYPE = "balance_change_from_activity.itemized.6"
CONNECTED_TYPE = "connected_account_balance_change_from_activity.itemized.3"
# Days that the good rule owes: each call that passes shows that a refused one is refused alone.
DAYS = 14
REVOKED = '{"revoked": {"api_key": "sk_test_revoked"}}'


@dataclass(frozen=True)
class Place:
    """Where a bad thing is set up."""

    res: Resources
    simulator: Simulator
    patched: pytest.MonkeyPatch


@dataclass(frozen=True)
class Bad:
    """A bad item: how it arises, and the health checks, one of which must report it."""

    item: str
    play: Callable[[Place], Awaitable[None]]
    checks: Sequence[str] = ()
    metric: str | None = None
    settings: dict[str, str] = field(default_factory=dict)


async def bad_event(place: Place) -> None:
    handle = handlers.HANDLERS[EventType.REPORT_RUN_FAILED]

    async def poisoned(session: AsyncSession, settings: Settings, account: str, values: list[dict[str, Any]]) -> None:
        if any(value["id"] == "frr_bad" for value in values):
            raise RuntimeError("boom")
        await handle(session, settings, account, values)

    place.patched.setitem(handlers.HANDLERS, EventType.REPORT_RUN_FAILED, poisoned)
    event = {"id": "evt_bad", "object": "event", "created": 1, "livemode": False}
    about = {"object": {"id": "frr_bad", "object": "reporting.report_run"}}
    await deliver_value(place.res, {**event, "type": "reporting.report_run.failed", "data": about})


async def bad_report_type(place: Place) -> None:
    place.simulator.report_type(OTHER_TYPE).data_available_end = None  # type: ignore[assignment]
    await add_rule(place.res, name="bad", report_type=OTHER_TYPE)


async def bad_run_in_a_list(place: Place) -> None:
    # The list is read where a database that is older than Stripe was put back.
    for _ in range(2):
        place.simulator.create_run(REPORT_TYPE, {"interval_start": 1_772_323_200, "interval_end": 1_772_326_800})
    place.simulator.runs[0].status = ""  # type: ignore[assignment]
    await execute(place.res, "update accounts set known_until = now() - interval '2 hours'")


async def bad_file(place: Place) -> None:
    unpublished(place.simulator, OTHER_TYPE, until="2026-03-02")
    await reconcile(place.res)
    await add_rule(place.res, name="bad", report_type=OTHER_TYPE)
    place.simulator.inject("file_gone", times=None, match={"report_type": OTHER_TYPE})


async def bad_connected_account(place: Place) -> None:
    unpublished(place.simulator, CONNECTED_TYPE, until="2026-03-02")
    await reconcile(place.res)
    await add_rule(place.res, name="bad", report_type=CONNECTED_TYPE, connected_accounts=["acct_bad"])
    refused = {"status": 403, "message": "The provided key does not have access to account 'acct_bad'."}
    place.simulator.inject("status", **refused, times=None, match={**CREATE, "report_type": CONNECTED_TYPE})


async def bad_rule(place: Place) -> None:
    rule = await add_rule(place.res, name="bad")
    await execute(place.res, "delete from run_moves")
    await execute(place.res, "update rules set timezone = 'Mars/Base' where id = :id", id=rule.id)


async def bad_account(place: Place) -> None:
    await add_rule(place.res, name="bad", account="revoked")


def bad_answer(sqlstate: str) -> Callable[[Place], Awaitable[None]]:
    """The database refuses, with this state, to record that one rule's runs were requested."""

    async def play(place: Place) -> None:
        unpublished(place.simulator, OTHER_TYPE, until="2026-03-02")
        await reconcile(place.res)
        rule = await add_rule(place.res, name="bad", report_type=OTHER_TYPE)
        await refuse_requested(place.res, rule.id, sqlstate)

    return play


async def refuse_requested(res: Resources, rule_id: object, sqlstate: str, *, times: int = 1_000_000) -> None:
    """Refuse so often to move a run of this rule to `requested`."""
    await execute(res, "create sequence refusals")
    await execute(
        res,
        "create function refuse() returns trigger language plpgsql as $$ begin"
        f" if nextval('refusals') <= {times} then raise exception 'refused' using errcode = '{sqlstate}'; end if;"
        " return new; end $$",
    )
    await execute(
        res,
        "create trigger refuse before update on runs for each row"
        f" when (new.rule_id = '{rule_id}' and new.state = 'requested') execute function refuse()",
    )


BAD = [
    Bad("event", bad_event, ["failed_events"]),
    Bad(
        "report type", bad_report_type, ["report_types", "unreadable_items"], metric="tallyhook_unreadable_items_total"
    ),
    Bad("run in a list", bad_run_in_a_list, ["unreadable_items"], metric="tallyhook_unreadable_items_total"),
    Bad("file", bad_file, ["failed_runs"]),
    # Its last refusals come when nothing passes any more, so that it is the account that is held.
    Bad("connected account", bad_connected_account, ["credentials"]),
    Bad("rule", bad_rule, ["freshness"]),
    Bad(
        "account",
        bad_account,
        ["credentials"],
        settings={"STRIPE_ACCOUNTS": '{"revoked": {"api_key": "sk_test_gone"}}'},
    ),
    *(Bad(f"database {state}", bad_answer(state), ["failed_runs"]) for state in ("22P05", "23514", "54000", "XX001")),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.item)
async def test_one_bad_thing_leaves_the_others_alone_and_is_seen_in_health(
    bad: Bad, database_url: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given what a good rule owes, and one bad thing beside it
    settings = make_settings(database_url, simulator, TALLYHOOK_STALLED_AFTER_SECONDS=2, **bad.settings)
    async with open_resources(settings) as res:
        unpublished(simulator, until=f"2026-03-{DAYS + 1:02}")
        await add_rule(res, name="good")
        await bad.play(Place(res, simulator, monkeypatch))

        # When a worker does what it can, for as long as it takes
        async with working(res):
            await until(lambda: _good_is_stored(res), "what the good rule is owed is stored")
            await until(lambda: _is_seen(res, bad), f"the bad {bad.item} is seen in health")

        # Then the good ones were made once, and nothing was held against them
        good = await fetch(
            res, "select attempt, crashes, refusals from runs join rules on rules.id = rule_id where name = 'good'"
        )
        assert [dict(run) for run in good] == [{"attempt": 1, "crashes": 0, "refusals": 0}] * DAYS


PASSING = ["40001", "40P01", "53100", "57P01", "58030", "25006"]


@pytest.mark.parametrize("sqlstate", PASSING)
async def test_a_passing_error_of_the_database_is_not_counted_against_anything(
    database_url: str, simulator: Simulator, sqlstate: str
) -> None:
    settings = make_settings(database_url, simulator, TALLYHOOK_STALLED_AFTER_SECONDS=1)
    async with open_resources(settings) as res:
        unpublished(simulator, until=f"2026-03-{DAYS + 1:02}")
        await reconcile(res)
        rule = await add_rule(res, name="good")
        await refuse_requested(res, rule.id, sqlstate, times=2)

        async with working(res):
            await until(lambda: _good_is_stored(res))

        runs = await fetch(res, "select distinct attempt, crashes, refusals, error from runs")
        assert [dict(run) for run in runs] == [{"attempt": 1, "crashes": 0, "refusals": 0, "error": None}]
        assert len(simulator.runs) == DAYS


async def _good_is_stored(res: Resources) -> bool:
    query = "select count(*) as n from runs join rules on rules.id = rule_id where name = 'good' and state = 'stored'"
    return bool((await fetch(res, query))[0]["n"] == DAYS)


async def _is_seen(res: Resources, bad: Bad) -> bool:
    await everything_is_due(res)
    if bad.metric is not None and not _counted(res, bad.metric):
        return False
    judgement = await judge(res.sessions, res.settings)
    unwell = {check.name for check in judgement.checks if check.status is not Status.OK}
    named = any(rule.name == "bad" and rule.status is not Status.OK for rule in judgement.rules)
    return unwell.issuperset(bad.checks) and (named or "freshness" not in bad.checks)


def _counted(res: Resources, metric: str) -> bool:
    samples = [sample for family in res.metrics.registry.collect() for sample in family.samples]
    return any(sample.name == metric and sample.value > 0 for sample in samples)
