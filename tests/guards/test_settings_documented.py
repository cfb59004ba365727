"""Every setting is shown to users."""

import re
from pathlib import Path

from app.settings import SETTING_NAMES, Settings, load_settings, setting_name

EXAMPLE = Path(__file__).parents[2] / ".env.example"


def test_every_setting_is_in_the_example_file_and_nothing_else() -> None:
    shown = re.findall(r"^# ([A-Z_]+)=", EXAMPLE.read_text(encoding="utf-8"), re.MULTILINE)

    assert sorted(shown) == sorted(SETTING_NAMES)


def test_the_example_file_sets_nothing() -> None:
    assert load_settings({}, EXAMPLE) == load_settings({}, None)


def test_the_example_file_shows_the_defaults() -> None:
    shown = dict(re.findall(r"^# ([A-Z_]+)=([0-9.]+|https?://\S+|\./\S+)$", EXAMPLE.read_text("utf-8"), re.MULTILINE))

    by_example = load_settings(shown, None)

    plain = {name for name, field in Settings.model_fields.items() if isinstance(field.default, int | float)}
    assert {setting_name(name) for name in plain} <= set(shown)
    assert by_example == load_settings({}, None)
