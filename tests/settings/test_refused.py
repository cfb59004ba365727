"""What is refused, and that no message repeats a value."""

import hashlib
import json

import pytest

from app.errors import SettingsError
from app.settings import load_settings
from tests.settings.given import CANARY, DIGEST, TOKEN, problems_of, settings_of

MALFORMED = [
    ("DATABASE_URL", "mysql://{}/x"),
    ("TALLYHOOK_DIRECT_DATABASE_URL", "{}"),
    ("DATABASE_URL", "postgresql://user:{}@host:port/name"),
    ("DATABASE_URL", "postgresql://user:{}@[::1/name"),
    ("DATABASE_URL", "postgresql://host/name?{}=1"),
    ("TALLYHOOK_DIRECT_DATABASE_URL", "postgresql://user:{}%00@host/name"),
    ("STRIPE_API_KEY", "{} {}"),
    ("STRIPE_API_KEY", "{}é"),
    ("STRIPE_WEBHOOK_SECRET", "ok,{} {}"),
    ("STRIPE_ACCOUNTS", "{}"),
    ("STRIPE_ACCOUNTS", '"{}"'),
    ("STRIPE_ACCOUNTS", '{{"eu": "{}"}}'),
    ("STRIPE_ACCOUNTS", '{{"eu": {{"api_key": ["{}"]}}}}'),
    ("STRIPE_ACCOUNTS", '{{"eu": {{"api_key": ""}}}}'),
    ("STRIPE_ACCOUNTS", '{{"eu": {{"api_key": "k", "{}": 1}}}}'),
    ("STRIPE_ACCOUNTS", '{{"eu": {{"api_key": "k", "webhook_secret": "{}"}}}}'),
    ("STRIPE_ACCOUNTS", '{{"eu": {{"webhook_secrets": {{"{}": 1}}}}}}'),
    ("STRIPE_ACCOUNTS", '{{"eu": {{"webhook_secrets": ["{} {}", 3]}}}}'),
    ("STRIPE_ACCOUNTS", '{{"{}": {{"api_key": "k"}}}}'),
    ("STRIPE_ACCOUNTS", '{{"eu": {{"api_key": "{}"}}, "eu": {{"api_key": "k"}}}}'),
    ("STRIPE_ACCOUNTS", "[" * 100_000),
    ("STRIPE_API_BASE", "ftp://{}"),
    ("STRIPE_API_BASE", "https://{}/v1"),
    ("STRIPE_API_BASE", "https://{}?q"),
    ("STRIPE_API_BASE", "https://u:{}@host"),
    ("STRIPE_API_BASE", "https://{}:99999"),
    ("STRIPE_FILES_BASE", "https://{}:x"),
    ("STRIPE_FILES_BASE", "https://[{}"),
    ("STRIPE_FILES_BASE", "https://"),
    ("TALLYHOOK_ADMIN_TOKEN", "{}"),
    ("TALLYHOOK_READ_TOKEN", "{} {} {} {}"),
    ("TALLYHOOK_TOKENS", "{{"),
    ("TALLYHOOK_TOKENS", '["{}"]'),
    ("TALLYHOOK_TOKENS", '{{"{}": {{"sha256": "{}", "role": "read"}}}}'),
    ("TALLYHOOK_TOKENS", '{{"a": {{"sha256": "' + DIGEST + '", "role": "{}"}}}}'),
    ("TALLYHOOK_TOKENS", '{{"a": {{"sha256": "' + DIGEST + '"}}}}'),
    ("TALLYHOOK_TOKENS", '{{"a": {{"sha256": "' + DIGEST + '\\n", "role": "read"}}}}'),
    ("TALLYHOOK_RECONCILE_SECONDS", "{}"),
    ("TALLYHOOK_RECONCILE_SECONDS", "0"),
    ("TALLYHOOK_RECONCILE_SECONDS", "0.09"),
    ("TALLYHOOK_PENDING_POLL_SECONDS", "-1"),
    ("TALLYHOOK_RUN_TIMEOUT_SECONDS", "nan"),
    ("TALLYHOOK_STALLED_AFTER_SECONDS", "inf"),
    ("TALLYHOOK_STALLED_AFTER_SECONDS", "1e300"),
    ("TALLYHOOK_RETRY_MAX_SECONDS", "1"),
    ("TALLYHOOK_MAX_RUN_ATTEMPTS", "0"),
    ("TALLYHOOK_MAX_RUN_ATTEMPTS", "2.5"),
    ("TALLYHOOK_MAX_PENDING_RUNS", "many"),
    ("TALLYHOOK_REQUESTS_PER_SECOND", "-0.1"),
    ("TALLYHOOK_MAX_BODY_BYTES", "1MB"),
    ("TALLYHOOK_EVENT_DAYS", "30"),
]


@pytest.mark.parametrize(("name", "value"), MALFORMED)
def test_a_malformed_value_is_named_and_never_repeated(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({name: value.replace("{}", CANARY).replace("{{", "{").replace("}}", "}")}, None)

    lines = str(caught.value).splitlines()
    assert all(line.startswith(name) and ": " in line for line in lines)
    assert CANARY.lower() not in f"{caught.value!r} {caught.value}".lower()
    # Neither does a traceback: the error stands alone.
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


@pytest.mark.parametrize(
    ("accounts", "problem"),
    [
        ('{"eu": {}}', "every account needs an api_key, webhook_secrets or both"),
        ('{"eu": {"webhook_secrets": [" "]}}', "every account needs an api_key, webhook_secrets or both"),
        ('{"eu": {"api_key": "k", "key": 1}}', "has an unknown key: check its spelling"),
        ('{"eu": 1, "eu": 2}', "has the same key twice: remove one of them"),
        ("[]", "must be a JSON object: {…}"),
        ("{'eu': 1}", "must be JSON: check quotes, commas and braces"),
    ],
)
def test_errors_in_accounts_are_described(accounts: str, problem: str) -> None:
    assert problems_of(STRIPE_ACCOUNTS=accounts) == [f"STRIPE_ACCOUNTS: {problem}"]


def test_all_problems_are_reported_at_once() -> None:
    problems = problems_of(TALLYHOOK_EVENT_DAYS="3", DATABASE_URL="x", STRIPE_ACCOUNTS="{", STRIPE_API_KEY_FILE="/-")

    assert sorted(line.split(":")[0] for line in problems) == [
        "DATABASE_URL",
        "STRIPE_ACCOUNTS",
        "STRIPE_API_KEY_FILE",
        "TALLYHOOK_EVENT_DAYS",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TALLYHOOK_RECONCILE_SECONDS", "0.1"),
        ("TALLYHOOK_RETRY_BASE_SECONDS", "0.25"),
        ("TALLYHOOK_REQUESTS_PER_SECOND", "0"),
        ("TALLYHOOK_EVENT_DAYS", "31"),
        ("DATABASE_URL", "postgres://u:p@h/d"),
        ("STRIPE_API_BASE", "https://host:8443/"),
    ],
)
def test_values_at_the_bounds_are_accepted(name: str, value: str) -> None:
    assert settings_of(**{name: value}) != settings_of()


def test_a_base_is_kept_without_its_slash() -> None:
    assert settings_of(STRIPE_API_BASE="https://host:8443/").stripe_api_base == "https://host:8443"


@pytest.mark.parametrize(
    "url",
    ["s3://", "s3:bucket", "reports", "http://bucket/x", "file://relative/path", "file:///", "s3://key:secret@bucket",
     "s3://bucket?x=1", "file:///with space", "memory:///"],
)  # fmt: skip
def test_an_impossible_file_store_is_refused_with_the_possible_ones(url: str) -> None:
    assert "TALLYHOOK_FILE_STORE: must be s3://bucket/prefix" in "\n".join(problems_of(TALLYHOOK_FILE_STORE=url))


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("whsec_1", "is a signing secret (whsec_…): it belongs in STRIPE_WEBHOOK_SECRET"),
        ("pk_live_1", "is a publishable key (pk_…)"),
        ("sk_org_live_1", "is the key of an organization (sk_org_…), which needs a `stripe_context`"),
        ('"rk_live_1"', "is in quotes: remove them"),
        ("'rk_live_1'", "is in quotes: remove them"),
    ],
)
def test_what_is_not_an_api_key_is_refused_at_start(value: str, problem: str) -> None:
    for problems in (
        problems_of(STRIPE_API_KEY=value),
        problems_of(STRIPE_ACCOUNTS=json.dumps({"eu": {"api_key": value}})),
    ):
        assert len(problems) == 1
        assert problem in problems[0]


@pytest.mark.parametrize("value", ["sk_live_1", "rk_test_1", "pk_live_1", "whsec_1,sk_live_1", '"whsec_1"'])
def test_what_is_not_a_signing_secret_is_refused_at_start(value: str) -> None:
    problems = problems_of(STRIPE_WEBHOOK_SECRET=value)

    assert len(problems) == 1
    assert "is an API key" in problems[0] or "is in quotes" in problems[0]


def test_one_token_may_not_have_two_roles() -> None:
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    named = json.dumps({"books": {"sha256": digest, "role": "read"}})
    twice = json.dumps({name: {"sha256": DIGEST, "role": "read"} for name in ("a", "b")})

    assert problems_of(TALLYHOOK_ADMIN_TOKEN=TOKEN, TALLYHOOK_READ_TOKEN=TOKEN) == [
        "TALLYHOOK_READ_TOKEN: is the same token as in TALLYHOOK_ADMIN_TOKEN: create one for each"
    ]
    assert problems_of(TALLYHOOK_ADMIN_TOKEN=TOKEN, TALLYHOOK_TOKENS=named) == [
        "TALLYHOOK_ADMIN_TOKEN: is the same token as in TALLYHOOK_TOKENS: create one for each"
    ]
    assert len(problems_of(TALLYHOOK_TOKENS=twice)) == 1


def test_what_is_not_configured_is_named() -> None:
    assert len(list(settings_of().missing())) == 2
    assert list(settings_of(STRIPE_API_KEY="rk_live_1", TALLYHOOK_ADMIN_TOKEN=TOKEN).missing()) == []


def test_a_password_that_is_in_half_of_all_words_is_not_taken_out_of_them() -> None:
    assert settings_of(DATABASE_URL="postgresql://u:a@h/d").secret_values() == {"postgresql://u:a@h/d"}
    assert "long" in settings_of(DATABASE_URL="postgresql://u:long@h/d").secret_values()


def test_what_other_tools_write_into_the_url_is_named() -> None:
    assert problems_of(DATABASE_URL="postgresql://u:p@h/d?pgbouncer=true&connection_limit=1") == [
        "DATABASE_URL: has pgbouncer, connection_limit, which PostgreSQL does not know: remove it"
    ]
