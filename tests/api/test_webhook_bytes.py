"""Webhooks on a real socket: whatever bytes are sent, nothing breaks, and no answer is a server's error."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.resources import Resources
from tests.api.conftest import listening
from tests.api.deliveries import event, signed
from tests.service import fetch


@pytest.fixture
async def port(res: Resources) -> AsyncIterator[int]:
    async with listening(res) as port:
        yield port


async def talk(port: int, request: bytes, *, whole: bool = True) -> bytes:
    """Send these bytes and return everything that comes back, until the server hangs up; hang up first if not whole."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        if not whole:
            writer.write_eof()
        return await asyncio.wait_for(reader.read(), timeout=30)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def post(body: bytes, headers: list[tuple[bytes, bytes]], *, path: bytes = b"/webhooks/stripe") -> bytes:
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: x", b"Connection: close", b"Content-Length: %d" % len(body)]
    return b"\r\n".join([*lines, *(name + b": " + value for name, value in headers), b"", body])


def status_of(answer: bytes) -> int | None:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else None


names = st.one_of(
    st.sampled_from([b"Stripe-Signature", b"Content-Type", b"X-Request-Id", b"Content-Encoding", b"Expect", b"Cookie"]),
    st.text("abcXYZ-_0", min_size=1, max_size=20).map(str.encode),
)
signatures = st.lists(
    st.sampled_from([b"t=", b"v1=", b"v0=", b",", b"=", b"1790000000", b"00", b"\xe4", b" ", b"_", b"-1", b"nan"])
)
values = st.one_of(st.binary(max_size=60), signatures.map(b"".join))
bodies = st.one_of(
    st.binary(max_size=300),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
)


@settings(max_examples=200)
@given(body=bodies, headers=st.lists(st.tuples(names, values), max_size=6))
@example(body=b"{}", headers=[(b"Stripe-Signature", b"t=1790000000,v1=\xe4")])
@example(body=b"{}", headers=[(b"Stripe-Signature", b"t=" + b"9" * 5000 + b",v1=00")])
@example(body=b"{}", headers=[(b"X-%d" % number, b"y" * 50) for number in range(300)])
async def test_no_bytes_make_it_fail(port: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    status = status_of(await talk(port, post(body, headers)))

    assert status is not None
    assert 400 <= status < 500


fields = st.sampled_from(["id", "type", "object", "created", "livemode", "account", "context", "data"])
odd = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just("evt_1"), st.just("x" * 300),
    st.just("\x00"), st.just("\ud800"), st.lists(st.none(), max_size=1), st.just({"object": {"id": "\x00"}}),
    st.just({"object": 1}), st.just({"object": {"id": 10**30}}),
)  # fmt: skip


@settings(max_examples=200)
@given(changes=st.dictionaries(fields, odd, max_size=4), type=st.sampled_from(["reporting.report_type.updated", "a"]))
async def test_no_signed_event_makes_it_fail(port: int, changes: dict[str, object], type: str) -> None:
    body = json.dumps({**event(), "type": type, **changes}).encode()
    header = signed(body)["Stripe-Signature"].encode()

    status = status_of(await talk(port, post(body, [(b"Stripe-Signature", header)])))

    assert status in (200, 400)


async def test_a_sender_that_goes_away_in_the_middle_leaves_nothing(res: Resources, port: int) -> None:
    body = json.dumps(event()).encode()
    request = post(body, [(b"Stripe-Signature", signed(body)["Stripe-Signature"].encode())])

    await talk(port, request[:-10], whole=False)

    assert await fetch(res, "select 1 from events") == []
    assert status_of(await talk(port, request)) == 200


async def test_two_signature_headers_do_not_count_as_a_signature(port: int) -> None:
    body = json.dumps(event()).encode()
    header = (b"Stripe-Signature", signed(body)["Stripe-Signature"].encode())

    assert status_of(await talk(port, post(body, [header, header]))) == 400


async def test_a_body_without_an_end_is_refused_at_the_limit(res: Resources, port: int) -> None:
    head = b"POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"

    answer = await talk(port, head + piece * (res.settings.max_body_bytes // 65536 + 1))

    assert status_of(answer) == 413
