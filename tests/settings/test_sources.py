"""Where settings come from: the environment, a `.env` file, files of their own."""

import base64
import json
from pathlib import Path

import pytest

from app.errors import SettingsError
from app.settings import SETTING_NAMES, load_settings
from tests.settings.given import CANARY, DIGEST, TOKEN, problems_of, settings_of, shown


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("TALLYHOOK_EVENT_DAYS=40\nTALLYHOOK_MAX_RUN_ATTEMPTS='5' # five\nexport OTHER=1\n")

    settings = load_settings({"TALLYHOOK_EVENT_DAYS": "50"}, env_file)

    assert (settings.event_days, settings.max_run_attempts) == (50, 5)


def test_a_value_in_the_file_is_taken_literally(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("DATABASE_URL=postgresql://u:a${HOME}b@h/d\n")

    assert shown(load_settings({}, env_file).database_url) == "postgresql://u:a${HOME}b@h/d"


def test_a_missing_file_counts_as_none(tmp_path: Path) -> None:
    assert load_settings({}, tmp_path / ".env") == settings_of()


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"STRIPE_API_KEY=\xff\xfe")

    with pytest.raises(SettingsError, match="UTF-8"):
        load_settings({}, tmp_path / ".env")


def test_the_environment_of_the_process_is_read_when_none_is_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TALLYHOOK_EVENT_DAYS", "45")
    (tmp_path / ".env").write_text("TALLYHOOK_MAX_PENDING_RUNS=7\n")

    settings = load_settings()

    assert (settings.event_days, settings.max_pending_runs) == (45, 7)


@pytest.mark.parametrize("name", SETTING_NAMES)
def test_any_setting_may_be_read_from_a_file_of_its_own(name: str, tmp_path: Path) -> None:
    examples = {
        "DATABASE_URL": "postgresql://h/d",
        "TALLYHOOK_DIRECT_DATABASE_URL": "postgresql://h/d",
        "STRIPE_ACCOUNTS": '{"eu": {"api_key": "k"}}',
        "TALLYHOOK_TOKENS": json.dumps({"a": {"sha256": DIGEST, "role": "read"}}),
        "STRIPE_API_BASE": "https://a.test",
        "STRIPE_FILES_BASE": "https://b.test",
        "TALLYHOOK_FILE_STORE": "s3://bucket/prefix",
        "TALLYHOOK_TABLES": "off",
        "TALLYHOOK_PARQUET_STORE": "s3://bucket/warehouse",
        "TALLYHOOK_TABLES_PERSONAL": "all",
        "TALLYHOOK_REPORTS_SCHEMA": "stripe",
        "TALLYHOOK_ADMIN_TOKEN": TOKEN,
        "TALLYHOOK_READ_TOKEN": TOKEN,
        "TALLYHOOK_MAX_HEADER_BYTES": "7777",
        "TALLYHOOK_MAX_UNVERIFIED_BYTES": "777777",
        "TALLYHOOK_SIGNING_KEY": TOKEN,
        "TALLYHOOK_KEY_ENCRYPTION_KEY": base64.b64encode(bytes(32)).decode(),
        "TALLYHOOK_WEB": "off",
        "TALLYHOOK_BASE_PATH": "/tallyhook",
        "TALLYHOOK_PROXY_USER_HEADER": "X-Forwarded-User",
        "TALLYHOOK_TRUSTED_PROXIES": "10.0.0.0/8",
        "TALLYHOOK_PUBLIC_URL": "https://reports.test/tallyhook",
        "TALLYHOOK_SMTP_URL": "smtp://mail.test:587",
        "TALLYHOOK_MAIL_FROM": "Reports <reports@mail.test>",
        "TALLYHOOK_SLACK_URLS": '{"finance": "https://hooks.test/1"}',
        "TALLYHOOK_TARGET_NETWORKS": "10.0.0.0/8, fd00::/8",
        "TALLYHOOK_TARGET_FOLDERS": "s3://bucket/reports",
        "TALLYHOOK_TARGET_PROXY": "http://proxy.test:3128",
    }
    value = examples.get(name, "77")
    (tmp_path / "value").write_text(value + "\n")
    # These two are believed only together.
    pair = {"TALLYHOOK_PROXY_USER_HEADER", "TALLYHOOK_TRUSTED_PROXIES"}
    beside = {other: examples[other] for other in pair - {name}} if name in pair else {}

    by_file = settings_of(**{f"{name}_FILE": str(tmp_path / "value")}, **beside)

    assert by_file == settings_of(**{name: value}, **beside)
    assert by_file != settings_of()


def test_a_setting_given_both_ways_is_refused(tmp_path: Path) -> None:
    (tmp_path / "value").write_text("77")

    problems = problems_of(TALLYHOOK_EVENT_DAYS="77", TALLYHOOK_EVENT_DAYS_FILE=str(tmp_path / "value"))

    assert problems == ["TALLYHOOK_EVENT_DAYS: is set twice, also as TALLYHOOK_EVENT_DAYS_FILE: remove one of them"]


def test_an_unreadable_file_is_reported_without_its_path() -> None:
    problems = problems_of(STRIPE_API_KEY_FILE=f"/nowhere/{CANARY}", STRIPE_WEBHOOK_SECRET_FILE=f"{CANARY}\0")

    assert problems == [
        "STRIPE_API_KEY_FILE: must name a readable file of UTF-8 text",
        "STRIPE_WEBHOOK_SECRET_FILE: must name a readable file of UTF-8 text",
    ]


def test_an_empty_value_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")

    settings = settings_of(
        STRIPE_API_KEY="", TALLYHOOK_EVENT_DAYS=" ", STRIPE_WEBHOOK_SECRET_FILE=str(tmp_path / "empty")
    )

    assert settings == settings_of()
