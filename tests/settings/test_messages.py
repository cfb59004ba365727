"""What people get wrong in settings, and every word that they read at start: what to do, and no value repeated."""

import pytest

from tests.settings.given import DIGEST, problems_of

STORE = "must be s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///folder"
PUBLIC = "must be the address at which people reach the service: https://reports.example.com"
BASE = "must be https://host or https://host:port, without path, query or credentials"
JSON = "must be JSON: check quotes, commas and braces"

WRONG = [
    ("DATABASE_URL", "mysql://u@h/d", "must begin with postgresql://"),
    (
        "DATABASE_URL", "postgresql://host:port/name",
        "cannot be read: write it like postgresql://user:password@host:5432/database, with special characters of the"
        " password as %XX",
    ),
    (
        "STRIPE_API_KEY", "whsec_1",
        "is a signing secret (whsec_…): it belongs in STRIPE_WEBHOOK_SECRET, the API key (rk_… or sk_…) here",
    ),
    (
        "STRIPE_API_KEY", "pk_live_1",
        "is a publishable key (pk_…), which cannot read reports: use a restricted or secret key (rk_… or sk_…)",
    ),
    (
        "STRIPE_API_KEY", "sk_org_1",
        "is the key of an organization (sk_org_…), which needs a `stripe_context` that names the account: use it"
        " in STRIPE_ACCOUNTS, or use the account's own key",
    ),
    ("STRIPE_API_KEY", '"sk_live_1"', "is in quotes: remove them"),
    ("STRIPE_API_KEY", "sk_live_1 sk_2", "must be printable ASCII without spaces, and not empty: copy it again"),
    (
        "STRIPE_WEBHOOK_SECRET", "sk_live_1",
        "is an API key: the endpoint's signing secret (whsec_…) belongs here, see Stripe's Dashboard",
    ),
    (
        "STRIPE_WEBHOOK_SECRET", "we_1",
        "is the id of an endpoint (we_…): copy its signing secret (whsec_…) from Stripe's Dashboard",
    ),
    ("STRIPE_ACCOUNTS", "eu", JSON),
    ("STRIPE_ACCOUNTS", "[]", "must be a JSON object: {…}"),
    ("STRIPE_ACCOUNTS", '{"eu": "sk_test_1"}', "must be a JSON object: {…}"),
    (
        "STRIPE_ACCOUNTS", '{"EU": {"api_key": "sk_test_1"}}',
        "an account name must be 1–63 characters (a–z, 0–9, `_`, `-`) and begin with a letter or digit",
    ),
    ("STRIPE_ACCOUNTS", '{"eu": {"api_key": "sk_test_1", "key": 1}}', "has an unknown key: check its spelling"),
    ("STRIPE_API_BASE", "https://api.stripe.com/v1", BASE),
    ("STRIPE_API_BASE", "api.stripe.com", BASE),
    (
        "TALLYHOOK_ADMIN_TOKEN", "secret",
        "must have at least 32 characters: create one with `openssl rand -hex 32`",
    ),
    ("TALLYHOOK_TOKENS", "books:secret", JSON),
    ("TALLYHOOK_RECONCILE_SECONDS", "30m", "must be a number, without a unit"),
    ("TALLYHOOK_RECONCILE_SECONDS", "0", "must be 0.1 or more"),
    ("TALLYHOOK_MAX_RUN_ATTEMPTS", "2.5", "must be a whole number, in digits"),
    ("TALLYHOOK_MAX_BODY_BYTES", "1MB", "must be a whole number, in digits"),
    ("TALLYHOOK_EVENT_DAYS", "7", "must be 31 or more"),
    ("TALLYHOOK_RETRY_MAX_SECONDS", "1", "must be at least TALLYHOOK_RETRY_BASE_SECONDS"),
    ("TALLYHOOK_FILE_STORE", "https://bucket.s3.amazonaws.com", STORE),
    ("TALLYHOOK_TABLES", "true", "must be 'on' or 'off'"),
    (
        "TALLYHOOK_REPORTS_SCHEMA", "public",
        "must be 1–40 characters (a–z, 0–9, `_`), and not a schema that PostgreSQL or Tallyhook uses",
    ),
    ("TALLYHOOK_SIGNING_KEY", "short", "must have at least 32 characters: create one with `openssl rand -hex 32`"),
    ("TALLYHOOK_PUBLIC_URL", "reports.example.com", PUBLIC),
    (
        "TALLYHOOK_SMTP_URL", "mail.example.com:587",
        "must be smtp://user:password@host:587, or smtps://… for TLS from the start",
    ),
    ("TALLYHOOK_MAIL_FROM", "Reports", "must be an address: reports@example.com, or Reports <reports@example.com>"),
    ("TALLYHOOK_TARGET_NETWORKS", "10.0.0.1/8", "must be a network like 10.0.0.0/8, without host bits"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "message"), WRONG, ids=[f"{one[0]}={one[1]}" for one in WRONG])
def test_a_wrong_setting_says_what_to_do(name: str, value: str, message: str) -> None:
    assert problems_of(**{name: value}) == [f"{name}: {message}"]


def test_a_token_is_given_as_its_hash_and_with_a_role() -> None:
    assert problems_of(TALLYHOOK_TOKENS='{"books": {"token": "x"}}') == [
        "TALLYHOOK_TOKENS sha256: is missing",
        "TALLYHOOK_TOKENS role: is missing",
        "TALLYHOOK_TOKENS: has an unknown key: check its spelling",
    ]
    assert problems_of(TALLYHOOK_TOKENS='{"books": {"sha256": "abc", "role": "read"}}') == [
        "TALLYHOOK_TOKENS sha256: must be the 64 hexadecimal digits of the token's SHA-256"
    ]
    assert problems_of(TALLYHOOK_TOKENS=f'{{"books": {{"sha256": "{DIGEST}", "role": "write"}}}}') == [
        "TALLYHOOK_TOKENS role: must be 'admin' or 'read'"
    ]
