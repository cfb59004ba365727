"""Messages go to public addresses, and to private ones only where a setting opens them."""

import ipaddress
from ipaddress import ip_address, ip_network
from pathlib import Path

import httpx
import pytest

from app.errors import AddressRefused
from app.targets import guard
from app.targets.answers import no_answer
from app.targets.guard import is_inside, is_public, make_client
from tests.stripe_api.authority import behind_tls
from tests.targets.receivers import web_receiver

LOOPBACK = [ip_network("127.0.0.0/8")]

REFUSED = [
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "255.255.255.255",
    "224.0.0.1", "239.1.2.3", "240.0.0.1", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.7", "203.0.113.9",
    "::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:c0a8:101::",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "54.187.174.169", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::"]


@pytest.mark.parametrize("address", REFUSED)
def test_no_message_goes_to_an_address_that_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed_also_where_they_are_wrapped(address: str) -> None:
    assert is_public(ip_address(address))


def test_a_network_that_was_opened_is_allowed_and_its_neighbour_is_not() -> None:
    opened = [ip_network("10.1.0.0/16")]

    assert is_inside(ip_address("10.1.2.3"), opened)
    assert is_inside(ip_address("::ffff:10.1.2.3"), opened)
    assert not is_inside(ip_address("10.2.0.1"), opened)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "[::ffff:7f00:1]", "[::1]", "localhost", "0"]
)
async def test_a_request_to_this_machine_is_refused_however_it_is_spelled(host: str) -> None:
    async with make_client([], None, timeout=5) as client:
        with pytest.raises((AddressRefused, httpx.HTTPError, httpx.InvalidURL)) as refused:
            await client.get(f"https://{host}:9/")

    assert not isinstance(refused.value, httpx.ReadError)


async def test_a_name_with_one_bad_address_is_refused_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(host: str, port: int) -> list[guard.Address]:
        return [ip_address("1.1.1.1"), ip_address("10.0.0.1")]

    monkeypatch.setattr(guard, "resolve", resolve)
    async with make_client([], None, timeout=5) as client:
        with pytest.raises(AddressRefused, match=r"10\.0\.0\.1"):
            await client.get("https://rebinding.example/")


async def test_the_address_that_was_checked_is_the_one_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async with web_receiver() as receiver:
        port = httpx.URL(receiver.url).port

        async def resolve(host: str, _: int) -> list[guard.Address]:
            asked.append(host)
            return [ipaddress.IPv4Address("127.0.0.1")]

        monkeypatch.setattr(guard, "resolve", resolve)
        async with make_client(LOOPBACK, None, timeout=5) as client:
            answer = await client.post(f"http://receiver.invalid:{port}/hook", content=b"{}")

    assert answer.status_code == 200
    assert asked == ["receiver.invalid"]
    assert receiver.received[0].headers["host"] == f"receiver.invalid:{port}"


async def test_a_receivers_certificate_may_come_from_a_named_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolve(host: str, port: int) -> list[guard.Address]:
        return [ip_address("127.0.0.1")]

    monkeypatch.setattr(guard, "resolve", resolve)
    async with web_receiver() as receiver, behind_tls(receiver.url.removesuffix("/hook"), tmp_path) as url:
        async with make_client(LOOPBACK, None, timeout=5) as client:
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED") as refused:
                await client.post(f"{url}/hook", content=b"{}")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        async with make_client(LOOPBACK, None, timeout=5) as client:
            answer = await client.post(f"{url}/hook", content=b"{}")

    assert (answer.status_code, len(receiver.received)) == (200, 1)
    shown = no_answer(refused.value)
    assert (shown.error, "SSL_CERT_FILE" in str(shown.text)) == ("tls_failed", True)


async def test_a_redirect_is_not_followed() -> None:
    async with web_receiver() as receiver, make_client(LOOPBACK, None, timeout=5) as client:
        receiver.answers = [(302, {"location": receiver.url})]

        answer = await client.post(receiver.url, content=b"{}")

    assert answer.status_code == 302
    assert len(receiver.received) == 1


async def test_with_a_proxy_everything_goes_through_it_and_it_decides() -> None:
    async with web_receiver() as proxy:
        here = proxy.url.removesuffix("/hook").replace("://", "://tallyhook:secret@")
        proxy.answers = [200, 403]
        async with make_client([], here, timeout=5) as client:
            answers = [await client.post("http://receiver.internal/hook", content=b"{}") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 403]
    assert [one.headers["host"] for one in proxy.received] == ["receiver.internal"] * 2
    assert proxy.received[0].headers["proxy-authorization"].startswith("Basic ")


async def test_plain_http_is_for_networks_that_were_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(host: str, port: int) -> list[guard.Address]:
        return [ip_address("1.1.1.1")]

    monkeypatch.setattr(guard, "resolve", resolve)
    async with make_client([], None, timeout=5) as client:
        with pytest.raises(AddressRefused, match="https"):
            await client.post("http://receiver.example/", content=b"{}")
