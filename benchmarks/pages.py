"""The pages with 1,000 rules and a million runs: how long the service takes for each, and what goes over the wire."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import psycopg

from benchmarks.harness import Row, alone, below, number, quantile
from benchmarks.history import History, write_rules, write_runs
from benchmarks.rows import one
from benchmarks.stage import ADMIN_TOKEN, Stage

TIME, WEIGHT = below(150, "ms"), below(300, "kB")


def measure(stage: Stage) -> Iterator[Row]:
    """Median of each page, and its size as it is sent."""
    history = History(rules=100, days=100) if stage.short else History(rules=1000, days=1000, types=20)
    asked = 5 if stage.short else 30
    with stage.database() as url:
        write_rules(url, history)
        write_runs(url, range(history.days))
        with psycopg.connect(url) as connection:
            connection.execute(_CHUNK)
        with (
            stage.service("serve", "--no-worker", "--port", "0", url=url) as service,
            httpx.Client(base_url=service.url, headers=_BROWSER, trust_env=False, timeout=60) as browser,
        ):
            form = {"Sec-Fetch-Site": "same-origin"}
            browser.post("/login", data={"token": ADMIN_TOKEN}, headers=form)
            for name, path in _paths(url).items():
                yield from _rows(browser, f"{history.runs:,} runs, page {name}", path, asked)


# The bytes of the one file that is read.
_CHUNK = """
insert into file_chunks (file_id, raw_start, raw_size, codec, data)
select id, 0, 5307, 0, convert_to(repeat('1,2,3' || chr(10), 884) || '1,2', 'UTF8') from files
where run_id = (select id from runs where state = 'stored' order by id limit 1)
"""
_BROWSER = {"Accept": "text/html", "Accept-Encoding": "gzip"}


def _paths(url: str) -> dict[str, str]:
    rule_id, run_id = (
        one(url, "select id from rules limit 1"),
        one(url, "select id from runs where state = 'stored' order by id limit 1"),
    )
    failed = one(url, "select id from runs where state = 'failed' order by id desc limit 1")
    last_month = datetime.now(UTC).replace(day=1) - timedelta(days=1)
    return {
        "Today": "/",
        "Today, the last hundred rules": "/?page=10",
        "rules": "/rules",
        "a rule": f"/rules/{rule_id}",
        "a run": f"/runs/{run_id}",
        "a failed run": f"/runs/{failed}",
        "a month": f"/months/{last_month:%Y-%m}",
        "runs": "/runs",
        "failed runs": "/runs?state=failed",
        "events": "/events",
        "checks": "/checks",
        "tables": "/tables",
        "accounts": "/accounts",
        "setup": "/setup",
    }


def _rows(browser: httpx.Client, what: str, path: str, asked: int) -> Iterator[Row]:
    taken, size = [], 0
    for _ in range(asked):
        began = time.perf_counter()
        with browser.stream("GET", path) as answer:
            size = sum(len(piece) for piece in answer.iter_raw())
        taken.append((time.perf_counter() - began) * 1000)
        assert answer.status_code == 200, (path, answer.status_code)
    note = f"p99 {number(quantile(taken, 0.99))} ms, {size / 1000:.1f} kB"
    yield alone(f"{what}", [quantile(taken, 0.5)], "ms", aim=TIME, note=note)
    if size / 1000 >= WEIGHT.value:
        yield alone(f"{what}: weight", [size / 1000], "kB", aim=WEIGHT)
