"""Keeping each event exactly once: contract §4, at the function that the web route calls."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import RowMapping, text

from app import handlers
from app.intake import Intake, Unavailable, Unverified, read_event
from app.resources import Resources
from app.settings import Account, Settings
from app.simulator import Simulator
from app.simulator.signatures import signature_header
from tests.service import WEBHOOK_SECRET, execute, fetch, make_settings

TYPE = "reporting.report_type.updated"


def an_event(**changes: Any) -> dict[str, Any]:
    """An event as Stripe sends it; its object is none that the service can do anything with."""
    event = {
        "id": "evt_1",
        "object": "event",
        "type": TYPE,
        "created": 1772323200,
        "livemode": False,
        "data": {"object": {"id": "balance.summary.1", "object": "reporting.report_type"}},
    }
    return {name: value for name, value in {**event, **changes}.items() if value is not ...}


def signed(body: bytes, *secrets: str, at: float | None = None) -> str:
    """The header that Stripe would send with this body."""
    return signature_header(body, secrets or [WEBHOOK_SECRET], at=int(time.time() if at is None else at))


async def accept(intake: Intake, event: Any = None, *, slug: str = "default", header: str | None = None) -> None:
    """Deliver one event."""
    body = event if isinstance(event, bytes) else json.dumps(an_event() if event is None else event).encode()
    account = intake.account(slug)
    assert account is not None
    await intake.accept(body, signed(body) if header is None else header, account)


async def kept(res: Resources) -> list[RowMapping]:
    """All kept events, in order."""
    return await fetch(res, "select * from events order by id")


@asynccontextmanager
async def intake_of(settings: Settings, url: str | None = None) -> AsyncIterator[Intake]:
    """An intake of its own."""
    assert settings.database_url is not None
    async with Intake(url or settings.database_url.get_secret_value(), settings) as intake:
        yield intake


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
async def test_what_is_not_for_us_is_kept_as_ignored_and_of_unused_types_no_body(
    res: Resources, event: dict[str, Any], reason: str, with_body: bool
) -> None:
    await accept(res.intake, event)

    (found,) = await kept(res)
    assert (found["status"], found["reason"]) == ("ignored", reason)
    assert (found["payload"] is not None) is with_body
    assert len(found["payload_sha256"]) == 64
    assert await handlers.drain(res) == 0


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


NOT_BELIEVED = [
    (b"\xff\xfe{}", "not_utf8"),
    (b"{", "not_json"),
    (b"", "not_json"),
    (b"\x00" + json.dumps(an_event()).encode(), "not_json"),
    (b"[]", "not_an_event"),
    (b'"event"', "not_an_event"),
    (json.dumps(an_event(object="charge")).encode(), "not_an_event"),
    (json.dumps(an_event(object=["event"])).encode(), "not_an_event"),
    (json.dumps(an_event(id=...)).encode(), "no_id_or_type"),
    (json.dumps(an_event(id="")).encode(), "no_id_or_type"),
    (json.dumps(an_event(id=17)).encode(), "no_id_or_type"),
    (json.dumps(an_event(id="evt_\x00")).encode(), "no_id_or_type"),
    (json.dumps(an_event(id="e" * 256)).encode(), "no_id_or_type"),
    (json.dumps(an_event(type=...)).encode(), "no_id_or_type"),
    (json.dumps(an_event(type={})).encode(), "no_id_or_type"),
]
NOT_SIGNED = [
    "",
    "t=1",
    "v1=abc",
    "t=,v1=",
    "t=x,v1=abc",
    "t=1,t=2,v1=abc",
    "t=99999999999999999999,v1=abc",
    "t=-1,v1=abc",
    "t=²,v1=abc",
    "t=1\x00,v1=é",
    "t,v1",
    "," * 3000,
]


async def test_what_is_no_event_is_refused_and_only_counted(res: Resources) -> None:
    for body, reason in NOT_BELIEVED:
        with pytest.raises(Unverified, match=reason):
            await accept(res.intake, body)

    assert await kept(res) == []
    assert res.intake.refused == Counter(reason for _, reason in NOT_BELIEVED)


def test_odd_headers_are_bad_signatures_and_nothing_else(account: Account) -> None:
    body = json.dumps(an_event()).encode()
    for header in NOT_SIGNED:
        with pytest.raises(Unverified, match="bad_signature"):
            read_event(body, header, account, now=1.0)


@given(body=st.binary(max_size=60) | st.text(max_size=40).map(str.encode), header=st.text(max_size=60))
def test_no_body_and_no_header_at_all_raises_anything_but_unverified(
    account: Account, body: bytes, header: str
) -> None:
    for given_header in (header, f"t=1,v1={header}", signed(body, at=1)):
        with pytest.raises(Unverified):
            read_event(body, given_header, account, now=1.0)


@given(
    event=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    ),
    field=st.sampled_from(["id", "object", "type", "created", "livemode", "data", "account", "context"]),
)
def test_an_event_with_anything_in_any_field_is_read_or_unverified(account: Account, event: object, field: str) -> None:
    body = json.dumps(an_event(**{field: event})).encode()
    try:
        found = read_event(body, signed(body, at=1), account, now=1.0)
    except Unverified:
        return
    assert found.stripe_event_id
    assert found.status in ("pending", "ignored")


@pytest.fixture(scope="module")
def account() -> Account:
    return Account("default", None, (SecretStr(WEBHOOK_SECRET),), livemode=False)


@pytest.mark.parametrize("away", [-299, 0, 299])
def test_a_time_stamp_within_five_minutes_either_way_is_believed(account: Account, away: int) -> None:
    body = json.dumps(an_event()).encode()

    assert read_event(body, signed(body, at=10_000 + away), account, now=10_000.0)


@pytest.mark.parametrize("away", [-302, 302, 86_400])
def test_an_old_or_future_time_stamp_is_not_believed(account: Account, away: int) -> None:
    body = json.dumps(an_event()).encode()

    with pytest.raises(Unverified, match="bad_signature"):
        read_event(body, signed(body, at=10_000 + away), account, now=10_000.0)


async def test_any_of_several_secrets_is_believed_so_that_they_can_be_rotated(
    database_url: str, simulator: Simulator, res: Resources
) -> None:
    settings = make_settings(database_url, simulator, STRIPE_WEBHOOK_SECRET="whsec_old, whsec_new,")
    async with intake_of(settings) as intake:
        for number, secrets in enumerate([["whsec_old"], ["whsec_new"], ["whsec_other", "whsec_new"]]):
            body = json.dumps(an_event(id=f"evt_{number}")).encode()
            await accept(intake, body, header=signed(body, *secrets))
        with pytest.raises(Unverified):
            await accept(intake, b"{}", header=signed(b"{}", "whsec_other"))

    assert len(await kept(res)) == 3


async def test_accounts_without_a_secret_and_unknown_ones_take_no_events(
    database_url: str, simulator: Simulator, res: Resources
) -> None:
    async with intake_of(make_settings(database_url, simulator, STRIPE_WEBHOOK_SECRET="")) as intake:
        assert intake.account("default") is None
    assert res.intake.account("elsewhere") is None


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


async def test_workers_are_woken_by_one_notification_per_group_that_is_for_us(
    res: Resources, database_url: str
) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as listener:
        await listener.execute("listen tallyhook")
        await accept(res.intake, an_event(id="evt_ignored", type="charge.succeeded"))
        await accept(res.intake, an_event(id="evt_used"))

        heard = [note.payload async for note in listener.notifies(timeout=2, stop_after=1)]
        more = [note.payload async for note in listener.notifies(timeout=0.2)]

    assert (heard, more) == (["inbox"], [])


async def test_a_database_that_is_away_is_told_within_five_seconds(simulator: Simulator) -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    settings = make_settings(f"postgresql://nobody@127.0.0.1:{port}/nothing", simulator)

    async with intake_of(settings) as intake, asyncio.timeout(5):
        with pytest.raises(Unavailable):
            await accept(intake)


async def test_a_database_that_stalls_is_told_within_five_seconds_and_the_intake_goes_on_with_it(
    res: Resources, database_url: str
) -> None:
    async with stallable(database_url) as (url, flowing), intake_of(res.settings, url) as intake:
        await accept(intake, an_event(id="evt_before"))
        flowing.clear()
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable):
                await accept(intake, an_event(id="evt_during"))
        flowing.set()
        await accept(intake, an_event(id="evt_after"))

    names = {event["stripe_event_id"] for event in await kept(res)}
    assert {"evt_before", "evt_after"} <= names


@asynccontextmanager
async def stallable(url: str) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A way to the database that carries nothing while the event is not set."""
    target = psycopg.conninfo.conninfo_to_dict(url)
    host, port = str(target["host"]), int(target.get("port") or 5432)
    flowing = asyncio.Event()
    flowing.set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await flowing.wait()
            writer.write(data)
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind = asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}") if host[0] == "/" else None
        back_reader, back_writer = await (behind or asyncio.open_connection(host, port))
        await asyncio.gather(carry(reader, back_writer), carry(back_reader, writer))

    async with await asyncio.start_server(connect, "127.0.0.1", 0) as server:
        user = ":".join(str(target[name]) for name in ("user", "password") if name in target)
        port_here = server.sockets[0].getsockname()[1]
        yield f"postgresql://{user}@127.0.0.1:{port_here}/{target['dbname']}", flowing


async def test_an_error_of_our_own_answers_unavailable_and_the_next_delivery_is_kept(
    res: Resources,
) -> None:
    await execute(res, "alter table events rename to events_away")
    with pytest.raises(Unavailable):
        await accept(res.intake)
    await execute(res, "alter table events_away rename to events")

    await accept(res.intake)

    assert len(await kept(res)) == 1


async def test_a_delivery_that_was_given_up_by_the_sender_is_kept_all_the_same(res: Resources) -> None:
    delivery = asyncio.create_task(accept(res.intake))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    delivery.cancel()
    await asyncio.gather(delivery, return_exceptions=True)

    await accept(res.intake, an_event(id="evt_2"))

    assert "evt_2" in {event["stripe_event_id"] for event in await kept(res)}
