"""Many own accounts, and many processes: what 5,000 keys cost when nothing happens, and ten workers on one database.

The simulator has one account and one key; the service has it under thousands of names, and treats each as a separate
account.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta

import httpx
import psycopg
import uvloop

from app.db.embedded import cluster
from app.db.embedded.server import EmbeddedPostgres
from app.stripe_api.rate_limit import FILES_SHARE
from benchmarks.harness import Row, alone, below
from benchmarks.rows import add_rules, one, rule, until
from benchmarks.stage import ADMIN_TOKEN, KEY, Process, Stage, postgres_cpu_seconds
from benchmarks.stripe import REPORT_TYPES, Wanted, first_day, midnight, stripe

# How often the service asks Stripe about each account.
ROUND_SECONDS = 1800
WORKERS = 10
CONNECTIONS = 13  # of a process at most
PACE = 12  # calls a second for each kind; three quarters of that for files: 540 runs a minute
_ASKED = "select count(*) from reconciliations where finished_at is not null"
_CONNECTIONS = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
_LONGEST_WAIT = """
select cast(extract(epoch from clock_timestamp() - waitstart) as float8), locktype,
    left(regexp_replace(query, '\\s+', ' ', 'g'), 100)
from pg_locks join pg_stat_activity using (pid)
where not granted and waitstart is not null and datname = current_database() order by waitstart limit 1
"""


def measure(stage: Stage) -> Iterator[Row]:
    """Memory, CPU time and the first report of one of many accounts; and ten workers' longest wait for a lock."""
    yield from _many_accounts(stage, 500 if stage.short else 5_000)
    runs = 100 if stage.short else 500
    yield from _many_workers(stage, runs, per_second=PACE)
    yield from _many_workers(stage, runs, per_second=0)


def _many_accounts(stage: Stage, accounts: int) -> Iterator[Row]:
    named = {f"m{n:05}": {"api_key": KEY} for n in range(accounts)}
    file = stage.folder / "accounts.json"
    file.write_text(json.dumps(named))
    what = f"{accounts:,} own accounts, idle"
    with stripe(Wanted(days=30)) as simulator, stage.database() as url, stage.service(
        "serve", "--port", "0", url=url, stripe=simulator.base,
        STRIPE_API_KEY="", STRIPE_WEBHOOK_SECRET="", STRIPE_ACCOUNTS_FILE=file,
    ) as service:  # fmt: skip
        began = time.perf_counter()
        # In the first half all keys are identified too, which happens only once in a process's life.
        until(lambda: int(one(url, _ASKED)) >= accounts // 2, "half of the accounts were asked about", seconds=600)
        half = int(one(url, _ASKED))
        cpu = service.cpu_seconds()
        until(lambda: int(one(url, _ASKED)) == accounts, "every account was asked about", seconds=600)
        took = time.perf_counter() - began
        a_round = (service.cpu_seconds() - cpu) * accounts / (accounts - half)
        cpu, watched = service.cpu_seconds(), 10 if stage.short else 30
        postgres = postgres_cpu_seconds(stage)
        time.sleep(watched)
        idle = (service.cpu_seconds() - cpu) / watched
        postgres = (postgres_cpu_seconds(stage) - postgres) / watched
        yield alone(f"{what}: resident memory", [service.resident_mib()], "MiB", aim=below(250, "MiB"))
        yield alone(
            f"{what}: share of a core, polling every half hour included",
            [(idle + a_round / ROUND_SECONDS) * 100],
            "%",
            aim=below(5, "%"),
            note=f"a round took {took:.0f} s and {a_round:.0f} s of the processor; idle {idle * 100:.1f} %, "
            f"PostgreSQL {postgres * 100:.1f} %",
        )
        waits = [_first_report(service, url, f"m{n * 7:05}") for n in range(1, 6)]
        yield alone(
            f"{accounts:,} own accounts: from a new rule of one of them to the request of its report",
            waits,
            "s",
            aim=below(1, "s"),
        )


def _first_report(service: Process, url: str, account: str) -> float:
    asked = {"account": account, "name": f"of-{account}", "report_type": REPORT_TYPES[0], "cadence": "daily"}
    began = time.perf_counter()
    answer = httpx.post(
        f"{service.url}/v1/rules",
        json={**asked, "starts_on": (midnight().date() - timedelta(days=1)).isoformat()},
        headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
        trust_env=False,
    )
    answer.raise_for_status()
    until(
        lambda: one(url, "select requested_at from runs where account = %s", account) is not None, account, every=0.01
    )
    return time.perf_counter() - began


def _many_workers(stage: Stage, runs: int, *, per_second: int) -> Iterator[Row]:
    """The longest wait for a lock, at this pace (the aim's), or as fast as two cores can (0)."""
    pace = f"{per_second * FILES_SHARE * 60:.0f} runs a minute" if per_second else "at full speed"
    what = f"{WORKERS} workers on one database, {pace}"
    stage.server.release()
    cluster.SETTINGS["max_connections"] = str(WORKERS * CONNECTIONS + 20)
    stage.server = EmbeddedPostgres(stage.folder / "postgres").acquire()
    days = runs // len(REPORT_TYPES) + 1
    with stripe(Wanted(days=days + 5)) as simulator, stage.database() as url, ExitStack() as workers:
        for _ in range(WORKERS):
            workers.enter_context(
                stage.service(
                    "worker", url=url, stripe=simulator.base,
                    TALLYHOOK_MAX_PENDING_RUNS=100, TALLYHOOK_REQUESTS_PER_SECOND=per_second,
                )
            )  # fmt: skip
        rules = [rule(f"rule-{name}", name, starts_on=first_day(days)) for name in REPORT_TYPES]
        made = uvloop.run(add_rules(url, *rules))  # in one transaction, for which the lanes wait: not counted
        # The first files of a type create its table, for which the others wait: only once, and not counted.
        stored = "select count(*) from runs where state = 'stored'"
        until(lambda: one(url, stored) >= made // 10, "the tables are there")
        longest: list[tuple[float, str, str]] = [(0.0, "", "")]
        most, done = [0], threading.Event()
        watching = threading.Thread(target=_watch, args=(url, longest, most, done))
        watching.start()
        began = time.perf_counter()
        until(lambda: one(url, stored) == made, "every run is stored")
        took = time.perf_counter() - began
        done.set()
        watching.join()
    counted = made - made // 10
    yield alone(
        f"{what}: the longest wait for a lock",
        [longest[0][0] * 1000],
        "ms",
        aim=below(100, "ms") if per_second else None,
        note=f"{longest[0][1]}: {longest[0][2]}; the runs took {took:.0f} s, {counted / took * 60:.0f} a minute",
    )
    yield alone(f"{what}: connections of one, at most", [most[0] / WORKERS], "", aim=below(CONNECTIONS + 1))


def _watch(url: str, longest: list[tuple[float, str, str]], most: list[int], done: threading.Event) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        while not done.is_set():
            found = connection.execute(_CONNECTIONS).fetchone()
            most[0] = max(most[0], found[0] if found is not None else 0)
            row = connection.execute(_LONGEST_WAIT).fetchone()
            if row is not None and row[0] > longest[0][0]:
                longest[0] = row
            time.sleep(0.005)
