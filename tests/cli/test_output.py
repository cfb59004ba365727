"""What commands show on a terminal and in a pipe."""

import io
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from app.cli.output import show_table
from app.cli.saving import progress
from app.db.revisions import head_revision
from tests.cli.conftest import Command

ROWS = [["a\tb\nc", None, datetime(2026, 10, 1, 7, tzinfo=UTC)]]


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """What is shown from now on; called in the test itself, because pytest sets its own streams before each step."""
    terminal = Terminal()
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal


def test_in_a_pipe_a_row_is_a_line_and_a_cell_has_no_tab(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(["one", "two", "three"], ROWS)

    assert capsys.readouterr().out == "one\ttwo\tthree\na b c\t\t2026-10-01T07:00:00Z\n"


def test_on_a_terminal_it_is_a_table_and_brackets_are_text(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)

    show_table(["one", "two", "three"], [*ROWS, ["[red]x", 1, 2]])

    assert "\t" not in terminal.getvalue()
    assert "[red]x" in terminal.getvalue()


def test_a_download_shows_its_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)

    with progress("report.csv", total=10) as advance:
        advance(10)

    assert "report.csv" in terminal.getvalue()
    assert "10/10 bytes" in terminal.getvalue()


def test_a_download_shows_nothing_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("report.csv", total=10) as advance:
        advance(10)

    assert capsys.readouterr().err == ""


async def test_migrate_says_where_the_schema_is(command: Command) -> None:
    plain, for_programs = await command("migrate"), await command("migrate", "--json")

    assert plain.out == f"the schema is at {head_revision()}\n"
    assert for_programs.json() == {"revision": head_revision()}


def test_help_loads_neither_settings_nor_logs_nor_the_database() -> None:
    heavy = "{'pydantic', 'structlog', 'sqlalchemy', 'fastapi', 'rich'}"
    code = f"import sys, app.cli; print(*sorted({heavy} & set(sys.modules)))"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert loaded.stdout.strip() == ""
