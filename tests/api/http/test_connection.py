"""The limits of a connection, on real sockets: a stranger stays within them, whatever is sent or held back."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from app.resources import open_resources
from app.simulator import Simulator
from tests.api.conftest import listening
from tests.api.deliveries import event, signed
from tests.service import make_settings
from tests.until import PATIENCE_SECONDS

GET = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
QUICK = "0.2"


@asynccontextmanager
async def served(database_url: str, simulator: Simulator, **limits: object) -> AsyncIterator[int]:
    """The port of the service with other limits, named like their settings without `TALLYHOOK_`."""
    settings = make_settings(database_url, simulator, **{f"TALLYHOOK_{name}": value for name, value in limits.items()})
    async with open_resources(settings) as res, listening(res) as port:
        yield port


class Client:
    """One connection. `was_reset`: the server hung up on bytes that it had not read, and what it said may be lost."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.was_reset = False

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            try:
                self.writer.write(piece)
                await self.writer.drain()
            except ConnectionError:
                self.was_reset = True
                return  # what was sent before is still to be read

    async def status(self) -> int:
        """The status of the next answer, which is read to its end."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        await self.reader.readexactly(int(length))
        return int(head.split(b" ", 2)[1])

    async def rest(self) -> bytes:
        """Everything that arrives until the server hangs up, which it must."""
        came = b""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while piece := await self.reader.read(65536):
                    came += piece
        except ConnectionError:
            self.was_reset = True
        return came

    async def rest_while_sending(self, *pieces: bytes) -> bytes:
        """The same, read while these pieces go out: a server that has said no does not take all of them."""
        sending = asyncio.create_task(self.send(*pieces))
        came = await self.rest()
        sending.cancel()
        return came


@asynccontextmanager
async def connected(port: int, first: bytes = b"") -> AsyncIterator[Client]:
    """A connection. What it says first is there before the server, in this same loop, looks at the clock for it."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(first)
    reader, writer = await asyncio.open_connection(sock=connection)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


def delivery(number: int = 1) -> bytes:
    """A whole signed delivery."""
    body = json.dumps(event(f"evt_{number}")).encode()
    return head_of(len(body), signed(body)["Stripe-Signature"]) + body


def head_of(length: int, signature: str) -> bytes:
    lines = f"Host: x\r\nStripe-Signature: {signature}\r\nContent-Length: {length}\r\n"
    return f"POST /webhooks/stripe HTTP/1.1\r\n{lines}\r\n".encode()


def half_body(size: int) -> bytes:
    """What a stranger can send whose header looks like Stripe's: a body that never ends."""
    return head_of(size + 1, signed(b"something else")["Stripe-Signature"]) + b"x" * size


ENDLESS_HEADS = {
    "many headers": [GET] + [b"X-%d: y\r\n" % number for number in range(5000)],
    "one endless header": [GET, b"X: "] + [b"y" * 4096] * 100,
    "one endless name": [GET] + [b"y" * 4096] * 100,
    "an endless path": [b"GET /"] + [b"y" * 4096] * 100,
    "many short ones": [GET, b"a:\r\n" * 20_000],
}


@pytest.mark.parametrize("pieces", ENDLESS_HEADS.values(), ids=ENDLESS_HEADS.keys())
async def test_a_head_without_an_end_is_refused_at_the_limit(
    database_url: str, simulator: Simulator, pieces: list[bytes]
) -> None:
    async with served(database_url, simulator) as port, connected(port) as client:
        answer = await client.rest_while_sending(*pieces)

    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"connection: close" in answer


async def test_trailers_without_an_end_are_refused_too(database_url: str, simulator: Simulator) -> None:
    head = b"POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
    async with served(database_url, simulator) as port, connected(port) as client:
        answer = await client.rest_while_sending(head, b"X: ", *[b"y" * 4096] * 100)

    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("limit", "sent"),
    [
        ("HEADER_SECONDS", lambda: GET),
        ("HEADER_SECONDS", lambda: b"G"),
        # Signed when the test runs: a signature made at collection may be too old by then.
        ("BODY_SECONDS", lambda: half_body(100)),
        ("BODY_SECONDS", lambda: head_of(10, signed(b"x")["Stripe-Signature"])),
    ],
    ids=["half a head", "one letter", "half a body", "no body"],
)
async def test_what_does_not_arrive_in_time_is_given_up(
    database_url: str, simulator: Simulator, limit: str, sent: Callable[[], bytes]
) -> None:
    async with served(database_url, simulator, **{limit: QUICK}) as port, connected(port, sent()) as client:
        assert (await client.rest()).startswith(b"HTTP/1.1 408 ")


async def test_more_of_a_head_does_not_extend_its_time(database_url: str, simulator: Simulator) -> None:
    async with served(database_url, simulator, HEADER_SECONDS=QUICK) as port, connected(port, GET) as client:

        async def trickle() -> None:
            while True:
                await client.send(b"X")
                await asyncio.sleep(0.02)

        sender = asyncio.create_task(trickle())
        answer = await client.rest()
        sender.cancel()

    assert answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("first", [b"", GET + b"\r\n"], ids=["that says nothing", "that has asked something"])
