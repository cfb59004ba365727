"""Validates single settings. No message repeats a value, because it might be a secret in the wrong place."""

import base64
import json
import re
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

_TEN_YEARS = 315_360_000
# A shorter one occurs in half of all words: redacting it would ruin the log and protect nothing.
SHORTEST_PASSWORD = 4


def _credential(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[\x21-\x7e]+", value.get_secret_value()):
        raise ValueError("must be printable ASCII without spaces, and not empty: copy it again")
    return value


# What people mix up, by prefix: what it is, and where it belongs.
_WRONG_KEYS = {
    "whsec_": "is a signing secret (whsec_…): it belongs in STRIPE_WEBHOOK_SECRET, the API key (rk_… or sk_…) here",
    "pk_": "is a publishable key (pk_…), which cannot read reports: use a restricted or secret key (rk_… or sk_…)",
}
_OF_AN_ORGANIZATION = (
    "is the key of an organization (sk_org_…), which needs a `stripe_context` that names the account: "
    "use it in STRIPE_ACCOUNTS, or use the account's own key"
)
_WRONG_SECRETS = {"we_": "is the id of an endpoint (we_…): copy its signing secret (whsec_…) from Stripe's Dashboard"}
_WRONG_SECRETS |= dict.fromkeys(
    ("sk_", "rk_", "pk_"), "is an API key: the endpoint's signing secret (whsec_…) belongs here, see Stripe's Dashboard"
)


def _not_one_of(wrong: Mapping[str, str]) -> AfterValidator:
    def check(value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if text[0] in "'\"`" or text[-1] in "'\"`":
            raise ValueError("is in quotes: remove them")
        for beginning, problem in wrong.items():
            if text.startswith(beginning):
                raise ValueError(problem)
        return value

    return AfterValidator(check)


def of_an_organization(api_key: SecretStr) -> bool:
    """Whether this key belongs to an organization, and so to no single account."""
    return api_key.get_secret_value().startswith("sk_org_")


def of_one_account(api_key: SecretStr | None) -> SecretStr | None:
    """The key. Raises ValueError for one that does not say which account is meant."""
    if api_key is not None and of_an_organization(api_key):
        raise ValueError(_OF_AN_ORGANIZATION)
    return api_key


def _account_id(text: str) -> str:
    if not re.fullmatch(r"acct_[A-Za-z0-9]{1,250}", text):
        raise ValueError("must be the id of a connected account: acct_…")
    return text


def _context(text: str) -> str:
    if len(text) > 500 or not re.fullmatch(r"(acct_[A-Za-z0-9]+/)?acct_[A-Za-z0-9]+", text):
        raise ValueError("must be the account that an organization's key is used for: acct_…, or acct_…/acct_…")
    return text


def _long_enough(token: SecretStr) -> SecretStr:
    if len(token.get_secret_value()) < 32:
        raise ValueError("must have at least 32 characters: create one with `openssl rand -hex 32`")
    return token


def _encryption_key(key: SecretStr) -> SecretStr:
    try:
        fits = len(base64.b64decode(key.get_secret_value(), validate=True)) == 32
    except ValueError:
        fits = False
    if not fits:
        raise ValueError("must be 32 bytes as base64: create one with `openssl rand -base64 32`")
    return key


def _without_blanks(secrets: object) -> object:
    """A list, or comma-separated text; blank entries are dropped."""
    parts = secrets.split(",") if isinstance(secrets, str) else secrets
    if not isinstance(parts, list):
        return parts
    stripped = [part.strip() if isinstance(part, str) else part for part in parts]
    return [part for part in stripped if part != ""]


def _json_object(text: object) -> object:
    try:
        value = json.loads(text, object_pairs_hook=_without_doubles) if isinstance(text, str) else text
    except (json.JSONDecodeError, RecursionError):
        raise ValueError("must be JSON: check quotes, commas and braces") from None
    if not isinstance(value, dict):
        raise ValueError("must be a JSON object: {…}")
    return value


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("has the same key twice: remove one of them")
    return dict(pairs)


def _sha256(digits: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", digits):
        raise ValueError("must be the 64 hexadecimal digits of the token's SHA-256")
    return digits.lower()


def _slug(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", name):
        raise ValueError(
            "an account name must be 1–63 characters (a–z, 0–9, `_`, `-`) and begin with a letter or digit"
        )
    return name


def _base(url: str) -> str:
    """`http(s)://host[:port]` and nothing else: we add the path."""
    try:
        usable = urlsplit(url).port != 0 and re.fullmatch(r"https?://[^/?#@\s]+/?", url)
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("must be https://host or https://host:port, without path, query or credentials")
    return url.rstrip("/")


# Other tools' parameters in the same URL. Only these are named: anything else might be a misplaced secret.
_FOREIGN_PARAMETERS = (
    "pgbouncer", "connection_limit", "pool_timeout", "socket_timeout", "schema", "sslaccept", "pool_size",
    "max_overflow", "statement_cache_size", "prepare_threshold", "prepareThreshold",
)  # fmt: skip


def _database(url: SecretStr) -> SecretStr:
    if not re.match(r"postgres(ql)?://", url.get_secret_value()):
        raise ValueError("must begin with postgresql://")
    # Imported here to keep `--help` quick.
    import psycopg
    from psycopg.conninfo import make_conninfo
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url.get_secret_value())
        known = make_conninfo("", **dict.fromkeys(parsed.query, "known?"), password=parsed.password)
        if "\0" in known:
            raise ValueError
    except (ArgumentError, ValueError, psycopg.Error):
        if foreign := [name for name in _FOREIGN_PARAMETERS if f"{name}=" in url.get_secret_value()]:
            raise ValueError(f"has {', '.join(foreign)}, which PostgreSQL does not know: remove it") from None
        form = "postgresql://user:password@host:5432/database, with special characters of the password as %XX"
        raise ValueError(f"cannot be read: write it like {form}") from None
    return url


def is_this_machine(host: str) -> bool:
    """Whether what is sent to this host never leaves the machine."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def password_of(url: str) -> str | None:
    """The password in a database URL, unless it is easy to guess: equal to the user name, for example."""
    from sqlalchemy import make_url

    parsed = make_url(url)
    password = None if parsed.password is None else str(parsed.password)
    if password is None or len(password) < SHORTEST_PASSWORD:
        return None
    return None if password in (parsed.username, parsed.database, parsed.host) else password


def _file_store(url: str) -> str:
    """A bucket or an absolute folder, without credentials, which belong in the store's own variables.

    app/files/backends.py knows which kinds of store there are.
    """
    if not re.fullmatch(
        r"(?a:(?!file:|https?:)[a-z][a-z0-9+]*://[A-Za-z0-9][\w.-]*(/[\w./-]*)?|file:///[\w./-]+)", url
    ):
        raise ValueError("must be s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///folder")
    return url.rstrip("/")


def _schema_name(name: str) -> str:
    """A schema of our own; the one for personal columns has the same name and `_personal`."""
    taken = name in ("public", "report_rows", "information_schema") or name.startswith("pg_")
    if taken or not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
        raise ValueError("must be 1–40 characters (a–z, 0–9, `_`), and not a schema that PostgreSQL or Tallyhook uses")
    return name


def _network(text: object) -> IPv4Network | IPv6Network:
    try:
        return ip_network(str(text))
    except ValueError:
        raise ValueError("must be a network like 10.0.0.0/8, without host bits") from None


def _smtp(url: SecretStr) -> SecretStr:
    try:
        parts = urlsplit(url.get_secret_value())
        usable = parts.scheme in ("smtp", "smtps") and parts.hostname and parts.port != 0 and parts.path in ("", "/")
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("must be smtp://user:password@host:587, or smtps://… for TLS from the start")
    return url


def _http_url(url: SecretStr) -> SecretStr:
    if not re.fullmatch(r"https?://[^\s/?#]+([/?#]\S*)?", url.get_secret_value()):
        raise ValueError("must be an http(s):// URL")
    return url


def _mail_address(text: str) -> str:
    if not re.fullmatch(r"([^<>@\r\n]* <)?[^\s@<>,;\"]+@[^\s@<>,;\"]+>?", text):
        raise ValueError("must be an address: reports@example.com, or Reports <reports@example.com>")
    return text


def _public_url(url: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[\w./~-]*)?", url):
        raise ValueError("must be the address at which people reach the service: https://reports.example.com")
    return url.rstrip("/")


def _base_path(path: str) -> str:
    path = path.rstrip("/")
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", path):
        raise ValueError("must be a path like /tallyhook, without a trailing slash")
    return path


def _header_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9-]{1,100}", name):
        raise ValueError("must be the name of a header, like X-Forwarded-User")
    return name.lower()


Credential = Annotated[SecretStr, AfterValidator(_credential)]
ApiKey = Annotated[Credential, _not_one_of(_WRONG_KEYS)]
StripeAccountId = Annotated[str, AfterValidator(_account_id)]
StripeContext = Annotated[str, AfterValidator(_context)]
SigningSecret = Annotated[Credential, _not_one_of(_WRONG_SECRETS)]
SigningSecrets = Annotated[tuple[SigningSecret, ...], BeforeValidator(_without_blanks)]
Token = Annotated[Credential, AfterValidator(_long_enough)]
Base = Annotated[str, AfterValidator(_base)]
DatabaseURL = Annotated[SecretStr, AfterValidator(_database)]
FileStoreURL = Annotated[str, AfterValidator(_file_store)]
# The upper bounds only prevent overflows in dates and columns.
Seconds = Annotated[float, Field(ge=0.1, le=_TEN_YEARS)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Sha256 = Annotated[str, AfterValidator(_sha256), Field(repr=False)]
SchemaName = Annotated[str, AfterValidator(_schema_name)]
Slug = Annotated[str, AfterValidator(_slug)]
JSONObject = BeforeValidator(_json_object)
Tokens = Annotated[tuple[Token, ...], BeforeValidator(_without_blanks)]
EncryptionKeys = Annotated[
    tuple[Annotated[SecretStr, AfterValidator(_encryption_key)], ...], BeforeValidator(_without_blanks)
]
Networks = Annotated[
    tuple[Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)], ...], BeforeValidator(_without_blanks)
]
FolderURLs = Annotated[tuple[FileStoreURL, ...], BeforeValidator(_without_blanks)]
SMTPURL = Annotated[SecretStr, AfterValidator(_smtp)]
SecretURL = Annotated[SecretStr, AfterValidator(_http_url)]
MailAddress = Annotated[str, AfterValidator(_mail_address)]
PublicURL = Annotated[str, AfterValidator(_public_url)]
BasePath = Annotated[str, AfterValidator(_base_path)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
Words = Annotated[tuple[str, ...], BeforeValidator(_without_blanks)]
