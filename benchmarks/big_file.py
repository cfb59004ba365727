"""A file of 4 GiB through one `serve` process: in from the files server, out again through the API, whole and packed.

    python -m benchmarks.big_file             # --gib for another size, --store for an object store instead

It measures the most memory that the process ever had: a file of any size must pass through a small amount, and each
concurrent reader may add a few pieces.
"""

import argparse
import asyncio
import logging
import subprocess
import time
from datetime import timedelta

from app.observability.logs import configure_logs
from benchmarks.rows import add_rules, one, rule, until
from benchmarks.stage import ADMIN_TOKEN, Process, Stage
from benchmarks.stripe import Wanted, first_day, stripe

TYPE = "balance_change_from_activity.itemized.7"
AIM_MIB = 150
PATIENCE = timedelta(minutes=20)
READERS = 4


def main() -> None:
    """Print how long each way took, and the peak memory after it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=4.0)
    parser.add_argument("--store", metavar="URL", help="as TALLYHOOK_FILE_STORE takes it; unset: PostgreSQL")
    options = parser.parse_args()
    configure_logs()
    logging.getLogger().setLevel(logging.ERROR)
    size = int(options.gib * 2**30)
    more = {} if options.store is None else {"TALLYHOOK_FILE_STORE": options.store}
    with (
        Stage() as stage,
        stripe(Wanted(days=10, bytes_of={TYPE: size})) as simulator,
        stage.database() as url,
        stage.service("serve", "--port", "0", url=url, stripe=simulator.base, **more) as service,
    ):
        print(f"{'what':32} {'s':>6} {'MB/s':>6} {'most memory, MiB':>17}")
        _line("idle", 0.0, 0, service)
        began = time.perf_counter()
        asyncio.run(add_rules(url, rule("big", TYPE, starts_on=first_day(1))))
        stored = "select count(*) from runs where state = 'stored'"
        until(lambda: bool(one(url, stored)), "the file is stored", every=1.0, seconds=PATIENCE.total_seconds())
        _line(f"store {options.gib:g} GiB", time.perf_counter() - began, size, service)
        assert service.peak_mib() < AIM_MIB, f"more than {AIM_MIB} MiB"
        where = f"{service.url}/v1/runs/{one(url, 'select id from runs')}/file"
        for what, readers, header in (
            ("read it", 1, "Accept-Encoding: identity"),
            ("read it as zstd", 1, "Accept-Encoding: zstd"),
            (f"read it {READERS} times at once", READERS, "Accept-Encoding: zstd"),
        ):
            _line(what, _read(where, header, readers), size * readers, service)


def _read(url: str, header: str, readers: int) -> float:
    command = [
        "curl",
        "--silent",
        "--fail",
        "--output",
        "/dev/null",
        "--header",
        f"Authorization: Bearer {ADMIN_TOKEN}",
    ]
    began = time.perf_counter()
    reading = [subprocess.Popen([*command, "--header", header, url]) for _ in range(readers)]
    assert [process.wait() for process in reading] == [0] * readers
    return time.perf_counter() - began


def _line(what: str, seconds: float, size: int, service: Process) -> None:
    rate = f"{size / seconds / 1_000_000:6.0f}" if seconds else f"{'':6}"
    print(f"{what:32} {seconds:6.1f} {rate} {service.peak_mib():17.0f}", flush=True)


if __name__ == "__main__":
    main()
