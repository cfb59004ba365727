"""Folders for files that are made only to be sent. What a killed process left there is removed by the next one."""

import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

ABANDONED_AFTER_SECONDS = 3600.0


def new_folder(where: Path, prefix: str) -> Path:
    """A new folder in `where`, which the caller removes. Raises OSError."""
    for left in where.glob(f"{prefix}*"):
        with suppress(FileNotFoundError):  # another process was quicker
            if left.stat().st_mtime < time.time() - ABANDONED_AFTER_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=prefix, dir=where))
