"""Lists and coverage with a million runs, through the API: every filter, far pages, a rule's coverage.

Beside each are the answer's statements alone, on a bare connection. `--profile` prints
their plans.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlencode

import httpx
import psycopg
from sqlalchemy import event

from app.api.http.paging import make_cursor
from app.main import build_app
from app.resources import open_resources
from app.settings import load_settings
from app.vocabulary import RunOrder
from benchmarks.harness import Row, against, alternate, below, number, quantile
from benchmarks.history import History, write_rules, write_runs
from benchmarks.rows import one
from benchmarks.stage import ADMIN_TOKEN, Stage

AIM = below(50, "ms")
Statement = tuple[str, Any]


def measure(stage: Stage) -> Iterator[Row]:
    """p99 of each, and of its statements."""
    history = History(rules=100, days=1000) if stage.short else History(rules=1000, days=1000, types=20)
    asked = 50 if stage.short else 200
    with stage.database() as url:
        write_rules(url, history)
        write_runs(url, range(history.days))
        with (
            stage.service("serve", "--no-worker", "--port", "0", url=url) as service,
            httpx.Client(base_url=service.url, headers=_HEADERS, trust_env=False) as api,
            psycopg.connect(url, autocommit=True) as connection,
        ):
            for name, path in _paths(url, history).items():
                statements = asyncio.run(statements_of(url, path))
                if stage.profile:
                    explain(connection, name, statements)
                contenders: dict[str, Callable[[], list[float]]] = {
                    "ours": partial(times, asked, partial(_get, api, path)),
                    "sql": partial(times, asked, partial(execute, connection, statements)),
                }
                yield _row(f"{history.runs:,} runs, {name}", alternate(1, contenders))


_HEADERS = {"Authorization": f"Bearer {ADMIN_TOKEN}"}


def _paths(url: str, history: History) -> Mapping[str, str]:
    rule_id, run_id = (
        one(url, "select id from rules limit 1"),
        one(url, "select id from runs order by id offset 1000 limit 1"),
    )
    failed_rule = one(url, "select rule_id from runs where state = 'failed' order by id limit 1")
    far = {"cursor": make_cursor(f"runs{RunOrder.PLANNED}", str(run_id)), "limit": 100}
    wanted: dict[str, dict[str, object]] = {
        "no filter": {},
        "state=stored": {"state": "stored"},
        "state=failed": {"state": "failed"},
        "state=planned": {"state": "planned"},
        "rule_id": {"rule_id": rule_id},
        "report_type": {"report_type": "bench.type_0.1"},
        "account": {"account": "default"},
        "account of nobody": {"account": "nobody"},
        "connected_account": {"connected_account": "acct_1Nobody"},
        "rule_id and state=failed": {"rule_id": failed_rule, "state": "failed"},
        "report_type and state=failed": {"report_type": "bench.type_0.1", "state": "failed"},
        "account and state=cancelled": {"account": "default", "state": "cancelled"},
        "state=ready (none)": {"account": "default", "state": "ready"},
        "100 from far back": far,
        "state=stored, 100 from far back": {**far, "state": "stored"},
    }
    lists = {f"list, {name}": f"/v1/runs?{urlencode(query)}" for name, query in wanted.items()}
    coverage = f"/v1/rules/{rule_id}/coverage"
    return {**lists, "coverage": coverage, "coverage, 100 windows": f"{coverage}?limit=100"}


async def statements_of(url: str, path: str) -> list[Statement]:
    """Every statement that the service sends for the answer."""
    environ = {"DATABASE_URL": url, "STRIPE_API_KEY": "sk_test_x", "TALLYHOOK_ADMIN_TOKEN": ADMIN_TOKEN}
    seen: list[Statement] = []
    async with open_resources(load_settings(environ, env_file=None)) as res:

        def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            if statement.lstrip().lower().startswith(("select", "with")):  # no savepoint, no time limit
                seen.append((statement, parameters))

        event.listen(res.engine.sync_engine, "before_cursor_execute", note)
        transport = httpx.ASGITransport(build_app(res))
        async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=_HEADERS) as client:
            (await client.get(path)).raise_for_status()
    return seen


def _get(api: httpx.Client, path: str) -> None:
    api.get(path).raise_for_status()


def execute(connection: psycopg.Connection[Any], statements: list[Statement]) -> None:
    for statement, parameters in statements:
        connection.execute(statement, parameters).fetchall()


def explain(connection: psycopg.Connection[Any], name: str, statements: list[Statement]) -> None:
    for statement, parameters in statements:
        plan = connection.execute(f"explain (analyze, buffers) {statement}", parameters).fetchall()
        print(f"\n{name}\n" + "\n".join(line for (line,) in plan))


def times(count: int, ask: Callable[[], object]) -> list[float]:
    ask()
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        ask()
        taken.append((time.perf_counter() - began) * 1000)
    return taken


def _row(what: str, given: Mapping[str, list[list[float]]]) -> Row:
    p99 = {name: [quantile(each, 0.99) for each in rounds] for name, rounds in given.items()}
    p50 = [quantile(each, 0.5) for each in given["ours"]]
    note = f"p50 {number(min(p50))} ms"
    return against(
        *(f"{what}: p99", p99["ours"], "ms"),
        limit="its statements alone, p99",
        limits=p99["sql"],
        less_is_better=True,
        aim=AIM,
        aim_of_figure=True,
        note=note,
    )
