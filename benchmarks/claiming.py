"""Claiming planned runs when very many rules have some: 20,000 rules and 200,000 planned runs of one account.

Beside it the claim in its plainest form: the newest planned runs of the account, locked and leased, fair to nobody.
"""

import time
from collections.abc import Iterator
from functools import partial

import psycopg
import uvloop
from sqlalchemy import text

from app.resources import open_resources
from app.runs.request_claim import claim_requests
from app.settings import load_settings
from benchmarks.harness import Row, against, alternate, below
from benchmarks.history import History, write_rules, write_runs
from benchmarks.stage import Stage

LIMIT = 16
ROUNDS = 7
_PLANNED = "update runs set state = 'planned', due_at = now() - interval '1 s', error = null"
_FREE = "update runs set lease_until = null, leased_by = null, asked_at = null where asked_at is not null"
_PLAIN = """
update runs set lease_until = now() + interval '1 minute', fence = fence + 1, asked_at = now() where id in (
    select id from runs where account = 'default' and state = 'planned' and due_at <= now() and lease_until is null
    order by rule_id, interval_end desc limit %s for update skip locked)
"""


def measure(stage: Stage) -> Iterator[Row]:
    """One claim of as many runs as a process asks for at once."""
    history = History(rules=2_000 if stage.short else 20_000, days=10)
    with stage.database() as url:
        write_rules(url, history)
        write_runs(url, range(history.days), files=False)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_PLANNED)
            connection.execute("vacuum analyze runs")
            given = alternate(ROUNDS, {"ours": partial(_claim, url, connection), "sql": partial(_plain, connection)})
    yield against(
        *(f"{history.rules:,} rules with {history.runs:,} planned runs, claim of {LIMIT}", given["ours"], "ms"),
        limit="the newest of them, in one statement",
        limits=given["sql"],
        less_is_better=True,
        aim=below(100, "ms"),
        aim_of_figure=True,
    )


def _claim(url: str, connection: psycopg.Connection[object]) -> float:
    seconds = uvloop.run(_claims(url))
    connection.execute(_FREE)
    return seconds * 1000


async def _claims(url: str) -> float:
    environ = {"DATABASE_URL": url, "STRIPE_API_KEY": "sk_test_x", "TALLYHOOK_REQUESTS_PER_SECOND": "0"}
    async with open_resources(load_settings(environ, env_file=None)) as res:
        async with res.sessions.begin() as session:
            await session.execute(text("select 1"))  # the connection is open
        began = time.perf_counter()
        claims = await claim_requests(res, LIMIT)
        seconds = time.perf_counter() - began
    assert len(claims) == LIMIT
    return seconds


def _plain(connection: psycopg.Connection[object]) -> float:
    began = time.perf_counter()
    connection.execute(_PLAIN, [LIMIT])
    seconds = time.perf_counter() - began
    connection.execute(_FREE)
    return seconds * 1000
