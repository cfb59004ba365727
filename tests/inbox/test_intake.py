"""Keeping each event exactly once, at the function that the web route calls."""

import asyncio
import gc
import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from app import handlers
from app.errors import Unavailable
from app.inbox.intake import ANSWER_SECONDS, BUSY_EVENTS, WRITERS
from app.resources import Resources
from app.simulator import Simulator
from app.vocabulary import Lane
from tests.detour import detour
from tests.inbox.intake_events import accept, an_event, intake_of, kept
from tests.ports import held_port
from tests.service import WEBHOOK_SECRET, execute, make_settings
from tests.until import until


async def test_an_event_is_kept_with_its_signed_text_when_accept_returns(res: Resources) -> None:
    body = json.dumps(an_event(), indent=2).encode()

    await accept(res.intake, body)

    (event,) = await kept(res)
    assert event["payload"] == body.decode()
    assert (event["account"], event["stripe_event_id"], event["status"]) == ("default", "evt_1", "pending")
    assert event["object_id"] == "balance.summary.1"


IGNORED = [
    (an_event(type="charge.succeeded"), "unused_type", False),
    (an_event(livemode=True), "wrong_mode", True),
    (an_event(account="acct_1"), "connected_account", True),
    (an_event(context="acct_1"), "connected_account", True),
    (an_event(object="v2.core.event"), "thin_event", False),
    (an_event(object="v2.core.event", type="v1.billing.meter.error_report_triggered"), "thin_event", False),
]


@pytest.mark.parametrize(("event", "reason", "with_body"), IGNORED, ids=lambda value: str(value)[:40])
async def test_an_event_of_another_kind_is_kept_as_ignored_without_a_body_if_its_type_is_unused(
    res: Resources, event: dict[str, Any], reason: str, with_body: bool
) -> None:
    await accept(res.intake, event)

    (found,) = await kept(res)
    assert (found["status"], found["reason"]) == ("ignored", reason)
    assert (found["payload"] is not None) is with_body
    assert len(found["payload_sha256"]) == 64
    assert await handlers.drain(res) == 0


@pytest.mark.parametrize(
    ("created", "known"),
    [
        ("2026-11-27T16:20:01.500Z", datetime(2026, 11, 27, 16, 20, 1, 500_000, UTC)),
        ("2026-11-27T16:20:01", None),  # of no time zone
        ("0001-01-01T00:00:00+10:00", None),  # before Python's first year
        ("yesterday", None),
    ],
)
async def test_the_time_of_a_thin_event_is_kept(res: Resources, created: str, known: datetime | None) -> None:
    await accept(res.intake, an_event(object="v2.core.event", created=created))

    (found,) = await kept(res)
    assert (found["status"], found["stripe_created_at"]) == ("ignored", known)


async def test_an_account_whose_mode_is_not_known_takes_events_of_either_mode(
    database_url: str, simulator: Simulator, res: Resources
) -> None:
    settings = make_settings(
        database_url, simulator, STRIPE_API_KEY="", STRIPE_WEBHOOK_SECRET="",
        STRIPE_ACCOUNTS=json.dumps({"eu": {"webhook_secrets": [WEBHOOK_SECRET]}}),
    )  # fmt: skip
    async with intake_of(settings) as intake:
        await accept(intake, an_event(id="evt_live", livemode=True), slug="eu")
        await accept(intake, an_event(id="evt_test", livemode=False), slug="eu")

    assert [event["status"] for event in await kept(res)] == ["pending", "pending"]


async def test_the_same_event_of_two_accounts_is_two_events(
    database_url: str, simulator: Simulator, res: Resources
) -> None:
    accounts = {slug: {"webhook_secrets": [WEBHOOK_SECRET]} for slug in ("eu", "us")}
    settings = make_settings(
        database_url, simulator, STRIPE_API_KEY="", STRIPE_WEBHOOK_SECRET="", STRIPE_ACCOUNTS=json.dumps(accounts)
    )
    async with intake_of(settings) as intake:
        for slug in ("eu", "us", "eu"):
            await accept(intake, slug=slug)

    assert [event["account"] for event in await kept(res)] == ["eu", "us"]


async def test_a_hundred_deliveries_at_once_with_doubles_among_them_keep_each_event_once(
    res: Resources, simulator: Simulator, database_url: str
) -> None:
    ids = [f"evt_{number % 60}" for number in range(200)]
    async with intake_of(res.settings) as other:
        await asyncio.gather(*(accept(intake, an_event(id=name)) for name in ids for intake in (res.intake, other)))

    events = await kept(res)
    assert sorted(event["stripe_event_id"] for event in events) == sorted(set(ids))
    assert {event["status"] for event in events} == {"pending"}


