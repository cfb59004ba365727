"""What a figure was measured on: without it a figure says nothing."""

import os
import platform
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import psycopg

FSYNC_TRIES = 200


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine, its software, and how busy it was with other work when the benchmark began."""

    measured_at: str
    commit: str
    cores: int
    processor: str
    memory_gib: float
    system: str
    python: str
    postgresql: str
    fsync_us: float
    load_average: float

    def __str__(self) -> str:
        return (
            f"{self.cores} cores ({self.processor}), {self.memory_gib:g} GiB, {self.system}, Python {self.python}, "
            f"PostgreSQL {self.postgresql} with fsync ({self.fsync_us:.0f} µs), load average {self.load_average:.2f}; "
            f"commit {self.commit}, {self.measured_at}"
        )


def this_machine(folder: Path, url: str) -> Machine:
    """This machine as it is now; `folder` is on the disk of the database."""
    with psycopg.connect(url) as connection:
        version = connection.info.server_version
    return Machine(
        measured_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        commit=_commit(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        processor=_processor(),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        system=f"{platform.system()} {platform.release().partition('-')[0]}",
        python=platform.python_version(),
        postgresql=f"{version // 10000}.{version % 10000}",
        fsync_us=_fsync_seconds(folder) * 1e6,
        load_average=os.getloadavg()[0],
    )


def _commit() -> str:
    try:
        said = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return said.stdout.strip()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = (
        [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")] if cpuinfo.exists() else []
    )
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()


def _fsync_seconds(folder: Path) -> float:
    """How long one page takes to the disk: what every commit waits for."""
    probe = folder / "fsync-probe"
    taken = []
    with probe.open("wb", buffering=0) as file:
        for _ in range(FSYNC_TRIES):
            file.seek(0)
            file.write(os.urandom(8192))
            began = time.perf_counter()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - began)
    probe.unlink()
    return median(taken)
