"""What a process loads: only what it uses."""

import subprocess
import sys

import pytest

WORKER = "from app.observability.lighter import import_lightly; import_lightly(); import app.probes, app.worker.steps"
SERVE = f"{WORKER}, app.main"


@pytest.mark.parametrize(
    ("imports", "left_out"),
    [(WORKER, ["rich", "pygments", "requests", "jinja2", "app.web.app", "app.api.rules"]),
     (SERVE, ["rich", "pygments", "requests", "pyarrow", "xlsxwriter"])],
    ids=["worker", "serve"],
)  # fmt: skip
def test_a_process_loads_nothing_that_it_never_uses(imports: str, left_out: list[str]) -> None:
    code = f"import sys; {imports}, app.serving; print(sorted(set({left_out}) & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == ("[]\n", "")
