"""The settings, their defaults, and that none of them shows a secret."""

import base64
import json
from pathlib import Path

import pytest

from app.settings import SETTING_NAMES
from tests.settings.given import CANARY, DIGEST, settings_of, shown


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
        "max_header_bytes": 32768,
        "max_unverified_bytes": 8388608,
        "max_connections": 2000,
        "header_seconds": 10,
        "body_seconds": 30,
        "idle_seconds": 65,
        "file_store": None,
        "retention_days": None,
        "parquet_store": None,
        "tables": "on",
        "tables_personal": "none",
        "reports_schema": "reports",
        "event_days": 90,
        "key_encryption_key": (),
        "signing_key": (),
        "public_url": None,
        "smtp_url": None,
        "mail_from": None,
        "slack_urls": {},
        "target_networks": (),
        "target_folders": (),
        "target_proxy": None,
        "target_disable_days": 5,
        "web": "on",
        "base_path": "",
        "proxy_user_header": None,
        "trusted_proxies": (),
        "proxy_admins": (),
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


ENCRYPTION_KEY = base64.b64encode(bytes(range(32))).decode()


def test_nothing_that_prints_settings_prints_a_secret() -> None:
    settings = settings_of(
        DATABASE_URL=f"postgresql://u:{CANARY}@h/d",
        STRIPE_API_KEY=CANARY,
        STRIPE_WEBHOOK_SECRET=f"{CANARY},{CANARY}2",
        STRIPE_ACCOUNTS=json.dumps({"eu": {"api_key": CANARY, "webhook_secrets": [CANARY]}}),
        TALLYHOOK_ADMIN_TOKEN=CANARY * 4,
        TALLYHOOK_READ_TOKEN=CANARY * 5,
        TALLYHOOK_TOKENS=json.dumps({"a": {"sha256": DIGEST, "role": "read"}}),
        TALLYHOOK_SIGNING_KEY=CANARY * 4,
        TALLYHOOK_KEY_ENCRYPTION_KEY=ENCRYPTION_KEY,
        TALLYHOOK_SMTP_URL=f"smtp://u:{CANARY}@mail.test",
        TALLYHOOK_SLACK_URLS=json.dumps({"finance": f"https://hooks.test/{CANARY}"}),
        TALLYHOOK_TARGET_PROXY=f"http://u:{CANARY}@proxy.test",
    )

    printed = f"{settings!r} {settings} {settings.accounts!r} {settings.model_dump()} {settings.model_dump_json()}"

    assert CANARY not in printed
    assert ENCRYPTION_KEY not in printed
    assert DIGEST not in f"{settings!r} {settings}"


def test_the_logs_know_what_is_secret() -> None:
    settings = settings_of(
        DATABASE_URL="postgresql://1",
        TALLYHOOK_DIRECT_DATABASE_URL="postgresql://2",
        STRIPE_API_KEY="key",
        STRIPE_WEBHOOK_SECRET="w1,w2",
        STRIPE_ACCOUNTS='{"eu": {"api_key": "eu-key", "webhook_secrets": ["w3"]}}',
        TALLYHOOK_ADMIN_TOKEN="a" * 32,
        TALLYHOOK_READ_TOKEN="r" * 32,
    )

    assert settings.secret_values() == {
        "postgresql://1", "postgresql://2", "key", "w1", "w2", "eu-key", "w3", "a" * 32, "r" * 32
    }  # fmt: skip
    assert settings_of().secret_values() == frozenset()