async def test_an_event_seen_before_and_handled_is_not_handled_again(res: Resources) -> None:
    await accept(res.intake)
    await execute(res, "update events set status = 'handled', handled_at = now()")

    await accept(res.intake)

    (event,) = await kept(res)
    assert event["status"] == "handled"
    assert await handlers.drain(res) == 0


@pytest.mark.parametrize("status", ["pending", "failed"])
async def test_an_event_whose_handling_never_completed_is_due_at_once_when_it_comes_again(
    res: Resources, status: str
) -> None:
    await accept(res.intake)
    await execute(res, "update events set status = :status, tries = 7, due_at = now() + interval '1 h'", status=status)
    assert await handlers.drain(res) == 0

    await accept(res.intake)

    assert await handlers.drain(res) == 1


async def test_an_ignored_event_that_comes_again_stays_ignored(res: Resources) -> None:
    for _ in range(2):
        await accept(res.intake, an_event(livemode=True))

    assert [event["status"] for event in await kept(res)] == ["ignored"]


async def test_a_duplicate_of_an_event_that_is_just_being_handled_holds_up_no_delivery(res: Resources) -> None:
    await accept(res.intake)

    async with res.sessions.begin() as session:
        await session.execute(text("select 1 from events for update"))
        await asyncio.gather(accept(res.intake), accept(res.intake, an_event(id="evt_2")))

    assert [event["stripe_event_id"] for event in await kept(res)] == ["evt_1", "evt_2"]


async def test_workers_are_woken_only_by_what_is_for_us_and_before_the_intake_ends(
    res: Resources, database_url: str
) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as listener:
        await listener.execute("listen tallyhook")
        async with intake_of(res.settings) as intake:
            await accept(intake, an_event(id="evt_ignored", type="charge.succeeded"))
            await accept(intake, an_event(id="evt_used"))

        await listener.execute("notify tallyhook, 'the end'")  # arrives after all that was committed before
        heard: list[str] = []
        async for note in listener.notifies():
            heard.append(note.payload)
            if heard[-1] == "the end":
                break

    assert [words.split()[0] for words in heard] == ["inbox", "the"]


async def test_the_worker_of_this_process_is_woken_without_the_server_and_only_by_what_is_for_it(
    res: Resources,
) -> None:
    await execute(res, "alter function pg_notify(text, text) rename to pg_notify_away")

    await accept(res.intake, an_event(id="evt_ignored", type="charge.succeeded"))
    assert not await res.wakeups.wait(Lane.INBOX, seconds=0)
    await accept(res.intake, an_event(id="evt_used"))
    assert await res.wakeups.wait(Lane.INBOX, seconds=0)


