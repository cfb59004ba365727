"""The how-to explains everything."""

from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from app.simulator import Simulator
from app.simulator.commands import commands_of
from app.simulator.faults import CALL_FAULTS, EVENT_FAULTS, FILE_FAULTS, REPORT_FAULTS, RUN_FAULTS, Match, When
from app.simulator.http.routes import application
from app.simulator.settings import Settings

TEXT = (Path(__file__).parents[2] / "docs/howto/simulator.md").read_text()
WORDS = {
    "fault": sorted(CALL_FAULTS | RUN_FAULTS | REPORT_FAULTS | FILE_FAULTS | EVENT_FAULTS),
    "setting": [field.name for field in fields(Settings)],
    "match": [field.name for field in fields(Match)],
    "when": list(get_args(When)),
}


@pytest.mark.parametrize("kind", WORDS)
def test_every_word_is_explained(kind: str) -> None:
    assert [word for word in WORDS[kind] if f"`{word}`" not in TEXT] == []


def test_every_control_route_is_explained() -> None:
    simulator = Simulator()
    paths = {str(getattr(route, "path", "")) for route in application(simulator.world, commands_of(simulator)).routes}
    control = {path.removeprefix("/_control/") for path in paths if path.startswith("/_control/")}
    spelling = {"report_types/{report_type}/advance": "report_types/{id}/advance"}

    assert [path for path in sorted(control) if f" {spelling.get(path, path)}`" not in TEXT] == []
