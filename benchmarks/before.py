"""An older commit of this repository as a second subject in the same run: only that shows what a change has gained.

with stage.database(empty=True) as url, stage.service(*SERVE, url=url, root=before.unpacked(stage)) as service: …

It runs in today's environment, on a database of its own that it migrates itself when it starts.
"""

import io
import subprocess
import tarfile
from pathlib import Path

from benchmarks.stage import ROOT, Stage

# The last commit before the work on speed began.
COMMIT = "330d95e"
NAME = f"{COMMIT}, the version of 21 November"
PARTS = ("app", "migrations", "benchmarks", "pyproject.toml")


def why_not() -> str | None:
    """Why it cannot be measured here; None when it can."""
    try:
        known = subprocess.run(["git", "cat-file", "-e", f"{COMMIT}:app"], cwd=ROOT, capture_output=True, check=False)
    except OSError:
        return "needs git"
    return None if known.returncode == 0 else f"needs a clone that has commit {COMMIT}"


def unpacked(stage: Stage) -> Path:
    """The folder with that commit's program; removed with the stage."""
    folder = stage.folder / COMMIT
    if not folder.exists():
        packed = subprocess.run(["git", "archive", COMMIT, *PARTS], cwd=ROOT, capture_output=True, check=True)
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
            archive.extractall(folder, filter="data")
    return folder
