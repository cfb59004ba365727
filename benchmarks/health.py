"""`/health` and `/metrics` with 20,000 rules, 2 million runs and loads, 300,000 events and verdicts, through the API.

A judgement that took long is kept for a few seconds, so answers that need a new one are also measured separately.

Beside each stand the statements that the answer was made of, by themselves on a bare connection. `--profile` prints
their plans. `--short` uses a tenth of it.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial

import httpx
import psycopg

from app.health.judgements import KEPT_SECONDS
from benchmarks.harness import Row, against, alone, alternate, below, number, quantile
from benchmarks.history import History, write_events, write_loads, write_rules, write_runs
from benchmarks.lists import execute, explain, statements_of, times
from benchmarks.stage import ADMIN_TOKEN, Stage

AIM = below(300, "ms")
ASKED = 20
JUDGED = 5


def measure(stage: Stage) -> Iterator[Row]:
    """p95 of each route, and of its statements."""
    history = History(rules=2000, days=100, types=20) if stage.short else History(rules=20_000, days=100, types=20)
    events = 30_000 if stage.short else 300_000
    with stage.database() as url:
        write_rules(url, history)
        write_runs(url, range(history.days), files=False)
        write_loads(url, verdicts=events)
        write_events(url, events)
        with (
            stage.service("serve", "--no-worker", "--port", "0", url=url) as service,
            httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}) as api,
            psycopg.connect(url, autocommit=True) as connection,
        ):
            for path in ("/health", "/metrics"):
                statements = asyncio.run(statements_of(url, path))
                if stage.profile:
                    explain(connection, path, statements)
                contenders: dict[str, Callable[[], list[float]]] = {
                    "ours": partial(times, ASKED, partial(_get, api, path)),
                    "sql": partial(times, ASKED, partial(execute, connection, statements)),
                }
                taken = alternate(1, contenders)
                p95 = {name: [quantile(each, 0.95) for each in rounds] for name, rounds in taken.items()}
                yield against(
                    f"{path}, {history.rules:,} rules, {history.runs:,} runs, {events:,} events: p95",
                    p95["ours"],
                    "ms",
                    limit="its statements alone, p95",
                    limits=p95["sql"],
                    less_is_better=True,
                    aim=AIM,
                    aim_of_figure=True,
                    note=f"p50 {number(min(quantile(each, 0.5) for each in taken['ours']))} ms",
                )
                judged = [_after_a_pause(partial(_get, api, path)) for _ in range(JUDGED)]
                yield alone(f"{path}: the longest of {JUDGED} that nothing was kept for", [max(judged)], "ms", aim=AIM)


def _after_a_pause(ask: Callable[[], None]) -> float:
    """Milliseconds that it takes once no judgement is kept."""
    time.sleep(KEPT_SECONDS)
    began = time.perf_counter()
    ask()
    return (time.perf_counter() - began) * 1000


def _get(api: httpx.Client, path: str) -> None:
    api.get(path).raise_for_status()
