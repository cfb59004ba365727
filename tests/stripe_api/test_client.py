"""The client for Stripe: a call returns a value of ours or one of three kinds of error, told apart in one place."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import KeyRefused, NotNow, Refused
from app.settings import Settings
from app.simulator import Simulator
from app.simulator.webhooks.signatures import signature_header
from app.stripe_api.client import StripeClient
from app.stripe_api.objects import StripeFile
from app.stripe_api.signatures import verify
from tests.runs.stories import CREATE
from tests.runs.strangers import Stranger, stranger
from tests.service import REPORT_TYPE, at, make_settings, unpublished

FILE = StripeFile("file_1", None, 5, None, None)
PARAMETERS = {"interval_start": int(at("2026-02-01").timestamp()), "interval_end": int(at("2026-02-02").timestamp())}


async def create(client: StripeClient, key: str = "key-1") -> Any:
    return await client.create_run("default", REPORT_TYPE, parameters=PARAMETERS, idempotency_key=key)


async def read_file(client: StripeClient) -> bytes:
    async with client.open_file("default", FILE) as opened:
        return b"".join([piece async for piece in opened.pieces])


async def list_runs(client: StripeClient) -> list[Any]:
    since = datetime(2026, 1, 1, tzinfo=UTC)
    return [run async for run in client.list_runs("default", created_since=since)]


CALLS: dict[str, Callable[[StripeClient], Awaitable[Any]]] = {
    "create": create,
    "read": lambda client: client.read_run("default", "frr_1"),
    "list types": lambda client: client.list_report_types("default"),
    "list runs": list_runs,
}


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[StripeClient]:
    client = StripeClient(make_settings("postgresql://x@y/z", simulator))
    yield client
    await client.close()


async def test_an_answer_that_comes_byte_by_byte_ends_in_time(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung_up = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        with suppress(ConnectionError), closing(writer):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while not reader.at_eof():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)
        hung_up.set()

    monkeypatch.setattr("app.stripe_api.http.CALL_SECONDS", 0.2)
    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        client = StripeClient(make_settings("postgresql://x@y/z", simulator, STRIPE_API_BASE=base))
        with pytest.raises(NotNow, match="did not end"):
            await client.read_run("default", "frr_1")
        await client.close()
        await hung_up.wait()


@pytest.fixture
async def odd(simulator: Simulator) -> AsyncIterator[Stranger]:
    """What answers in Stripe's place."""
    async with stranger() as odd:
        yield odd


@pytest.fixture
async def odd_client(simulator: Simulator, odd: Stranger) -> AsyncIterator[StripeClient]:
    settings: Settings = make_settings(
        "postgresql://x@y/z", simulator, STRIPE_API_BASE=odd.url, STRIPE_FILES_BASE=odd.url
    )
    client = StripeClient(settings)
    yield client
    await client.close()


def answered(status: int, body: bytes, **headers: str) -> bytes:
    """An HTTP answer."""
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


UNREADABLE = [
    b"",
    b"<html>Bad gateway</html>",
    b"{",
    b"null",
    b"17",
    b'"text"',
    b"[]",
    b'[{"id": "frr_1"}]',
    b"{}",
    b'{"object": "list"}',
    b'{"object": "list", "data": null}',
    b'{"object": "list", "data": [17], "has_more": false}',
    b'{"object": "list", "data": [{"object": "reporting.report_run"}], "has_more": false}',
    b'{"object": "reporting.report_run", "id": 17}',
    b'{"object": "reporting.report_run", "id": "frr_1", "report_type": "x", "created": "x", "status": "pending"}',
    b"\xff\xfe\x00",
]


@pytest.mark.parametrize("call", CALLS)
async def test_an_answer_that_cannot_be_read_says_nothing_about_the_request(
    odd_client: StripeClient, odd: Stranger, call: str
) -> None:
    for body in UNREADABLE:
        odd.answer = answered(200, body)

        with pytest.raises(NotNow):
            await CALLS[call](odd_client)


STATUSES = [
    (301, NotNow), (400, Refused), (401, KeyRefused), (402, Refused), (403, KeyRefused), (404, Refused), (408, NotNow),
    (409, NotNow), (429, NotNow), (500, NotNow), (502, NotNow), (503, NotNow), (504, NotNow), (599, NotNow),
]  # fmt: skip


BODIES = [b'{"error": {"message": "no", "type": "api_error"}}', b"<html>", b'"x"', b'{"error": 1}', b"", b"\xff"]


