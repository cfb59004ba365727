"""The service against the simulator, on a database of its own: step by step, or with its worker running."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import RowMapping, text

from app import handlers
from app.accounts import reconciliations
from app.db.models import Rule
from app.queue.timetable import make_due
from app.resources import Resources
from app.rules import schedule, store
from app.rules.rule import NewRule
from app.rules.slices import work_slice
from app.runs.download import claim_downloads, download
from app.runs.lookup import claim_lookups, look_up
from app.runs.request import request_run
from app.runs.request_claim import claim_requests
from app.settings import Settings, load_settings
from app.simulator import Simulator
from app.upkeep.reconcile import ACCOUNTS_AT_ONCE, ask, reconcile
from app.worker.recurring import recurring
from app.worker.steps import timetable, work
from tests.until import PATIENCE_SECONDS, until

ADMIN_TOKEN = "a-token-for-tests-of-40-characters-here!"
READ_TOKEN = "r-token-for-tests-of-40-characters-here!"
WEBHOOK_SECRET = "whsec_for_tests"
REPORT_TYPE = "balance_change_from_activity.itemized.7"


def make_settings(database_url: str, simulator: Simulator, **overrides: object) -> Settings:
    """Settings for tests: quick back-off, no client-side rate limit; `overrides` are named like the settings."""
    return load_settings(make_environ(database_url, simulator, **overrides), env_file=None)


def make_environ(database_url: str, simulator: Simulator, **overrides: object) -> dict[str, str]:
    """The same as environment variables, for a process of the service."""
    environ = {
        "DATABASE_URL": database_url,
        "STRIPE_API_KEY": next(iter(simulator.world.keys)),
        "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "STRIPE_API_BASE": simulator.world.base_url,
        "STRIPE_FILES_BASE": simulator.world.base_url,
        "TALLYHOOK_ADMIN_TOKEN": ADMIN_TOKEN,
        "TALLYHOOK_READ_TOKEN": READ_TOKEN,
        "TALLYHOOK_REQUESTS_PER_SECOND": "0",
        "TALLYHOOK_RETRY_BASE_SECONDS": "0.1",
        "TALLYHOOK_RETRY_MAX_SECONDS": "0.2",
        "TALLYHOOK_PENDING_POLL_SECONDS": "0.1",
    }
    return {**environ, **{name: str(value) for name, value in overrides.items()}}


async def add_rule(res: Resources, **changes: Any) -> Rule:
    """A rule, valid by default, planned at once as the admin API would."""
    values: dict[str, Any] = {
        "account": "default",
        "name": f"rule {changes}",
        "report_type": REPORT_TYPE,
        "enabled": True,
        "cadence": "daily",
        "timezone": "UTC",
        "starts_on": date(2026, 3, 1),
        "settle_hours": 0,
        "parameters": {},
        "connected_accounts": [],
        "retention_days": None,
    }
    async with res.sessions.begin() as session:
        rule = await store.create(session, NewRule(**{**values, **changes}))
        await schedule.plan_rule(session, rule.id, attempts=res.settings.max_run_attempts)
    return rule


async def request_due(res: Resources) -> int:
    """Request from Stripe every planned run that may be requested now."""
    claims = await claim_requests(res, 100)
    for claim in claims:
        await request_run(res, claim)
    return len(claims)


async def look_up_due(res: Resources) -> int:
    """Look up every requested run that is due to be looked up."""
    claims = await claim_lookups(res, 100)
    for claim in claims:
        await look_up(res, claim)
    return len(claims)


async def download_due(res: Resources) -> int:
    """Download every ready run's file."""
    claims = await claim_downloads(res, 100, big=False) + await claim_downloads(res, 100, big=True)
    for claim in claims:
        await download(res, claim)
    return len(claims)


async def timetable_due(res: Resources) -> int:
    """Do every entry of the timetable that is due; returns how many were done."""
    entries = recurring(timetable(res))
    return sum([bool(await entries.step(res, claim)) for claim in await entries.claim(res, entries.slots)])


async def ask_due(res: Resources) -> int:
    """Ask about every account that is due; returns how many were asked about, whatever Stripe said."""
    claims = await reconciliations.claim_accounts(res, ACCOUNTS_AT_ONCE)
    await asyncio.gather(*(ask(res, claim) for claim in claims))
    return len(claims)


async def make_timetable_due(res: Resources) -> None:
    """As at the start of a worker."""
    async with res.sessions.begin() as session:
        await make_due(session, *(entry.name for entry in timetable(res)))


async def turn(res: Resources) -> int:
    """Every lane's step once; returns how much was done."""
    taken = await handlers.drain(res) + await work_slice(res)
    return taken + await request_due(res) + await look_up_due(res) + await download_due(res)


async def work_off(res: Resources) -> None:
    """Turn until every run has ended; fails the test if that does not happen."""
    await reconcile(res)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                if not await turn(res):
                    if not await fetch(res, "select 1 from runs where state in ('planned', 'requested', 'ready')"):
                        return
                    await asyncio.sleep(0.02)
    except TimeoutError as error:
        runs = await fetch(res, "select id, state, attempt, error from runs")
        raise AssertionError(f"still under way: {runs}") from error


async def work_until_found(res: Resources, query: str, **values: Any) -> None:
    """Turn until the query finds a row; no fixed number would do, as lookups and retries follow the clock."""

    async def found() -> bool:
        await turn(res)
        return bool(await fetch(res, query, **values))

    await until(found, query)


@asynccontextmanager
async def working(res: Resources) -> AsyncIterator[None]:
    """The worker, running beside the test."""
    task = asyncio.create_task(work(res))
    try:
        yield
    finally:
        res.stopping.set()
        res.wakeups.ring()
        await task


async def fetch(res: Resources, query: str, **values: Any) -> list[RowMapping]:
    """The rows of a query."""
    async with res.sessions.begin() as session:
        return list((await session.execute(text(query), values)).mappings().all())


async def until_found(res: Resources, query: str, **values: Any) -> None:
    """Wait until the query finds a row."""

    async def found() -> bool:
        return bool(await fetch(res, query, **values))

    await until(found, query)


async def execute(res: Resources, statement: str, **values: Any) -> None:
    """Change rows by hand: what a test cannot wait for."""
    async with res.sessions.begin() as session:
        await session.execute(text(statement), values)


async def only_run(res: Resources) -> RowMapping:
    """The only run."""
    (run,) = await fetch(res, "select * from runs")
    return run


async def history(res: Resources) -> list[str]:
    """The states that the one run went through, in order."""
    return [move["to_state"] for move in await fetch(res, "select to_state from run_moves order by id")]


def at(day: str) -> datetime:
    """An instant in UTC: `at("2026-03-02")`, `at("2026-03-02T12:00")`."""
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def unpublished(simulator: Simulator, report_type: str = REPORT_TYPE, *, until: str = "2026-03-01") -> None:
    """Set a report type's data to end at `until`, without announcing it."""
    kind = simulator.report_type(report_type)
    kind.data_available_start = int(at("2026-01-01").timestamp())
    kind.data_available_end = int(at(until).timestamp())


def calls_of(simulator: Simulator) -> Mapping[str, int]:
    """How many calls the simulator has answered, by route."""
    return simulator.world.journal.counts
