"""What a process loads: only what it uses."""

import subprocess
import sys

import pytest

# Neither a worker nor `serve` uses them: the first three hide behind others, Alembic is for a schema that is behind.
UNUSED = [
    "rich", "pygments", "requests", "alembic", "mako", "app.db.alembic_models", "app.db.table_models", "pyarrow",
    "xlsxwriter", "obstore", "app.simulator",
]  # fmt: skip


@pytest.mark.parametrize(
    ("app", "left_out"),
    [("app.probes", [*UNUSED, "jinja2", "app.web.app", "app.api.rules"]), ("app.main", UNUSED)],
    ids=["worker", "serve"],
)
def test_a_process_loads_nothing_that_it_never_uses(app: str, left_out: list[str]) -> None:
    code = f"""
import gc, sys
from app.observability.lighter import loading

with loading():
    import app.cli, app.serving, {app}
    assert not gc.isenabled()
assert gc.isenabled() and gc.get_freeze_count() > 100_000
print(sorted(set({left_out}) & set(sys.modules)))
"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == ("[]\n", "")
