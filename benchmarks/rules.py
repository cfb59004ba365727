"""Long work of rules: planning 1,000 connected accounts × 365 days, and deleting a rule with 100,000 planned runs.

Beside planning, one SQL statement that makes as many runs with their first moves; meanwhile `/health/live` is polled,
and the process's memory watched. Deleting is answered at once, and finished by the rules lane.
"""

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import timedelta

import psycopg

from benchmarks.harness import Row, against, alone, below
from benchmarks.rows import one, until
from benchmarks.stage import ADMIN_TOKEN, Process, Stage
from benchmarks.stripe import first_day, midnight

TYPE = "bench.type_0.1"
_MAKE = """
with made as (
    insert into runs (id, account, report_type, window_key, interval_start, interval_end, timezone, parameters, state,
        attempts_granted, due_at)
    select gen_random_uuid(), 'default', 'bench.other.1', 'plain ' || n, now(), now(), 'UTC',
        jsonb_build_object('interval_start', n, 'interval_end', n), 'planned', 3, now() + interval '1 year'
    from generate_series(1, %s) as n returning id, account
)
insert into run_moves (run_id, account, to_state, attempt, reason)
select id, account, 'planned', 1, 'the window is due' from made
"""
_TYPE = """
insert into report_types (account, id, data_available_start, data_available_end) values ('default', %s, %s, %s)
"""
# Counting so many runs takes a tenth of a second itself.
_EVERY = 1.0
_RUNS = "select count(*) from runs where rule_id is not null and state = %s"


def measure(stage: Stage) -> Iterator[Row]:
    """Planning first, then the deletion of what was planned."""
    accounts, days = (100, 365) if stage.short else (1000, 365)
    with stage.database() as url, stage.service("serve", "--port", "0", url=url) as service:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_TYPE, (TYPE, midnight() - timedelta(days=800), midnight()))
        yield from _planning(service, url, accounts, days)
        yield from _deleting(service, url)


def _planning(service: Process, url: str, accounts: int, days: int) -> Iterator[Row]:
    wanted = accounts * days
    with psycopg.connect(url, autocommit=True) as connection:
        began = time.perf_counter()
        connection.execute(_MAKE, (wanted,))
        plain = time.perf_counter() - began
    with _Alive(service) as alive:
        began = time.perf_counter()
        body = {
            "name": "many", "report_type": TYPE, "cadence": "daily", "starts_on": str(first_day(days)),
            "connected_accounts": [f"acct_{number}" for number in range(accounts)],
        }  # fmt: skip
        answered = _ask(service, "POST", "/v1/rules", body)
        until(lambda: one(url, _RUNS, "planned") == wanted, "every window is planned", every=_EVERY)
        taken = time.perf_counter() - began
    what = f"planning {accounts:,} connected accounts × {days} days"
    yield against(what, [taken], "s", limit="one SQL statement", limits=[plain], less_is_better=True)
    yield alone(f"{what}: POST is answered after", [answered], "s", aim=below(1, "s"))
    yield alone(f"{what}: most memory of the process", [service.peak_mib()], "MiB", aim=below(150, "MiB"))
    yield alone(f"{what}: longest wait for /health/live", [alive.longest * 1000], "ms", aim=below(100, "ms"))


def _deleting(service: Process, url: str) -> Iterator[Row]:
    runs = one(url, _RUNS, "planned")
    with _Alive(service) as alive:
        began = time.perf_counter()
        answered = _ask(service, "DELETE", "/v1/rules/many", None)
        until(lambda: one(url, _RUNS, "planned") == 0, "every run is cancelled", every=_EVERY)
        taken = time.perf_counter() - began
    what = f"deleting a rule with {runs:,} planned runs"
    yield alone(f"{what}: answered after", [answered], "s", aim=below(1, "s"))
    yield alone(f"{what}: done after", [taken], "s")
    yield alone(f"{what}: longest wait for /health/live", [alive.longest * 1000], "ms", aim=below(100, "ms"))


class _Alive:
    """Polls `/health/live` all the time, and keeps the longest wait in seconds."""

    def __init__(self, service: Process) -> None:
        self.longest = 0.0
        self._url = f"{service.url}/health/live"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> "_Alive":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._over.wait(0.02):
            began = time.perf_counter()
            urllib.request.urlopen(self._url, timeout=30).read()
            self.longest = max(self.longest, time.perf_counter() - began)


def _ask(service: Process, method: str, path: str, body: object) -> float:
    """Seconds until the admin API has answered."""
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(service.url + path, data, headers, method=method)
    began = time.perf_counter()
    urllib.request.urlopen(request, timeout=60).read()
    return time.perf_counter() - began