@pytest.mark.parametrize("call", ["create", "list types"])
async def test_a_status_means_the_same_whatever_the_body_looks_like(
    odd_client: StripeClient, odd: Stranger, call: str
) -> None:
    for status, kind in STATUSES:
        for body in BODIES:
            odd.answer = answered(status, body)

            with pytest.raises(kind):
                await CALLS[call](odd_client)


FILE_STATUSES = [
    (204, Refused), (302, Refused), (400, Refused), (401, KeyRefused), (403, KeyRefused), (404, Refused), (409, NotNow),
    (410, Refused), (429, NotNow), (500, NotNow), (503, NotNow),
]  # fmt: skip


async def test_the_files_hosts_statuses_are_told_apart_too(odd_client: StripeClient, odd: Stranger) -> None:
    for status, kind in FILE_STATUSES:
        odd.answer = answered(status, b"" if status == 204 else b"no", location="http://127.0.0.1:9/")

        with pytest.raises(kind):
            await read_file(odd_client)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1",
        b"not http at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 5\r\n\r\nplain",
        b"HTTP/1.1 206 Partial\r\ncontent-length: 5\r\n\r\nplain",
    ],
)
async def test_half_an_answer_of_the_files_host_is_tried_again(
    odd_client: StripeClient, odd: Stranger, answer: bytes
) -> None:
    odd.answer = answer

    with pytest.raises(NotNow):
        await read_file(odd_client)


@pytest.mark.parametrize(
    ("value", "after"),
    [("7", 7.0), ("0", 0.0), ("soon", None), ("-1", None), ("1.5", None), ("86400", 3600.0), ("9" * 21, None)],
)
async def test_a_429_says_when_to_come_back_if_it_says_it_in_seconds(
    odd_client: StripeClient, odd: Stranger, value: str, after: float | None
) -> None:
    odd.answer = answered(429, b'{"error": {"message": "slow down"}}', retry_after=value)

    with pytest.raises(NotNow) as error:
        await create(odd_client)

    assert error.value.after == after


async def test_a_refusal_names_the_parameter_the_request_and_no_key(client: StripeClient, simulator: Simulator) -> None:
    unpublished(simulator, until="2026-02-01T12:00")

    with pytest.raises(Refused) as error:
        await create(client)

    assert error.value.param == "parameters.interval_end"
    assert "only available through" in str(error.value)
    assert str(error.value.request_id).startswith("req_")


async def test_no_message_shows_the_key(simulator: Simulator, odd_client: StripeClient, odd: Stranger) -> None:
    key = next(iter(simulator.world.keys))
    body = json.dumps({"error": {"message": f"Invalid API Key provided: {key}"}}).encode()
    odd.answer = answered(401, body)

    with pytest.raises(KeyRefused) as error:
        await create(odd_client)

    assert key not in str(error.value)


async def test_the_key_and_the_idempotency_key_are_sent_with_a_create(odd_client: StripeClient, odd: Stranger) -> None:
    with pytest.raises(NotNow):
        await create(odd_client, "the-stored-key")

    (request,) = odd.requests
    assert "idempotency-key: the-stored-key" in request.lower()
    assert request.startswith("POST /v1/reporting/report_runs ")


async def test_nothing_is_tried_again_behind_our_back(client: StripeClient, simulator: Simulator) -> None:
    simulator.inject("status", status=500, headers={"Stripe-Should-Retry": "true"}, times=5, match=CREATE)

    with pytest.raises(NotNow):
        await create(client)

    assert len(simulator.creates) == 1


async def test_all_pages_of_a_list_are_read_newest_first(client: StripeClient, simulator: Simulator) -> None:
    made = [simulator.create_run(REPORT_TYPE, PARAMETERS).id for _ in range(230)]

    assert [run.id for run in await list_runs(client)] == made[::-1]


@given(header=st.text(max_size=80), body=st.text(max_size=80), secret=st.text(max_size=20))
def test_no_header_body_or_secret_makes_the_verification_raise(header: str, body: str, secret: str) -> None:
    for given_header in (header, f"t=1,v1={header}", f"v1={header},t=1", f"t=1,{header}"):
        assert verify(body.encode(errors="replace").decode(), given_header, (secret,), now=1.0) is None


@pytest.mark.parametrize("secrets", [(), ("",), (" ",)])
def test_without_a_secret_nothing_is_believed(secrets: tuple[str, ...]) -> None:
    assert not verify("{}", signature_header(b"{}", secrets or [""], at=1), secrets, now=1.0)
