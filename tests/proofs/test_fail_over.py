"""The database's primary is killed while runs pass through three workers and two web servers, and a standby takes over:
nothing is lost and nothing is made twice. With a synchronous standby nothing is missing; an asynchronous one lacks the
last commits, which is noticed by its timeline and made up for by Stripe's list.

`PROOF_RUNS=500` makes it the long variant.
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.db.errors import is_transient
from app.resources import Resources, open_resources
from app.simulator import Simulator
from tests.proofs.processes import ServiceProcess, Tripwire, cleared_away, has_settled
from tests.proofs.promises import broken_promises, owed_days
from tests.proofs.servers import Pair, servers_folder
from tests.service import REPORT_TYPE, WEBHOOK_SECRET, add_rule, at, fetch, make_environ, make_settings
from tests.until import until

RUNS = int(os.environ.get("PROOF_RUNS", "30"))
PATIENCE = 120.0 + RUNS  # seconds; nothing is measured, this only ends a test that would hang
LAST_DAY = date(2026, 3, 1)
SETTINGS = {
    "TALLYHOOK_STALLED_AFTER_SECONDS": 1,
    "TALLYHOOK_PENDING_POLL_SECONDS": 2,
    "TALLYHOOK_RECONCILE_SECONDS": 2,
    "TALLYHOOK_MAX_PENDING_RUNS": 5,
    "TALLYHOOK_TABLES": "off",
}
# How many reports are requested before the standby falls behind, and before the primary dies.
BEHIND, DEAD = RUNS // 6, RUNS // 2


@pytest.mark.slow
@pytest.mark.timeout(2 * PATIENCE)
@pytest.mark.parametrize("synchronous", [True, False], ids=["synchronous", "asynchronous"])
async def test_a_standby_takes_over_while_runs_pass_through_and_nothing_is_lost_or_made_twice(
    simulator: Simulator, tmp_path: Path, *, synchronous: bool
) -> None:
    if "TEST_DATABASE_URL" in os.environ:
        pytest.skip("needs servers of its own")
    simulator.report_type(REPORT_TYPE).rows_per_day = 4
    simulator.report_type(REPORT_TYPE).data_available_start = int(at("2020-01-01").timestamp())
    first_day = LAST_DAY - timedelta(days=RUNS)
    with servers_folder() as folder:
        async with (
            Pair(folder).running(synchronous=synchronous) as pair,
            open_resources(make_settings(pair.url, simulator, **SETTINGS)) as res,
        ):
            rule = await add_rule(res, starts_on=first_day)
            follows = ("sync" if synchronous else "async", 0)
            await until(lambda: pair.replication() == follows, "the standby follows")

            # When the primary dies in the middle, and the asynchronous standby has missed the last commits
            processes = _processes(make_environ(pair.url, simulator, **SETTINGS), tmp_path)
            async with cleared_away(*processes):
                await _until_dead(pair, simulator, processes, synchronous=synchronous)
                await pair.fail_over()
                asked, known = len(simulator.runs), await _keys(res)
                await until(lambda: _settled(res), "all is settled", seconds=PATIENCE)
                lines = [line for process in processes for line in process.lines()]

            # Then every report is there, once
            lost = max(0, asked - known)
            _show(lines, f"{follows[0]}: {asked} reports requested before, {lost} of them unknown to the standby")
            assert len(simulator.runs) == RUNS
            assert len(await fetch(res, "select 1 from files where stored_at is not null")) == RUNS
            assert await broken_promises(res, simulator, owed=owed_days(rule.id, first_day, RUNS)) == []
            assert any(line["event"] == "account.other_timeline" for line in lines)
            assert sum(line.get("stripe_runs", 0) for line in lines if line["event"] == "account.caught_up") >= lost
            assert lost == 0 if synchronous else lost > 0


def _show(lines: list[dict[str, Any]], story: str) -> None:
    """The story in the log's words, for docs/reliability.md (`pytest -s`)."""
    told = [json.dumps(line) for line in lines if line["event"] in ("account.other_timeline", "account.caught_up")]
    sys.stdout.write("\n".join(["", story, *told, ""]))


def _processes(environ: dict[str, str], folder: Path) -> list[ServiceProcess]:
    module = "tests.proofs.quick_service"
    webs = [
        ServiceProcess("serve", "--no-worker", "--port", "0", environ=environ, folder=folder / f"web{n}", module=module)
        for n in range(2)
    ]
    workers = [ServiceProcess("worker", environ=environ, folder=folder / f"worker{n}", module=module) for n in range(3)]
    return [*webs, *workers]


async def _until_dead(pair: Pair, simulator: Simulator, processes: list[ServiceProcess], *, synchronous: bool) -> None:
    """Start everything, and let it work until the primary is due to die."""
    behind, dead = asyncio.Event(), asyncio.Event()

    def arrived(call: str) -> None:
        if call.startswith("POST") and call.endswith("report_runs"):
            if len(simulator.runs) >= BEHIND:
                behind.set()
            if len(simulator.runs) >= DEAD:
                dead.set()

    Tripwire(simulator, arrived)
    for url in await asyncio.gather(*(process.start() for process in processes)):
        if url is not None:
            simulator.add_endpoint(f"{url}/webhooks/stripe", secrets=[WEBHOOK_SECRET])
    await behind.wait()
    if not synchronous:
        pair.line.pause()
    await dead.wait()


async def _keys(res: Resources) -> int:
    """How many idempotency keys the new primary knows, once it answers: each was stored before its call."""
    found: list[int] = []

    async def answered() -> bool:
        found.append(len(await fetch(res, "select 1 from attempts")))
        return True

    await until(lambda: _quietly(answered), "the new primary answers")
    return found[0]


async def _settled(res: Resources) -> bool:
    return await _quietly(lambda: has_settled(res, runs=RUNS))


async def _quietly(ask: Callable[[], Awaitable[bool]]) -> bool:
    """The answer; no while the database is down."""
    try:
        return await ask()
    except Exception as error:
        if is_transient(error):
            return False
        raise
