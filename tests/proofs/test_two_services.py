"""Two services on one database, killed again and again while runs pass through: nothing is lost, nothing is doubled.

`PROOF_RUNS=1000` in the environment makes it the long variant (`make sweep`).
"""

import asyncio
import os
from datetime import date, timedelta
from itertools import count
from pathlib import Path

import pytest

from app.resources import open_resources
from app.simulator import Simulator
from tests.proofs.processes import ServiceProcess, Tripwire, cleared_away, has_settled
from tests.proofs.promises import broken_promises, owed_days
from tests.service import REPORT_TYPE, WEBHOOK_SECRET, add_rule, at, fetch, make_environ, make_settings
from tests.until import until

RUNS = int(os.environ.get("PROOF_RUNS", "150"))
PATIENCE = 120.0 + RUNS  # seconds; nothing is measured, this only ends a test that would hang
LAST_DAY = date(2026, 3, 1)
# After this many calls to Stripe, a running process is killed; it makes about 10 before it is at full speed.
CALLS_PER_LIFE = 40

SETTINGS = {
    "TALLYHOOK_STALLED_AFTER_SECONDS": 1,
    "TALLYHOOK_PENDING_POLL_SECONDS": 2,
    "TALLYHOOK_RECONCILE_SECONDS": 2,
}


@pytest.mark.slow
@pytest.mark.timeout(2 * PATIENCE)
async def test_two_services_that_are_killed_again_and_again_make_every_report_once(
    database_url: str, simulator: Simulator, tmp_path: Path
) -> None:
    # Given a rule that owes a report for each of many days, and two services that Stripe tells everything
    simulator.report_type(REPORT_TYPE).rows_per_day = 4
    simulator.report_type(REPORT_TYPE).data_available_start = int(at("2020-01-01").timestamp())
    environ = make_environ(database_url, simulator, **SETTINGS)
    pair = [
        ServiceProcess("serve", "--port", "0", environ=environ, folder=tmp_path / name) for name in ("one", "other")
    ]
    async with open_resources(make_settings(database_url, simulator)) as res, cleared_away(*pair):
        first_day = LAST_DAY - timedelta(days=RUNS)
        rule = await add_rule(res, starts_on=first_day)

        # When one of them after the other is killed in the middle of its work, until all is done
        keeping = [asyncio.create_task(_keep_up(process, simulator)) for process in pair]
        calls = count(1)

        def arrived(_: str) -> None:
            turn, rest = divmod(next(calls), CALLS_PER_LIFE)
            if rest == 0 and pair[turn % 2].up:
                pair[turn % 2].kill()

        Tripwire(simulator, arrived)

        await until(lambda: has_settled(res, runs=RUNS), "every run has come to an end", seconds=PATIENCE)
        for keeper in keeping:
            keeper.cancel()
        await asyncio.wait(keeping)

        # Then there are as many Stripe runs as windows, and as many files, and all is as it was promised
        assert sum(process.kills for process in pair) >= RUNS // CALLS_PER_LIFE
        assert len(simulator.runs) == RUNS
        assert len(await fetch(res, "select 1 from files where stored_at is not null")) == RUNS
        assert await broken_promises(res, simulator, owed=owed_days(rule.id, first_day, RUNS)) == []


async def _keep_up(process: ServiceProcess, simulator: Simulator) -> None:
    """Start the service whenever it does not run, and tell Stripe where it takes webhooks now."""
    endpoint = simulator.add_endpoint("http://127.0.0.1:9", secrets=[WEBHOOK_SECRET])
    while True:
        if not process.running:
            url = await process.start()
            simulator.change_endpoint(endpoint.id, url=f"{url}/webhooks/stripe")
        await asyncio.sleep(0.05)
