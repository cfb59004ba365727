"""What the service costs when nothing happens (memory, queries), and how long it takes to be ready."""

import time
from collections.abc import Iterator

import httpx

from benchmarks.harness import Row, alone, below
from benchmarks.rows import one
from benchmarks.stage import Stage
from benchmarks.stripe import Wanted, stripe

STARTS = 3
# By then the work of the start is over.
SETTLE_SECONDS = 5


def measure(stage: Stage) -> Iterator[Row]:
    """Start to ready, resident memory, queries a minute; `serve` with its worker, on an existing database."""
    watched = 10 if stage.short else 30
    with stripe(Wanted(days=30)) as simulator, stage.database(count_statements=True) as url:
        starts = [_seconds_to_ready(stage, url, simulator.base) for _ in range(STARTS)]
        yield alone("start to ready, on a database that is there", starts, "s", aim=below(1, "s"))
        with stage.service("serve", "--port", "0", url=url, stripe=simulator.base) as service:
            time.sleep(SETTLE_SECONDS)
            before, cpu = _statements(url), service.cpu_seconds()
            time.sleep(watched)
            # The measuring query itself is one of them.
            a_minute = (_statements(url) - before - 1) * 60 / watched
            busy = (service.cpu_seconds() - cpu) / watched
            yield alone(
                "idle: resident memory of serve, worker included",
                [service.resident_mib()],
                "MiB",
                aim=below(150, "MiB"),
            )
            yield alone("idle: queries a minute, begin and commit included", [a_minute], "", aim=below(200))
            yield alone("idle: share of a core", [busy * 100], "%")
        if stage.profile:
            print(one(url, _WHICH))


def _seconds_to_ready(stage: Stage, url: str, stripe_base: str) -> float:
    # Made before: a client reads every certificate authority of the machine, which is not the service's time.
    with httpx.Client(trust_env=False) as client:
        began = time.perf_counter()
        with stage.service("serve", "--port", "0", url=url, stripe=stripe_base) as service:
            while client.get(f"{service.url}/health/ready").status_code != 200:
                time.sleep(0.01)
            return time.perf_counter() - began


def _statements(url: str) -> float:
    return float(one(url, "select sum(calls) from pg_stat_statements where toplevel"))


_WHICH = """
select string_agg(calls || ' × ' || left(regexp_replace(query, '\\s+', ' ', 'g'), 150), chr(10) order by calls desc)
from pg_stat_statements
"""
