"""Other people's engines beside ours: @supabase/stripe-sync-engine and @stripe/sync-engine, as their packages come.

They take a signed webhook and upsert the object; they keep no event and no job. A server of thirty lines around each
(`server.mjs`) does nothing but read the body and call the package.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import make_url

from benchmarks.stage import SECRET, Process, Stage, running

HERE = Path(__file__).parent
# Ignored by git; installed once and kept.
INSTALLED = HERE.parent / "results" / "engines"
ENGINES = {
    "@supabase/stripe-sync-engine": "@supabase/stripe-sync-engine 0.48.5",
    "@stripe/sync-engine": "@stripe/sync-engine 1.0.32",
}
INSTALL_SECONDS = 180


def why_not() -> str | None:
    """Why the engines cannot be measured here; None when they can, and are installed."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "needs node and npm"
    wanted = (HERE / "package.json").read_text()
    manifest = INSTALLED / "package.json"
    if not (INSTALLED / "node_modules").exists() or manifest.read_text() != wanted:
        INSTALLED.mkdir(parents=True, exist_ok=True)
        manifest.write_text(wanted)
        # Their install scripts are not run; what they need is in the packages.
        command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--silent"]
        try:
            subprocess.run(command, cwd=INSTALLED, check=True, capture_output=True, timeout=INSTALL_SECONDS)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            shutil.rmtree(INSTALLED / "node_modules", ignore_errors=True)
            return "npm could not install the packages"
    return None


@contextmanager
def engine(stage: Stage, package: str, *, url: str) -> Iterator[Process]:
    """One of the engines on the database at `url`, its tables made, answering."""
    where = make_url(url)
    command = ["node", str(HERE / "server.mjs"), package, str(where.query["host"]), str(where.database), SECRET]
    environ = {"NODE_ENV": "production", "TMPDIR": str(stage.folder), "LANG": os.environ.get("LANG", "C")}
    with running(command, environ=environ, folder=stage.folder, cwd=INSTALLED) as process:
        process.url = process.wait_for("service.started")["url"]
        yield process
