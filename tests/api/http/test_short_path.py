"""The short path of plain deliveries beside the long one: the same bytes give the same answers, rows and counters.

Two services with a database each get the same bytes on real sockets, cut at the same places. One of them has no short
path; whatever Hypothesis comes up with, nothing but ids and the time may differ.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from uvicorn import Server

from app.api.http import short_path
from app.main import build_app
from app.observability import tracing
from app.resources import Resources, open_resources
from app.serving import make_server
from app.simulator import Simulator
from tests.api.deliveries import event, signed
from tests.api.http.test_connection import Client, connected
from tests.database import PostgresServer, fresh_database
from tests.service import fetch, make_settings, until_found
from tests.until import until

LARGEST = 2000
ACCOUNTS = json.dumps({"eu": {"webhook_secrets": ["whsec_eu"]}})
# Always the last request: the server hangs up after it, so we know where its answers end.
LAST = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
ROWS = """
select account, stripe_event_id, type, object_id, livemode, stripe_created_at, payload, payload_sha256, status, reason,
    signed_with, traceparent from events
"""


@dataclass(repr=False)
class Way:
    """A service with the short path, or without it."""

    res: Resources
    server: Server
    taken: int = 0  # deliveries on the short path
    read: int = 0  # bytes, of all connections
    offered: list[asyncio.Future[None]] = field(default_factory=list)  # to the intake
    connections: Any = None
    _before: dict[str, Counter[Any]] = field(default_factory=dict)

    def counting_bytes(self, protocol: Any) -> Any:
        """The protocol factory of the server, counting what each connection reads."""
        self.connections = protocol.keywords["connections"]

        def made(*args: Any, **more: Any) -> Any:
            connection = protocol(*args, **more)
            receive = connection.data_received

            def counting(data: bytes) -> None:
                self.read += len(data)
                receive(data)

            connection.data_received = counting
            return connection

        return made

    @property
    def port(self) -> int:
        found: int = self.server.servers[0].sockets[0].getsockname()[1]
        return found

    async def outcome(self, pieces: list[bytes], *, patiently: bool) -> dict[str, Any]:
        """What it answers to these pieces, without ids and the time, and what that changes: rows, and counters.

        What it said is None where the connection was reset, as then it may be lost.
        """
        async with connected(self.port) as client:
            sending = asyncio.create_task(self._send(client, pieces, patiently=patiently))
            said = await client.rest()
            sending.cancel()
        await until(self._is_at_rest)  # a request whose connection was dropped is still worked on
        events = await fetch(self.res, ROWS)
        deliveries = next(iter(self.res.metrics.deliveries.collect())).samples
        counted: dict[str, Counter[Any]] = {
            "rows": Counter(tuple(row.values()) for row in events),
            "refused": Counter(self.res.intake.refused.by_reason),
            "deliveries": Counter({str(one.labels): int(one.value) for one in deliveries}),
            "limits": Counter(self.connections.refused),
        }
        before, self._before = self._before, counted
        said = re.sub(rb"date: [^\r]{29}\r\n|(?<=x-request-id: )[0-9a-f]{32}(?=\r\n)", b"", said)
        return {
            "said": None if client.was_reset else said.split(b"\r\n"),
            **{name: new - before.get(name, Counter()) for name, new in counted.items()},
        }

    async def _send(self, client: Client, pieces: list[bytes], *, patiently: bool) -> None:
        sent = self.read
        await until(lambda: self.server.server_state.connections)  # the system takes a connection before the server
        for piece in pieces:
            await client.send(piece)
            sent += len(piece)
            await until(partial(self._has_read, sent))  # each by itself
            if patiently:
                await until(self.has_nothing_under_way)
                for _ in range(5):  # an answer that needs no more of the request
                    await asyncio.sleep(0)

    def _is_at_rest(self) -> bool:
        return not self.server.server_state.tasks and all(kept.done() for kept in self.offered)

    def _has_read(self, size: int) -> bool:
        return self.read >= size or not self.server.server_state.connections  # it has hung up

    def has_nothing_under_way(self) -> bool:
        return not any(map(_is_busy, self.server.server_state.connections))


def comparable(outcomes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """These outcomes without what was said, if that may be lost in one of them."""
    if any(outcome["said"] is None for outcome in outcomes):
        return [{**outcome, "said": None} for outcome in outcomes]
    return outcomes


def _bare(said: bytes) -> bytes:
    return re.sub(rb"date: [^\r]{29}\r\n|(?<=x-request-id: )[0-9a-f]{32}(?=\r\n)", b"", said)


def _is_busy(connection: Any) -> bool:
    # A server that waits for more of a request waits for us.
    cycle = connection.cycle
    answers = cycle is not None and not (cycle.response_complete or cycle.more_body)
    return answers or bool(connection.pipeline) or getattr(connection, "_pending", False)


@asynccontextmanager
async def way(res: Resources, *, is_short: bool) -> AsyncIterator[Way]:
    app = build_app(res)
    endpoint = app.state.plain_deliveries
    if not is_short:
        app.state.plain_deliveries = None
    found = Way(res, make_server(app, res.settings, host="127.0.0.1", port=0))
    take = endpoint.take

    def counting(delivery: short_path.Delivery) -> Any:
        done = take(delivery)
        found.taken += done is not None
        return done

    endpoint.take = counting
    offer = res.intake.offer

    def offering(*delivery: Any) -> asyncio.Future[None]:
        found.offered.append(kept := offer(*delivery))
        return kept

    res.intake.offer = offering  # type: ignore[assignment,method-assign]
    found.server.config.http = found.counting_bytes(found.server.config.http)
    serving = asyncio.create_task(found.server.serve())
    await until(lambda: found.server.started)
    try:
        yield found
    finally:
        found.server.should_exit = True
        await serving


@pytest.fixture
async def ways(
    postgres_server: PostgresServer, template_database: str, simulator: Simulator
) -> AsyncIterator[tuple[Way, Way]]:
    """The long way and the short one."""
    async with AsyncExitStack() as stack:
        both = []
        for is_short in (False, True):
            name = stack.enter_context(fresh_database(postgres_server, template=template_database))
            about = make_settings(
                postgres_server.url(name), simulator, TALLYHOOK_MAX_BODY_BYTES=LARGEST, STRIPE_ACCOUNTS=ACCOUNTS
            )
            res = await stack.enter_async_context(open_resources(about))
            both.append(await stack.enter_async_context(way(res, is_short=is_short)))
        yield both[0], both[1]


def post(
    body: bytes = b"",
    *more: bytes,
    path: bytes = b"/webhooks/stripe",
    version: bytes = b"HTTP/1.1",
    secret: str = "whsec_for_tests",
    length: bytes | None = None,
    age: float = 0,
) -> bytes:
    """A signed delivery; `more` are lines of its head."""
    signature = signed(body, secret=secret, age=age)["Stripe-Signature"].encode()
    lines = [b"POST " + path + b" " + version, b"Host: x", b"Stripe-Signature: " + signature, *more]
    lines.append(b"Content-Length: " + (b"%d" % len(body) if length is None else length))
    return b"\r\n".join([*lines, b"", body])


def body_of(number: int = 1, **changes: Any) -> bytes:
    return json.dumps(event(f"evt_{number}", **changes)).encode()


def chunked(body: bytes) -> bytes:
    signature = signed(body)["Stripe-Signature"].encode()
    head = (
        b"POST /webhooks/stripe HTTP/1.1\r\nStripe-Signature: " + signature + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


BODIES = [body_of(1), body_of(2), body_of(3, type="customer.updated"), body_of(4, livemode=True)]
# Well-formed, of the connection's own length, and none of them ends it.
MANNERLY = [
    *(post(body) for body in BODIES),
    post(body_of(5), path=b"/webhooks/stripe/eu", secret="whsec_eu"),
    post(body_of(6), path=b"/webhooks/stripe/eu"),
    post(body_of(7), path=b"//webhooks//Stripe/Default/"),
    post(body_of(8), path=b"/webhooks/stripe?x=1"),
    post(body_of(8), path=b"/webhooks/strip%65"),
    post(body_of(8), secret="whsec_other"),
    post(body_of(9), b"Connection: Keep-Alive", b"X-Request-Id: req-1"),
    post(body_of(9), b"X-Request-Id: sk_live_1234567890abcdefghijklmn"),
    post(body_of(10), b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"X-Empty:"),
    post(b"{}"),
    post(b'{"id": "evt_1"'),
    post(b"\xff\xfe".decode("latin-1").encode()),
    post(body_of(11), b"Via: 1.1 a", b"Via: 1.1 b"),
    chunked(body_of(12)),
    b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /webhooks/stripe HTTP/1.1\r\nHost: x\r\n\r\n",
]
# What ends the connection, breaks a rule, or is not HTTP.
ODD = [
    post(body_of(7), path=b"/webhooks/stripe/who"),
    post(body_of(13), age=1000),
    post(body_of(13), b"Stripe-Signature: v1=0"),
    post(body_of(13), version=b"HTTP/1.0"),
    post(body_of(14), version=b"HTTP/1.0") + post(body_of(15)),
    post(body_of(14), b"Connection: close"),
    post(body_of(14), b"connection: keep-alive, close"),
    post(body_of(14), b"Proxy-Connection: close"),
    post(body_of(14), b"Expect: 100-continue"),
    post(body_of(14), b"Transfer-Encoding: chunked"),
    post(body_of(14), b"Content-Length: 5"),
    post(body_of(14), length=b"+5"),
    post(body_of(14), length=b"0x10"),
    post(body_of(14), length=b"99999999999999999999"),
    post(body_of(14), length=b"3"),
    post(body_of(14), b"Bad Name: x"),
    post(body_of(14), b"X: a", b" folded"),
    post(body_of(14), b"X: \xe4\x00"),
    post(body_of(14), *[b"X-%d: y" % number for number in range(120)]),
    post(body_of(14), b"X: " + b"y" * 40_000),
    post(body_of(14)).replace(b"\r\n", b"\n"),
    post(json.dumps(event("evt_16")).ljust(LARGEST).encode()),
    post(json.dumps(event("evt_17")).ljust(LARGEST + 1).encode()),
    post(json.dumps(event("evt_17")).ljust(70_000).encode()),
    chunked(json.dumps(event("evt_17")).ljust(LARGEST + 1).encode()),
    post(body_of(18))[:-3],
    b"\r\n" + post(body_of(19)),
    post(body_of(19)) + b"\r\n",
    b"\x16\x03\x01\x02\x00\x01",
]
# Uvicorn forgets what comes in one piece with a request to upgrade, and waits: not with others in a stream.
UPGRADE = post(body_of(14), b"Connection: Upgrade", b"Upgrade: h2c")
# Drawn by number: their bytes would fill pages with each example that fails.
ALL = [*MANNERLY, *ODD]


def cut(stream: list[bytes], places: list[int]) -> list[bytes]:
    """The stream in pieces: at these places, or at the ends of its requests where there are none."""
    whole = b"".join(stream)
    if not places:
        return stream
    ends = sorted({0, len(whole), *(place % len(whole) for place in places)})
    return [whole[start:end] for start, end in pairwise(ends)]


places: st.SearchStrategy[list[int]] = st.one_of(st.just([]), st.lists(st.integers(0, 100_000), min_size=1, max_size=4))


@settings(max_examples=60)
@given(stream=st.lists(st.sampled_from(range(len(ALL))), min_size=1, max_size=4), places=places)
@example(stream=list(range(len(MANNERLY))), places=[])
async def test_whatever_comes_is_answered_kept_and_counted_as_without_it(
    ways: tuple[Way, Way], stream: list[int], places: list[int]
) -> None:
    pieces = cut([*(ALL[one] for one in stream), LAST], places)
    long, short = comparable([await way.outcome(pieces, patiently=True) for way in ways])

    assert short == long


async def test_what_is_not_plain_goes_the_long_way_behind_what_is(ways: tuple[Way, Way]) -> None:
    for odd in (*ODD, UPGRADE):
        pieces = [post(body_of(1)), odd, LAST]

        long, short = comparable([await way.outcome(pieces, patiently=True) for way in ways])

        assert short == long, odd[:400]
    assert (ways[0].taken, ways[1].taken >= len(ODD)) == (0, True)


@settings(max_examples=30)
@given(stream=st.lists(st.sampled_from(range(len(MANNERLY))), min_size=2, max_size=6), places=places)
@example(stream=[0, 1] * 3, places=[])
async def test_requests_that_come_before_the_answers_are_answered_in_their_order(
    ways: tuple[Way, Way], stream: list[int], places: list[int]
) -> None:
    pieces = cut([*(MANNERLY[one] for one in stream), LAST], places)
    long, short = comparable([await way.outcome(pieces, patiently=False) for way in ways])

    assert short == long


@asynccontextmanager
async def nothing_can_be_kept(way: Way) -> AsyncIterator[None]:
    async with way.res.engine.begin() as connection:
        await connection.execute(text("lock table events in access exclusive mode"))
        yield


async def test_a_server_that_stops_gives_the_answer_that_is_under_way_first(ways: tuple[Way, Way]) -> None:
    heads = []
    for way in ways:
        async with connected(way.port) as client:
            async with nothing_can_be_kept(way):
                await client.send(post(body_of(1)))
                await until(lambda way=way: not way.has_nothing_under_way())
                way.server.should_exit = True
                await until(lambda way=way: not way.server.servers[0].is_serving())
            heads.append(_bare(await client.rest()))

    assert heads[0] == heads[1]
    assert heads[1].startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" in heads[1]


async def test_a_database_that_hangs_is_reported_in_time_and_later_the_event_is_there(
    ways: tuple[Way, Way], monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = []
    for way in ways:
        monkeypatch.setattr(way.res.intake._deadlines, "_seconds", 0.2)
        async with nothing_can_be_kept(way), connected(way.port) as client:
            await client.send(post(body_of(1)))
            assert await client.status() == 503
        monkeypatch.undo()
        # The sender gave it up, not the writer that waits for the lock; another writer takes the next delivery.
        await until_found(way.res, "select from events where stripe_event_id = 'evt_1'")
        outcomes.append(await way.outcome([post(body_of(2)), LAST], patiently=True))

    assert outcomes[0] == outcomes[1]
    assert ways[1].taken == 2


async def test_while_spans_are_exported_every_delivery_goes_the_long_way(
    ways: tuple[Way, Way], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "is_on", lambda: True)

    assert b"HTTP/1.1 200 OK" in (await ways[1].outcome([post(body_of(1)), LAST], patiently=True))["said"]
    assert ways[1].taken == 0


async def test_a_connection_that_was_answered_and_then_idles_is_closed(database_url: str, simulator: Simulator) -> None:
    async with (
        open_resources(make_settings(database_url, simulator, TALLYHOOK_IDLE_SECONDS="0.2")) as res,
        way(res, is_short=True) as short,
        connected(short.port, post(body_of(1))) as client,
    ):
        assert (await client.rest()).startswith(b"HTTP/1.1 200 OK")
        assert short.taken == 1
