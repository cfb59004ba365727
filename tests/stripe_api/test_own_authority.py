"""A company's own certificate authority: every call trusts it, or says why not."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from app.errors import NotNow, SettingsError
from app.settings import Settings
from app.simulator import Simulator
from app.stripe_api.client import StripeClient
from app.stripe_api.webhook_endpoints import check_files, list_endpoints, read_clock
from tests.service import make_settings
from tests.stripe_api.authority import behind_tls

CALLS: dict[str, Callable[[StripeClient, Settings], Awaitable[object]]] = {
    "the SDK's": lambda client, _: client.list_report_types("default"),
    "of an endpoint": lambda client, _: list_endpoints(client, "default"),
    "for a file": lambda client, _: check_files(client, "default"),
    "for the clock": lambda _, settings: read_clock(settings),
}


@pytest.fixture
async def encrypted(simulator: Simulator, tmp_path: Path) -> AsyncIterator[Settings]:
    """Settings for the simulator behind TLS, its certificate from an authority that nobody knows: `ca.pem`."""
    async with behind_tls(simulator.base_url, tmp_path) as url:
        yield make_settings("", simulator, STRIPE_API_BASE=url, STRIPE_FILES_BASE=url)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_every_call_trusts_the_named_authorities(
    encrypted: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., Awaitable[object]]
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    client = StripeClient(encrypted)

    await call(client, encrypted)

    await client.close()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_every_call_says_what_tls_said_and_what_to_do(
    encrypted: Settings, monkeypatch: pytest.MonkeyPatch, call: Callable[..., Awaitable[object]]
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    client = StripeClient(encrypted)

    with pytest.raises(NotNow, match=r"CERTIFICATE_VERIFY_FAILED.*unable to get local issuer.*SSL_CERT_FILE"):
        await call(client, encrypted)

    await client.close()


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_file_without_certificates_is_an_error_at_start(
    encrypted: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    named = tmp_path / "named.pem"
    if content is not None:
        named.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(named))

    with pytest.raises(SettingsError, match="SSL_CERT_FILE"):
        StripeClient(encrypted)
