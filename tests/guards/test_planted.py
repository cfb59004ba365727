"""Each import contract, and each guard that runs in a copy, sees a breach that is planted there: none can be
bypassed."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.database import PostgresServer

ROOT = Path(__file__).parents[2]
# The contract, the file and the line that breaks it.
PLANTS = {
    "Imports point down; the simulator knows nothing of the service": ("app/ids.py", "import app.settings.model"),
    "No circles, at any depth": ("app/runs/moves.py", "def late() -> None:\n    import app.runs.request"),
    "Planning is pure": ("app/planning/dates.py", "import sqlalchemy"),
    "Only stripe_api speaks to Stripe": ("app/audit.py", "import stripe"),
    "Only files touches file bytes": ("app/background.py", "import obstore"),
    "Only observability traces": ("app/report_types.py", "import opentelemetry.trace"),
    "Only the command line shows the simulator": ("app/serving.py", "import app.simulator.server"),
}

# The guard (a test), the file, what is replaced in it (None: the end of the file), and the breach.
BREACHES: dict[str, tuple[str, str | None, str]] = {
    "test_exactly_the_allowed_moves_can_be_made_and_each_is_kept_in_the_history": (
        "app/runs/moves.py", "before.state = any(:sources)", "(before.state = any(:sources) or true)",
    ),
    "test_a_move_names_the_attempt_that_it_is_about": (
        "app/runs/moves.py", "wanted.attempt = runs.attempt", "wanted.attempt <> runs.attempt + 5",
    ),
    "test_every_state_has_its_moves_and_every_move_a_statement": (
        "app/vocabulary.py", "RunState.STORED: frozenset()", '"lost": frozenset(), RunState.STORED: frozenset()',
    ),
    "test_every_lane_is_worked_and_knows_when_it_has_something_to_do_next": (
        "app/vocabulary.py", "class Lane(StrEnum):\n", 'class Lane(StrEnum):\n    LOST = "lost"\n',
    ),
    "test_every_event_type_has_a_handler": (
        "app/vocabulary.py", "class EventType(StrEnum):\n", 'class EventType(StrEnum):\n    LOST = "lost"\n',
    ),
    "test_every_state_that_a_run_leaves_by_itself_has_its_lanes_and_its_kind_of_call": (
        "app/vocabulary.py", "class CallKind(StrEnum):\n", 'class CallKind(StrEnum):\n    LOST = "lost"\n',
    ),
    "test_every_link_leads_somewhere": ("README.md", None, "[gone](docs/gone.md)\n"),
    "test_every_test_that_a_document_names_exists": ("docs/reliability.md", None, "`test_that_nobody_wrote`\n"),
    "test_every_decision_has_a_number_of_its_own": ("docs/decisions/0001-again.md", None, "# 0001 · Again\n"),
    "test_every_long_file_is_named_and_excused_in_the_house_measured_and_no_other": (
        "app/audit.py", None, "# a line\n" * 251,
    ),
    "test_every_setting_is_in_the_example_file_and_nothing_else": (".env.example", None, "# TALLYHOOK_LOST=1\n"),
    "test_the_example_file_sets_nothing": (".env.example", None, "TALLYHOOK_MAX_PENDING_RUNS=7\n"),
    "test_the_example_file_shows_the_defaults": (
        ".env.example", "# TALLYHOOK_MAX_PENDING_RUNS=", "# TALLYHOOK_MAX_PENDING_RUNS=9",
    ),
    "test_no_function_takes_resources_and_a_session": (
        "app/audit.py", None, "def both(res: 'Resources', session: 'AsyncSession') -> None: ...\n",
    ),
    "test_every_folder_with_code_is_a_package": ("app/lost/found.py", None, "x = 1\n"),
}  # fmt: skip
# Guards whose breach stands beside them, and what is about the guards themselves.
GUARDED_ELSEWHERE = {
    "test_a_planted_breach_is_seen",
    "test_a_planted_session_that_rolls_back_is_seen",
    "test_a_session_that_only_reads_commits_too",
    "test_there_are_links_to_check",
}


def test_each_contract_is_broken_by_its_planted_import(tmp_path: Path) -> None:
    # Given a copy of the code with one breach for each contract
    shutil.copytree(ROOT / "app", tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for path, line in PLANTS.values():
        with (tmp_path / path).open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")

    # When the contracts are checked
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    # Then each of them is broken, and names the file
    output = re.sub(r"\x1b\[[0-9;]*m", "", checked.stdout)
    assert {name for name in PLANTS if f"{name} BROKEN" in output} == set(PLANTS), output
    for path, _ in PLANTS.values():
        assert Path(path).stem in output


def test_every_contract_has_a_planted_import() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]

    assert {contract["name"] for contract in contracts} == set(PLANTS)


def test_every_guard_has_a_planted_breach() -> None:
    files = ("closed_sets", "documents", "settings_documented", "transactions")
    texts = [(ROOT / "tests" / "guards" / f"test_{name}.py").read_text(encoding="utf-8") for name in files]
    guards = {name for text in texts for name in re.findall(r"^(?:async )?def (test_\w+)", text, re.MULTILINE)}

    assert guards - GUARDED_ELSEWHERE == {name for name in BREACHES if name in guards}
    assert guards >= GUARDED_ELSEWHERE


def test_each_guard_fails_on_its_planted_breach(tmp_path: Path, postgres_server: PostgresServer) -> None:
    # Given a copy of the project with one breach for each guard
    for folder in ("app", "docs", "deploy", "migrations", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder)  # compiled modules too: they save seconds
    for path in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", ".env.example", "pyproject.toml"):
        shutil.copy(ROOT / path, tmp_path)
    for path, replaced, breach in BREACHES.values():
        file = tmp_path / path
        file.parent.mkdir(exist_ok=True)
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        assert replaced is None or replaced in text, path
        file.write_text(text + breach if replaced is None else text.replace(replaced, breach, 1), encoding="utf-8")

    # When the guards run there, on this run's server
    chosen = " or ".join(BREACHES)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-rf", "-k", chosen]
    environ = {**os.environ, "TEST_DATABASE_URL": postgres_server.url("postgres")}
    tried = subprocess.run(
        [*command, "tests/guards"], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )

    # Then each of them fails
    failed = set(re.findall(r"^FAILED \S+::(\w+)", tried.stdout, re.MULTILINE))
    assert failed == set(BREACHES), tried.stdout[-3000:]
