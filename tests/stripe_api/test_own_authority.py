"""A company's own certificate authority: every call trusts it, or says why not."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.errors import NotNow, SettingsError
from app.settings import Settings
from app.simulator import Simulator
from app.stripe_api.client import StripeClient
from app.stripe_api.webhook_endpoints import check_files, list_endpoints, read_clock
from tests.service import make_settings

CALLS: dict[str, Callable[[StripeClient, Settings], Awaitable[object]]] = {
    "the SDK's": lambda client, _: client.list_report_types("default"),
    "of an endpoint": lambda client, _: list_endpoints(client, "default"),
    "for a file": lambda client, _: check_files(client, "default"),
    "for the clock": lambda _, settings: read_clock(settings),
}


@pytest.fixture
async def encrypted(simulator: Simulator, tmp_path: Path) -> AsyncIterator[Settings]:
    """Settings for the simulator behind TLS, its certificate from an authority that nobody knows: `ca.pem`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_make_certificates(tmp_path))
    async with _behind_tls(simulator.base_url, context) as url:
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


@asynccontextmanager
async def _behind_tls(url: str, context: ssl.SSLContext) -> AsyncIterator[str]:
    host, port = url.removeprefix("http://").split(":")

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection(host, int(port))
        await asyncio.gather(_copy(reader, ours), _copy(theirs, writer), return_exceptions=True)

    server = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
    finally:
        writer.close()


def _make_certificates(folder: Path) -> Path:
    """An authority (`ca.pem`), and a certificate of it for localhost with its key."""
    authority, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    company, host = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("Company", "localhost"))
    ca = _certificate(company, company, authority.public_key(), is_authority=True).sign(authority, hashes.SHA256())
    cert = _certificate(host, company, own.public_key(), is_authority=False).sign(authority, hashes.SHA256())
    (folder / "ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    key = own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(key + cert.public_bytes(serialization.Encoding.PEM))
    return folder / "server.pem"


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, is_authority: bool
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    )
