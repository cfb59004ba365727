"""`docs/reliability.md` names the tests that would break with a promise: they have to exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_test_that_the_reliability_page_names_exists() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text()
    code = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))

    named = set(re.findall(r"`(test_\w+)`", page))

    assert len(named) > 10
    assert {name for name in named if f"def {name}(" not in code} == set()
