"""Where messages may be sent: the guard against requests to addresses inside our own network.

A name is resolved once, all of its addresses must be allowed, and the connection goes to one that was checked: a
second answer from the name server changes nothing. The certificate is still checked against the name.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Sequence

import httpx

from app.errors import AddressRefused
from app.trust import trust

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.ip_network("64:ff9b:1::/48")
_SIX_TO_FOUR = ipaddress.ip_network("2002::/16")
# `is_global` of Python 3.11 lets these through.
_SPECIAL = (ipaddress.ip_network("192.0.0.0/24"), ipaddress.ip_network("fec0::/10"), _NAT64_LOCAL)


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet, even if it wraps another one (mapped, NAT64, 6to4)."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _wrapped(address)
        if inner is not None:
            return is_public(inner)
    special = any(address.version == network.version and address in network for network in _SPECIAL)
    return address.is_global and not (special or address.is_multicast or address.is_reserved or address.is_loopback)


def is_inside(address: Address, networks: Sequence[Network]) -> bool:
    """Whether one of the networks contains the address, even if it is an IPv4 address mapped into IPv6."""
    plain = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return any(one.version == network.version and one in network for one in (address, plain) if one is not None
               for network in networks)  # fmt: skip


def _wrapped(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _SIX_TO_FOUR:
        return address.sixtofour
    return None


async def resolve(host: str, port: int) -> list[Address]:
    """Every address of a host, without duplicates. Raises httpx.ConnectError when the name has none."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpx.ConnectError(f"{host}: the name cannot be resolved") from error
    return list(dict.fromkeys(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found))


class GuardedTransport(httpx.AsyncBaseTransport):
    """Resolves once, refuses addresses that are not allowed, and connects to the address that was checked. Plain
    `http://` is for networks that were opened on purpose. Raises AddressRefused before anything is sent."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = networks
        self._inner = httpx.AsyncHTTPTransport(verify=trust(), trust_env=False, retries=0)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host, port = request.url.host, request.url.port or (443 if request.url.scheme == "https" else 80)
        addresses = await resolve(host, port)
        for address in addresses:
            self._check(request.url.scheme, host, address)
        pinned = httpx.Request(
            request.method,
            request.url.copy_with(host=str(addresses[0])),
            headers=request.headers,  # the Host header keeps the given name
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": host},
        )
        return await self._inner.handle_async_request(pinned)

    def _check(self, scheme: str, host: str, address: Address) -> None:
        opened = is_inside(address, self._networks)
        if not opened and not is_public(address):
            raise AddressRefused(f"{host} is {address}, which is not a public address: see TALLYHOOK_TARGET_NETWORKS")
        if scheme != "https" and not opened:
            raise AddressRefused(f"{host} needs https:// (http:// is for TALLYHOOK_TARGET_NETWORKS)")

    async def aclose(self) -> None:
        await self._inner.aclose()


def make_client(networks: Sequence[Network], proxy: str | None, *, timeout: float) -> httpx.AsyncClient:
    """The client that all messages go through: no redirects, only the certificate authorities from the environment,
    `timeout` seconds a step.

    With a proxy, the proxy resolves and refuses (Stripe's Smokescreen does).
    """
    transport: httpx.AsyncBaseTransport
    if proxy is not None:
        transport = httpx.AsyncHTTPTransport(proxy=proxy, verify=trust(), trust_env=False, retries=0)
    else:
        transport = GuardedTransport(networks)
    return httpx.AsyncClient(
        transport=transport, verify=trust(), timeout=timeout, follow_redirects=False, trust_env=False
    )
