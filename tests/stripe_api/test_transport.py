"""Our transport below the client for Stripe gives the same answers and errors as httpx's own."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.stripe_api.transport import AiohttpTransport, open_http
from tests.runs.strangers import stranger
from tests.stripe_api.authority import behind_tls

PATIENT = httpx.Timeout(30.0)
HASTY = httpx.Timeout(30.0, read=0.5)  # if the other side says nothing, which must show
HEAD = b"HTTP/1.1 200 OK\r\n"
LONG = b"x" * 700_000

# Each is sent as it is, and then the connection ends.
ANSWERS: dict[str, bytes] = {
    "plain": HEAD + b"content-length: 2\r\nX-Twice: a\r\nx-twice: b\r\nRequest-Id: req_1\r\n\r\nok",
    "without a length": HEAD + b"\r\nas long as it lasts",
    "chunked": HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "without a body": b"HTTP/1.1 204 No Content\r\n\r\n",
    "a word about it first": b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"content-length: 2\r\n\r\nok",
    "compressed": HEAD + b"content-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc",
    "a redirect": b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n",
    "a cookie": HEAD + b"set-cookie: a=b\r\ncontent-length: 0\r\n\r\n",
    "a long head": HEAD + b"x-long: " + b"y" * 60_000 + b"\r\ncontent-length: 0\r\n\r\n",
    "an error of the server": b"HTTP/1.1 500 Oh\r\ncontent-length: 4\r\n\r\nohno",
    "cut in the body": HEAD + b"content-length: 1000000\r\n\r\n" + LONG,
    "cut in a chunk": HEAD + b"transfer-encoding: chunked\r\n\r\nfffff\r\n" + LONG,
    "cut in the head": HEAD + b"content-le",
    "nothing": b"",
    "no HTTP": b"220 mail.example ESMTP\r\n\r\n",
    "a wrong length": HEAD + b"content-length: many\r\n\r\nok",
}


async def outcome(client: httpx.AsyncClient, url: str) -> tuple[Any, ...]:
    """Status, headers, bytes as they came, and the kind of error of one call."""
    got = b""
    status, headers = 0, []
    try:
        async with client.stream("POST", url, content=b"a=b", headers={"Authorization": "Bearer key"}) as answer:
            status, headers = answer.status_code, answer.headers.raw
            async for piece in answer.aiter_raw():
                got += piece
    except httpx.TransportError as error:
        return status, headers, got, type(error)
    return status, headers, got, None


@asynccontextmanager
async def both(
    authorities: Path | None = None, *, timeout: httpx.Timeout = PATIENT
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """Ours, and httpx with its own transport."""
    context = ssl.create_default_context(cafile=authorities)
    async with (
        httpx.AsyncClient(timeout=timeout, transport=AiohttpTransport(context)) as ours,
        httpx.AsyncClient(timeout=timeout, verify=context, trust_env=False) as theirs,
    ):
        yield ours, theirs


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
async def test_every_answer_is_the_same_as_from_httpx_itself(answer: bytes) -> None:
    async with stranger() as host, both() as (ours, theirs):
        host.answer = answer

        mine, its = (
            await outcome(ours, f"{host.url}/v1/a%2Fb?c=d%20e"),
            await outcome(theirs, f"{host.url}/v1/a%2Fb?c=d%20e"),
        )

        sent, expected = host.requests
    assert mine == its
    assert sorted(sent.lower().split("\r\n")) == sorted(expected.lower().split("\r\n")), "as httpx asks it"


OVER_TLS = ["plain", "chunked", "compressed", "a redirect", "cut in the body", "cut in a chunk", "cut in the head"]


@pytest.mark.parametrize("name", OVER_TLS)
async def test_over_tls_too_with_a_private_authority(tmp_path: Path, name: str) -> None:
    async with stranger() as host, behind_tls(host.url, tmp_path) as url, both(tmp_path / "ca.pem") as (ours, theirs):
        host.answer = ANSWERS[name]

        mine, its = await outcome(ours, f"{url}/v1/a"), await outcome(theirs, f"{url}/v1/a")

        sent, expected = host.requests
    assert mine == its
    assert sorted(sent.lower().split("\r\n")) == sorted(expected.lower().split("\r\n"))


@pytest.mark.parametrize("url_of", [lambda url: url.replace("localhost", "127.0.0.1"), lambda url: url])
async def test_a_certificate_for_another_name_or_of_an_unknown_authority_is_refused_in_the_same_way(
    tmp_path: Path, url_of: Callable[[str], str]
) -> None:
    async with stranger() as host, behind_tls(host.url, tmp_path) as url:
        knows_it = tmp_path / "ca.pem" if url_of(url) != url else None
        async with both(knows_it) as (ours, theirs):
            mine, its = await outcome(ours, url_of(url)), await outcome(theirs, url_of(url))

    assert mine == its
    assert mine[3] is httpx.ConnectError
    assert host.requests == []


async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"content-length: 10\r\n\r\n12345")
    await reader.read()
    writer.close()


async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.mark.parametrize("serve", [never, mute])
async def test_silence_is_given_up_in_the_same_way(serve: Serve) -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, both(timeout=HASTY) as (ours, theirs):
        mine, its = await outcome(ours, url), await outcome(theirs, url)

    assert mine == its
    assert mine[3] is httpx.ReadTimeout


@pytest.mark.parametrize("serve", [never, mute])
async def test_silence_behind_tls_too(tmp_path: Path, serve: Serve) -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    behind = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with (
        server,
        behind_tls(behind, tmp_path) as url,
        both(tmp_path / "ca.pem", timeout=HASTY) as (ours, theirs),
    ):
        mine, its = await outcome(ours, url), await outcome(theirs, url)

    assert mine == its
    assert mine[3] is httpx.ReadTimeout


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "http://name.invalid/", "https://127.0.0.1:9/"])
async def test_a_refused_connection_is_reported_in_the_same_way(url: str) -> None:
    async with both() as (ours, theirs):
        mine, its = await outcome(ours, url), await outcome(theirs, url)

    assert mine == its
    assert mine[3] is httpx.ConnectError


async def test_a_cookie_goes_back_to_its_sender_as_with_httpx() -> None:
    async with stranger() as host, both() as (ours, theirs):
        host.answer = ANSWERS["a cookie"]
        for client in (ours, theirs):
            await client.get(host.url)
            await client.get(host.url)

    assert ["cookie: a=b" in request.lower() for request in host.requests] == [False, True, False, True]


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
async def test_a_proxy_that_the_environment_names_gets_the_calls_but_those_that_it_excepts(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    async with stranger() as proxy, stranger() as host:
        monkeypatch.setenv(variable, proxy.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        async with open_http(PATIENT, ssl.create_default_context()) as client:
            await client.get("http://api.test/v1/account")
            await client.get(f"{host.url}/v1/account")

    assert [request.split("\r\n")[0] for request in proxy.requests] == ["GET http://api.test/v1/account HTTP/1.1"]
    assert len(host.requests) == 1


async def test_through_a_proxy_tls_goes_to_the_host_itself_and_the_key_never_to_the_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    told: list[bytes] = []

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told.append(await reader.readuntil(b"\r\n\r\n"))
        host, port = told[-1].split()[1].decode().split(":")
        behind, to_it = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(_relay(reader, to_it), _relay(behind, writer))

    proxy = await asyncio.start_server(connect, "127.0.0.1", 0)
    async with proxy, stranger() as host, behind_tls(host.url, tmp_path) as url:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
        context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        async with open_http(PATIENT, context) as client:
            answer = await client.get(f"{url}/v1/account", headers={"Authorization": "Bearer key"})

    assert answer.status_code == 200
    assert [request.split(b"\r\n")[0] for request in told] == [f"CONNECT {url[8:]} HTTP/1.1".encode()]
    assert b"Bearer key" not in told[0]
    assert "authorization: bearer key" in host.requests[0].lower()


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(65536):
            writer.write(piece)
    except ConnectionError:
        pass  # an end like any other
    finally:
        writer.close()
