"""Settings that are suspicious but not wrong."""

from pathlib import Path

import pytest

from app.settings import load_settings
from tests.settings.given import CANARY, settings_of


def test_an_unknown_name_is_a_warning_with_the_nearest_known_one_and_without_its_value() -> None:
    warnings = settings_of(TALLYHOOK_ADMIN_TOKN=CANARY, TALLYHOOK_RECONCILE_SECOND="1").warnings

    assert warnings == (
        "TALLYHOOK_ADMIN_TOKN is not a setting and has no effect; the closest one is TALLYHOOK_ADMIN_TOKEN",
        "TALLYHOOK_RECONCILE_SECOND is not a setting and has no effect; the closest one is TALLYHOOK_RECONCILE_SECONDS",
    )


def test_an_unknown_name_in_the_env_file_is_a_warning_too(tmp_path: Path) -> None:
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
def test_names_that_are_not_ours_are_ignored(name: str, tmp_path: Path) -> None:
    (tmp_path / "value").write_text("40")

    assert settings_of(**{name: str(tmp_path / "value")}).warnings == ()


def test_a_name_that_only_looks_like_a_port_is_a_warning() -> None:
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
def test_plain_http_is_a_warning_unless_it_stays_on_this_machine(base: str, warned: bool) -> None:
    assert bool(settings_of(STRIPE_API_BASE=base).warnings) is warned
    assert bool(settings_of(STRIPE_FILES_BASE=base).warnings) is warned