async def test_workers_are_woken_for_what_was_kept_although_the_rest_of_its_group_failed(
    res: Resources, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with intake_of(res.settings) as intake:
        await accept(intake, an_event(id="evt_known"))
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as listener:
        await listener.execute("listen tallyhook")
        monkeypatch.setattr("app.inbox.keeping._HANDLE_AGAIN", "select 1/0, $1::text[], $2::text[]")
        async with intake_of(res.settings) as intake:
            both = [accept(intake, an_event(id=id_)) for id_ in ("evt_known", "evt_new")]
            assert {type(e) for e in await asyncio.gather(*both, return_exceptions=True)} == {Unavailable}

        await listener.execute("notify tallyhook, 'the end'")
        heard = [note.payload async for note in listener.notifies(timeout=60, stop_after=2)]

    assert {event["stripe_event_id"] for event in await kept(res)} == {"evt_known", "evt_new"}
    assert [words.split()[0] for words in heard] == ["inbox", "the"]


async def test_an_intake_that_ends_just_after_a_delivery_leaves_no_connection_behind(
    simulator: Simulator, database_url: str
) -> None:
    async def alone() -> bool:
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
            found = await connection.execute("""
                select from pg_stat_activity
                where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()
            """)
            return await found.fetchone() is None

    gc.disable()  # it would close one that nobody holds any more
    try:
        for number in range(20):
            async with intake_of(make_settings(database_url, simulator)) as intake:
                await accept(intake, an_event(id=f"evt_{number}"))
        await until(alone)
    finally:
        gc.enable()


async def test_an_event_is_kept_although_nobody_can_be_woken_and_the_wake_up_follows(
    res: Resources, database_url: str
) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as listener:
        await listener.execute("listen tallyhook")
        await execute(res, "alter function pg_notify(text, text) rename to pg_notify_away")
        await accept(res.intake)
        assert len(await kept(res)) == 1

        await execute(res, "alter function pg_notify_away(text, text) rename to pg_notify")

        heard = [note.payload async for note in listener.notifies(stop_after=1)]
    assert heard[0].split()[0] == "inbox"


async def test_a_database_that_is_away_is_reported_within_five_seconds(simulator: Simulator) -> None:
    with held_port() as port:  # nobody listens there
        settings = make_settings(f"postgresql://nobody@127.0.0.1:{port}/nothing", simulator)
        async with intake_of(settings) as intake:
            with pytest.raises(Unavailable):
                await accept(intake)


async def test_a_database_that_stalls_is_reported_within_five_seconds_and_the_intake_recovers_with_it(
    res: Resources, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ANSWER_SECONDS < 5
    async with detour(database_url) as way, intake_of(res.settings, way.url) as intake:
        await accept(intake, an_event(id="evt_before"))
        way.stall()
        with monkeypatch.context() as hasty:
            hasty.setattr(intake._deadlines, "_seconds", 0.3)
            with pytest.raises(Unavailable):
                await accept(intake, an_event(id="evt_during"))
        way.flow()
        await accept(intake, an_event(id="evt_after"))

    names = {event["stripe_event_id"] for event in await kept(res)}
    assert {"evt_before", "evt_after"} <= names


async def test_an_intake_whose_connections_a_network_swallowed_continues_with_new_ones(
    res: Resources, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.inbox.intake.TRANSACTION_SECONDS", 0.5)
    async with detour(database_url) as way, intake_of(res.settings, way.url) as intake:
        for number in range(WRITERS):  # one after the other: they take turns
            await accept(intake, an_event(id=f"evt_{number}"))
        way.swallow()
        with monkeypatch.context() as hasty:
            hasty.setattr(intake._deadlines, "_seconds", 0.3)
            with pytest.raises(Unavailable):
                await accept(intake, an_event(id="evt_during"))
        delivered = False
        while not delivered:  # as Stripe does
            with suppress(Unavailable):
                await accept(intake, an_event(id="evt_after"))
                delivered = True

    assert "evt_after" in {event["stripe_event_id"] for event in await kept(res)}


async def test_an_intake_ends_although_a_network_swallowed_the_connection_that_was_to_wake_the_workers(
    res: Resources, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.inbox.intake.TRANSACTION_SECONDS", 0.5)
    async with detour(database_url) as way, intake_of(res.settings, way.url) as intake:
        for number in range(WRITERS):  # each opens its connection, and nobody is woken for what is ignored
            await accept(intake, an_event(id=f"evt_{number}", type="invoice.paid"))
        way.swallow_at(b"pg_backend_pid")
        await accept(intake, an_event(id="evt_to_wake"))

    assert "evt_to_wake" in {event["stripe_event_id"] for event in await kept(res)}


async def test_the_intake_is_busy_while_many_events_come_in(res: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(BUSY_EVENTS):
        assert not res.intake.is_busy
        await accept(res.intake, an_event(id=f"evt_{number}"))

    assert res.intake.is_busy
    monkeypatch.setattr("app.inbox.intake.BUSY_SECONDS", 0.0)  # as if they had arrived long ago
    assert not res.intake.is_busy


async def test_an_error_of_our_own_answers_unavailable_and_the_next_delivery_is_kept(
    res: Resources,
) -> None:
    await execute(res, "alter table events rename to events_away")
    with pytest.raises(Unavailable):
        await accept(res.intake)
    await execute(res, "alter table events_away rename to events")

    await accept(res.intake)

    assert len(await kept(res)) == 1


async def test_a_delivery_that_was_given_up_by_the_sender_is_still_kept(res: Resources) -> None:
    delivery = asyncio.create_task(accept(res.intake))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    delivery.cancel()
    await asyncio.gather(delivery, return_exceptions=True)

    await accept(res.intake, an_event(id="evt_2"))

    assert "evt_2" in {event["stripe_event_id"] for event in await kept(res)}


async def test_an_event_that_comes_by_two_paths_is_kept_once_for_the_account_that_it_names(
    database_url: str, simulator: Simulator, res: Resources
) -> None:
    accounts = {
        "platform": {"webhook_secrets": [WEBHOOK_SECRET]},
        "shop": {"api_key": "sk_test_1", "webhook_secrets": [WEBHOOK_SECRET], "stripe_account": "acct_1"},
    }
    settings = make_settings(
        database_url, simulator, STRIPE_API_KEY="", STRIPE_WEBHOOK_SECRET="", STRIPE_ACCOUNTS=json.dumps(accounts)
    )
    async with intake_of(settings) as intake:
        await accept(intake, an_event(account="acct_1"), slug="platform")
        await accept(intake, an_event(account="acct_1"), slug="shop")

    assert [(event["account"], event["status"]) for event in await kept(res)] == [("shop", "pending")]