async def test_a_connection_that_waits_forever_is_closed(database_url: str, simulator: Simulator, first: bytes) -> None:
    limits = {"HEADER_SECONDS": QUICK, "IDLE_SECONDS": QUICK}
    async with served(database_url, simulator, **limits) as port, connected(port, first) as client:
        if first:
            assert await client.status() == 200

        assert await client.rest() == b""


async def test_when_there_are_too_many_the_oldest_stranger_makes_room(database_url: str, simulator: Simulator) -> None:
    async with served(database_url, simulator, MAX_CONNECTIONS=3) as port, AsyncExitStack() as stack:
        known = await stack.enter_async_context(connected(port))
        await known.send(GET + b"\r\n")
        assert await known.status() == 200
        strangers = [await stack.enter_async_context(connected(port)) for _ in range(2)]
        await strangers[0].send(GET)
        await strangers[1].send(GET)
        stripe = await stack.enter_async_context(connected(port))

        await stripe.send(delivery())

        assert await stripe.status() == 200
        assert await strangers[0].rest() == b"", "the oldest one went"
        await strangers[1].send(b"\r\n")
        assert await strangers[1].status() == 200
        await known.send(GET + b"\r\n")
        assert await known.status() == 200


async def test_a_signed_delivery_is_served_however_many_connections_are_held_open(
    database_url: str, simulator: Simulator
) -> None:
    async with served(database_url, simulator, MAX_CONNECTIONS=5) as port, AsyncExitStack() as stack:
        for number in range(30):
            stranger = await stack.enter_async_context(connected(port))
            await stranger.send([b"", GET, half_body(1000)][number % 3])
        for number in range(10):
            stripe = await stack.enter_async_context(connected(port))
            await stripe.send(delivery(number))
            assert await stripe.status() == 200


async def test_unfinished_bodies_together_stay_within_the_limit(database_url: str, simulator: Simulator) -> None:
    limits = {"MAX_UNVERIFIED_BYTES": 100_000, "MAX_BODY_BYTES": 40_000}
    async with served(database_url, simulator, **limits) as port, AsyncExitStack() as stack:
        strangers = [await stack.enter_async_context(connected(port)) for _ in range(4)]
        for stranger in strangers:
            await stranger.send(half_body(30_000))
        assert await strangers[0].rest() == b"", "the oldest one went"

        stripe = await stack.enter_async_context(connected(port))
        await stripe.send(delivery())

        assert await stripe.status() == 200


async def test_requests_piled_up_before_an_answer_are_bounded(database_url: str, simulator: Simulator) -> None:
    async with served(database_url, simulator) as port, connected(port) as client:
        await client.send((GET + b"\r\n") * 2000)

        assert (await client.rest()).count(b"HTTP/1.1 200") < 20


async def test_a_few_of_them_are_answered_in_order(database_url: str, simulator: Simulator) -> None:
    async with served(database_url, simulator) as port, connected(port) as client:
        await client.send(delivery(1) + GET + b"\r\n" + delivery(2))

        assert [await client.status() for _ in range(3)] == [200, 200, 200]


async def test_a_delivery_in_the_smallest_pieces_is_accepted(database_url: str, simulator: Simulator) -> None:
    async with served(database_url, simulator) as port, connected(port) as client:
        await client.send(*(bytes([byte]) for byte in delivery()))

        assert await client.status() == 200


async def test_after_a_413_the_connection_ends_and_the_answer_is_read_first(
    database_url: str, simulator: Simulator
) -> None:
    async with served(database_url, simulator) as port, connected(port) as client:
        head = head_of(10**9, signed(b"x")["Stripe-Signature"])

        answer = await client.rest_while_sending(head, *[b"x" * 65536] * 20)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer


async def test_a_signature_that_cannot_be_one_is_refused_before_the_body_comes(
    database_url: str, simulator: Simulator
) -> None:
    async with served(database_url, simulator) as port, connected(port) as client:
        await client.send(head_of(1000, "t=1,v1=00"))

        assert (await client.rest()).startswith(b"HTTP/1.1 400 ")


async def test_a_question_about_the_server_itself_finds_nothing(database_url: str, simulator: Simulator) -> None:
    async with served(database_url, simulator) as port, connected(port) as client:
        await client.send(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")

        assert await client.status() == 404


@pytest.mark.parametrize("noise", [b"\x16\x03\x01\x02\x00\x01", b"no HTTP\r\n\r\n", b"GET / HTTP/1.1\r\n : x\r\n\r\n"])
async def test_what_is_not_http_is_answered_with_a_problem(
    database_url: str, simulator: Simulator, noise: bytes
) -> None:
    async with served(database_url, simulator) as port, connected(port) as client:
        await client.send(noise)

        answer = await client.rest()

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer
