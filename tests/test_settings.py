"""Settings: where they come from, what is refused, and that no message repeats a value."""

import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.errors import SettingsError
from app.settings import SETTING_NAMES, Account, Settings, load_settings
from app.vocabulary import Role

TOKEN = "t" * 32
DIGEST = "ab" * 32
# Whatever a message, a repr or a dump shows, it must not show this.
CANARY = "CANARYcanary7Q"


def settings_of(**environ: str) -> Settings:
    return load_settings(environ, None)


def problems_of(**environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ, None)
    return str(caught.value).splitlines()


def shown(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def test_nothing_is_needed_and_the_defaults_are_those_of_the_contract() -> None:
    settings = settings_of()

    assert settings.model_dump() == {
        "database_url": None,
        "direct_database_url": None,
        "data_dir": Path(".tallyhook"),
        "stripe_api_key": None,
        "stripe_webhook_secret": (),
        "stripe_accounts": {},
        "stripe_api_base": "https://api.stripe.com",
        "stripe_files_base": "https://files.stripe.com",
        "admin_token": None,
        "read_token": None,
        "tokens": {},
        "reconcile_seconds": 1800,
        "pending_poll_seconds": 900,
        "run_timeout_seconds": 86400,
        "max_run_attempts": 3,
        "max_pending_runs": 20,
        "requests_per_second": 20,
        "retry_base_seconds": 2,
        "retry_max_seconds": 900,
        "stalled_after_seconds": 60,
        "max_body_bytes": 1048576,
        "event_days": 90,
        "warnings": (),
    }
    assert settings.accounts == {}


def test_the_names_are_those_of_the_contract() -> None:
    assert {name for name in SETTING_NAMES if not name.startswith("TALLYHOOK_")} == {
        "DATABASE_URL",
        "STRIPE_API_KEY",
        "STRIPE_WEBHOOK_SECRET",
        "STRIPE_ACCOUNTS",
        "STRIPE_API_BASE",
        "STRIPE_FILES_BASE",
    }
    assert "TALLYHOOK_DIRECT_DATABASE_URL" in SETTING_NAMES


def test_settings_cannot_be_changed() -> None:
    settings, name = settings_of(), "event_days"

    with pytest.raises(ValueError, match="frozen"):
        setattr(settings, name, 31)


def test_the_direct_database_is_the_database_unless_said_otherwise() -> None:
    alone = settings_of(DATABASE_URL="postgresql://a/b")
    both = settings_of(DATABASE_URL="postgresql://a/b", TALLYHOOK_DIRECT_DATABASE_URL="postgresql://c/d")

    assert shown(alone.direct_database_url) == "postgresql://a/b"
    assert shown(both.direct_database_url) == "postgresql://c/d"


class TestWhereValuesComeFrom:
    def test_the_environment_stands_above_the_file(self, tmp_path: Path) -> None:
        env_file = tmp_path / ".env"
        env_file.write_text("TALLYHOOK_EVENT_DAYS=40\nTALLYHOOK_MAX_RUN_ATTEMPTS='5' # five\nexport OTHER=1\n")

        settings = load_settings({"TALLYHOOK_EVENT_DAYS": "50"}, env_file)

        assert (settings.event_days, settings.max_run_attempts) == (50, 5)

    def test_a_value_in_the_file_is_taken_as_it_stands(self, tmp_path: Path) -> None:
        env_file = tmp_path / ".env"
        env_file.write_text("DATABASE_URL=postgresql://u:a${HOME}b@h/d\n")

        assert shown(load_settings({}, env_file).database_url) == "postgresql://u:a${HOME}b@h/d"

    def test_a_missing_file_is_no_file(self, tmp_path: Path) -> None:
        assert load_settings({}, tmp_path / ".env") == settings_of()

    def test_a_file_that_is_not_text_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_bytes(b"STRIPE_API_KEY=\xff\xfe")

        with pytest.raises(SettingsError, match="UTF-8"):
            load_settings({}, tmp_path / ".env")

    def test_the_process_is_asked_when_nothing_is_given(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("TALLYHOOK_EVENT_DAYS", "45")
        (tmp_path / ".env").write_text("TALLYHOOK_MAX_PENDING_RUNS=7\n")

        settings = load_settings()

        assert (settings.event_days, settings.max_pending_runs) == (45, 7)

    @pytest.mark.parametrize("name", SETTING_NAMES)
    def test_any_setting_may_be_read_from_a_file_of_its_own(self, name: str, tmp_path: Path) -> None:
        examples = {
            "DATABASE_URL": "postgresql://h/d",
            "TALLYHOOK_DIRECT_DATABASE_URL": "postgresql://h/d",
            "STRIPE_ACCOUNTS": '{"eu": {"api_key": "k"}}',
            "TALLYHOOK_TOKENS": json.dumps({"a": {"sha256": DIGEST, "role": "read"}}),
            "STRIPE_API_BASE": "https://a.test",
            "STRIPE_FILES_BASE": "https://b.test",
            "TALLYHOOK_ADMIN_TOKEN": TOKEN,
            "TALLYHOOK_READ_TOKEN": TOKEN,
        }
        value = examples.get(name, "77")
        (tmp_path / "value").write_text(value + "\n")

        by_file = settings_of(**{f"{name}_FILE": str(tmp_path / "value")})

        assert by_file == settings_of(**{name: value})
        assert by_file != settings_of()

    def test_a_setting_given_both_ways_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "value").write_text("77")

        problems = problems_of(TALLYHOOK_EVENT_DAYS="77", TALLYHOOK_EVENT_DAYS_FILE=str(tmp_path / "value"))

        assert problems == [
            "TALLYHOOK_EVENT_DAYS: is given twice, also as TALLYHOOK_EVENT_DAYS_FILE: remove one of them"
        ]

    def test_an_unreadable_file_is_told_without_its_path(self) -> None:
        problems = problems_of(STRIPE_API_KEY_FILE=f"/nowhere/{CANARY}", STRIPE_WEBHOOK_SECRET_FILE=f"{CANARY}\0")

        assert problems == [
            "STRIPE_API_KEY_FILE: has to name a readable file of UTF-8 text",
            "STRIPE_WEBHOOK_SECRET_FILE: has to name a readable file of UTF-8 text",
        ]

    def test_an_empty_value_is_no_value(self, tmp_path: Path) -> None:
        (tmp_path / "empty").write_text("\n")

        settings = settings_of(
            STRIPE_API_KEY="", TALLYHOOK_EVENT_DAYS=" ", STRIPE_WEBHOOK_SECRET_FILE=str(tmp_path / "empty")
        )

        assert settings == settings_of()


class TestAccounts:
    def test_a_key_alone_is_the_account_default(self) -> None:
        settings = settings_of(STRIPE_API_KEY="rk_live_1")

        assert settings.accounts == {"default": Account("default", SecretStr("rk_live_1"), (), livemode=True)}

    def test_a_signing_secret_alone_is_too(self) -> None:
        settings = settings_of(STRIPE_WEBHOOK_SECRET="whsec_1")

        assert settings.accounts == {"default": Account("default", None, (SecretStr("whsec_1"),), livemode=None)}

    @pytest.mark.parametrize(
        ("text", "secrets"),
        [
            ("a,b", ["a", "b"]),
            (" a , b ", ["a", "b"]),
            ("a,,b,", ["a", "b"]),
            (",", []),
            (" , ", []),
        ],
    )
    def test_blank_signing_secrets_never_become_secrets(self, text: str, secrets: list[str]) -> None:
        settings = settings_of(STRIPE_API_KEY="k", STRIPE_WEBHOOK_SECRET=text)

        assert [shown(secret) for secret in settings.accounts["default"].webhook_secrets] == secrets

    def test_only_commas_make_no_account(self) -> None:
        assert settings_of(STRIPE_WEBHOOK_SECRET=" , ,").accounts == {}

    @pytest.mark.parametrize(
        ("key", "livemode"),
        [
            ("sk_live_1", True),
            ("rk_live_1", True),
            ("sk_test_1", False),
            ("rk_test_1", False),
            ("rk_org_1", None),
            ("xsk_live_1", None),
            ("pk_live_1", None),
        ],
    )
    def test_the_key_says_its_mode(self, key: str, livemode: bool | None) -> None:
        assert settings_of(STRIPE_API_KEY=key).accounts["default"].livemode is livemode

    def test_several_accounts_stand_beside_the_default(self) -> None:
        accounts = {"eu": {"api_key": "sk_test_2", "webhook_secrets": ["w1", " ", "w2"]}, "us-1": {"api_key": "k"}}

        settings = settings_of(STRIPE_API_KEY="k1", STRIPE_ACCOUNTS=json.dumps(accounts))

        assert set(settings.accounts) == {"default", "eu", "us-1"}
        assert settings.accounts["eu"] == Account(
            "eu", SecretStr("sk_test_2"), (SecretStr("w1"), SecretStr("w2")), livemode=False
        )

    def test_default_may_be_one_of_several(self) -> None:
        assert set(settings_of(STRIPE_ACCOUNTS='{"default": {"api_key": "k"}}').accounts) == {"default"}

    @pytest.mark.parametrize("name", ["STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRET"])
    def test_but_not_in_both_places(self, name: str) -> None:
        problems = problems_of(**{name: "k", "STRIPE_ACCOUNTS": '{"default": {"api_key": "k"}}'})

        assert len(problems) == 1
        assert problems[0].startswith("STRIPE_ACCOUNTS: names `default`")

    @pytest.mark.parametrize("slug", ["a", "0", "eu-1_b", "a" * 63])
    def test_slugs_that_are_taken(self, slug: str) -> None:
        assert set(settings_of(STRIPE_ACCOUNTS=json.dumps({slug: {"api_key": "k"}})).accounts) == {slug}

    @pytest.mark.parametrize("slug", ["", "EU", "-a", "_a", "a b", "a/b", "a.b", "é", "a\n", "a" * 64])
    def test_slugs_that_are_not(self, slug: str) -> None:
        problems = problems_of(STRIPE_ACCOUNTS=json.dumps({slug: {"api_key": "k"}}))

        assert problems == [
            "STRIPE_ACCOUNTS: account names are 1–63 of a–z, 0–9, `_` and `-`, and begin with a letter or digit"
        ]


class TestTokens:
    def test_named_tokens_have_a_digest_and_a_role(self) -> None:
        settings = settings_of(TALLYHOOK_TOKENS=json.dumps({"ci": {"sha256": DIGEST.upper(), "role": "admin"}}))

        assert (settings.tokens["ci"].sha256, settings.tokens["ci"].role) == (DIGEST, Role.ADMIN)

    @pytest.mark.parametrize("name", ["TALLYHOOK_ADMIN_TOKEN", "TALLYHOOK_READ_TOKEN"])
    def test_a_short_token_is_refused(self, name: str) -> None:
        assert problems_of(**{name: "t" * 31}) == [
            f"{name}: has to have at least 32 characters: make one with `openssl rand -hex 32`"
        ]
        assert settings_of(**{name: "t" * 32})

    def test_a_token_that_no_header_can_carry_is_refused(self) -> None:
        assert problems_of(TALLYHOOK_ADMIN_TOKEN="é" * 40)[0].startswith("TALLYHOOK_ADMIN_TOKEN: has to be printable")


MALFORMED = [
    ("DATABASE_URL", "mysql://{}/x"),
    ("TALLYHOOK_DIRECT_DATABASE_URL", "{}"),
    ("STRIPE_API_KEY", "{} {}"),
    ("STRIPE_API_KEY", "{}é"),
    ("STRIPE_WEBHOOK_SECRET", "ok,{} {}"),
    ("STRIPE_ACCOUNTS", "{}"),
    ("STRIPE_ACCOUNTS", '"{}"'),
    ("STRIPE_ACCOUNTS", '{{"eu": "{}"}}'),
    ("STRIPE_ACCOUNTS", '{{"eu": {{"api_key": ["{}"]}}}}'),
    ("STRIPE_ACCOUNTS", '{{"eu": {{"api_key": ""}}}}'),
    ("STRIPE_ACCOUNTS", '{{"eu": {{}}}}'),
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


def test_every_problem_is_told_at_once() -> None:
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
def test_values_at_the_edge_are_taken(name: str, value: str) -> None:
    assert settings_of(**{name: value}) != settings_of()


def test_a_base_is_kept_without_its_slash() -> None:
    assert settings_of(STRIPE_API_BASE="https://host:8443/").stripe_api_base == "https://host:8443"


def test_nothing_that_prints_settings_prints_a_secret() -> None:
    settings = settings_of(
        DATABASE_URL=f"postgresql://u:{CANARY}@h/d",
        STRIPE_API_KEY=CANARY,
        STRIPE_WEBHOOK_SECRET=f"{CANARY},{CANARY}2",
        STRIPE_ACCOUNTS=json.dumps({"eu": {"api_key": CANARY, "webhook_secrets": [CANARY]}}),
        TALLYHOOK_ADMIN_TOKEN=CANARY * 4,
        TALLYHOOK_READ_TOKEN=CANARY * 4,
        TALLYHOOK_TOKENS=json.dumps({"a": {"sha256": DIGEST, "role": "read"}}),
    )

    printed = f"{settings!r} {settings} {settings.accounts!r} {settings.model_dump()} {settings.model_dump_json()}"

    assert CANARY not in printed
    assert DIGEST not in f"{settings!r} {settings}"


class TestWarnings:
    def test_an_unknown_name_is_told_with_the_nearest_known_one_and_without_its_value(self) -> None:
        warnings = settings_of(TALLYHOOK_ADMIN_TOKN=CANARY, TALLYHOOK_RECONCILE_SECOND="1").warnings

        assert warnings == (
            "TALLYHOOK_ADMIN_TOKN is not a setting and does nothing; the nearest one is TALLYHOOK_ADMIN_TOKEN",
            "TALLYHOOK_RECONCILE_SECOND is not a setting and does nothing; "
            "the nearest one is TALLYHOOK_RECONCILE_SECONDS",
        )

    def test_one_in_the_env_file_is_told_too(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text("TALLYHOOK_EVENTDAYS=40\n")

        assert len(load_settings({}, tmp_path / ".env").warnings) == 1

    @pytest.mark.parametrize(
        "name",
        [
            "TALLYHOOK_SERVICE_HOST",
            "TALLYHOOK_SERVICE_PORT_HTTP",
            "TALLYHOOK_WEB_SERVICE_HOST",
            "TALLYHOOK_PORT",
            "TALLYHOOK_PORT_8000_TCP_ADDR",
            "TALLYHOOK_EVENT_DAYS_FILE",
            "STRIPE_SOMETHING",
            "PATH",
        ],
    )
    def test_what_is_not_meant_for_us_is_passed_over(self, name: str, tmp_path: Path) -> None:
        (tmp_path / "value").write_text("40")

        assert settings_of(**{name: str(tmp_path / "value")}).warnings == ()

    def test_a_name_that_only_looks_like_a_port_is_told(self) -> None:
        assert len(settings_of(TALLYHOOK_PORTAL="1").warnings) == 1

    @pytest.mark.parametrize(
        ("base", "warned"),
        [
            ("https://anywhere", False),
            ("http://localhost:1", False),
            ("http://127.0.0.1:1", False),
            ("http://127.3.2.1", False),
            ("http://[::1]:1", False),
            ("http://simulator:8000", True),
            ("http://10.0.0.1", True),
            ("http://localhost.example", True),
        ],
    )
    def test_plain_http_is_told_unless_it_stays_on_this_machine(self, base: str, warned: bool) -> None:
        assert bool(settings_of(STRIPE_API_BASE=base).warnings) is warned
        assert bool(settings_of(STRIPE_FILES_BASE=base).warnings) is warned
