"""Platforms: a day planned for 50,000 connected accounts, one account's lines from a file for 5,000, and the whole path
with 10,000 accounts on the simulator: a run for `each`, and one run for all of them `together`.
"""

import asyncio
import json
import resource
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.request import urlopen

import psycopg
import uvloop

from app.db.engine import make_engine, make_sessions
from app.files.account_lines import AccountLines
from app.rules import schedule
from app.settings import load_settings
from benchmarks.harness import Row, alone, at_least, below
from benchmarks.rows import add_rules, one, rule, until
from benchmarks.stage import Stage
from benchmarks.stripe import CONNECTED_TYPE, Stripe, Wanted, first_day, midnight, stripe

PIECE = 256 * 1024


def measure(stage: Stage) -> Iterator[Row]:
    """Planning, filtering, and both kinds of rule from the list of accounts to the last file."""
    yield from _planning(stage, accounts=5_000 if stage.short else 50_000)
    yield from _filtering(accounts=5_000)
    accounts = 500 if stage.short else 10_000
    with stripe(Wanted(days=30, connected=accounts)) as simulator:
        for kind in ("each", "together"):
            yield from _story(stage, simulator, accounts, kind)


def _planning(stage: Stage, *, accounts: int) -> Iterator[Row]:
    """One day for every connected account, from the data's advance to the last run."""
    what = f"planning a day of {accounts:,} connected accounts"
    with stage.database() as url:
        with psycopg.connect(url) as connection:
            connection.execute("insert into accounts (slug) values ('default')")
            connection.execute(_ACCOUNTS, {"accounts": accounts, "at": midnight() - timedelta(days=400)})
            connection.execute(_TYPE, {"id": CONNECTED_TYPE, "start": first_day(300), "end": first_day(1)})
        asyncio.run(add_rules(url, _rule("each", starts_on=first_day(1))))
        with psycopg.connect(url) as connection:
            connection.execute("update report_types set data_available_end = %s", (midnight(),))
        seconds, most = uvloop.run(_plan(url))
        assert one(url, "select count(*) from runs") == accounts
    yield alone(what, [seconds], "s", aim=below(30, "s"))
    yield alone(f"{what}: what the process grew by", [most], "MiB", aim=below(20, "MiB"))


async def _plan(url: str) -> tuple[float, float]:
    settings = load_settings({"DATABASE_URL": url, "STRIPE_API_KEY": "sk_test_x"}, env_file=None)
    engine = make_engine(url, pool_size=1)
    try:
        async with make_sessions(engine)() as session:
            await session.connection()
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            began = time.perf_counter()
            while await schedule.plan_any(session, attempts=settings.max_run_attempts):
                await session.commit()
            seconds = time.perf_counter() - began
            return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    finally:
        await engine.dispose()


def _filtering(*, accounts: int) -> Iterator[Row]:
    """One account's lines from a file for all accounts, in the pieces in which files are kept."""
    line = '"acct_{:08}","txn_{:016}","2026-10-01 12:00:00","usd","12.34","0.56","11.78","charge"\n'
    header = '"connected_account","balance_transaction_id","created","currency","gross","fee","net","category"\n'
    lines = (line.format(number // 100, number) for number in range(accounts * 100))
    file = (header + "".join(lines)).encode()
    rates = []
    for _ in range(3):
        found, began = AccountLines(f"acct_{accounts // 2:08}"), time.perf_counter()
        kept = b"".join(found.take(file[at : at + PIECE]) for at in range(0, len(file), PIECE)) + found.end()
        rates.append(len(file) / 1e6 / (time.perf_counter() - began))
        assert kept.count(b"\n") == 101
    yield alone(
        f"one of {accounts:,} accounts out of a file of {len(file) / 1e6:.0f} MB",
        rates,
        "MB/s",
        aim=at_least(100, "MB/s"),
    )


def _story(stage: Stage, simulator: Stripe, accounts: int, kind: str) -> Iterator[Row]:
    """From a new rule, with nothing known yet, to the last file of a day."""
    what = f"a day of {accounts:,} connected accounts, {kind}"
    runs = accounts if kind == "each" else 1
    with stage.database() as url:
        before = _calls(simulator)
        worker = stage.service("worker", url=url, stripe=simulator.base, TALLYHOOK_MAX_PENDING_RUNS=50)
        with worker as process:
            until(lambda: bool(one(url, "select count(*) from report_types")), "report types are known")
            began = time.perf_counter()
            asyncio.run(add_rules(url, _rule(kind, starts_on=first_day(1))))
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(
                    "update timetable set due_at = now(), started_at = null where name = 'connected_accounts'"
                )
                connection.execute("select pg_notify('tallyhook', 'timetable')")
            until(
                lambda: one(url, "select count(*) from runs where state = 'stored'") == runs,
                "all are stored",
                seconds=1_200,
                every=0.5,
            )
            seconds, peak = time.perf_counter() - began, process.peak_mib()
        calls = {name: number - before.get(name, 0) for name, number in _calls(simulator).items()}
    made = {name: number for name, number in sorted(calls.items()) if number}
    yield alone(what, [seconds], "s", note=", ".join(f"{name} {number:,}" for name, number in made.items()))
    yield alone(f"{what}: calls to Stripe", [float(sum(made.values()))], "calls")
    yield alone(f"{what}: most memory of the worker", [peak], "MiB")


def _rule(kind: str, **changes: Any) -> Any:
    return rule(kind, CONNECTED_TYPE, connected=kind, **changes)


def _calls(simulator: Stripe) -> dict[str, int]:
    with urlopen(f"{simulator.base}/_control/state") as answer:
        found: dict[str, int] = json.load(answer)["calls_by_route"]
        return found


_ACCOUNTS = """
insert into connected_accounts (account, id, stripe_created_at, source, seen_at)
select 'default', 'acct_' || lpad(n::text, 8, '0'), %(at)s, 'list', now() from generate_series(1, %(accounts)s) as n
"""
_TYPE = """
insert into report_types (account, id, data_available_start, data_available_end)
values ('default', %(id)s, %(start)s, %(end)s)
"""
