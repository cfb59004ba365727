"""Each import contract of pyproject.toml sees a breach that is planted in a copy: none of them can be bypassed."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

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
