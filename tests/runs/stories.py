"""The beginnings of stories about runs, and what is read at their ends."""

import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import RowMapping

from app.resources import Resources, open_resources
from app.runs.request_claim import RequestClaim, claim_requests
from app.simulator import Simulator
from app.simulator.state.model import Event
from app.simulator.webhooks.signatures import signature_header
from app.upkeep.reconcile import reconcile
from tests.service import WEBHOOK_SECRET, add_rule, execute, fetch, make_settings, only_run, unpublished, until_found

CREATE = {"method": "POST", "path": "report_runs$"}
READ_RUN = {"method": "GET", "path": "report_runs/"}
LIST_TYPES = {"method": "GET", "path": "report_types$"}
CONTENTS = {"path": "/contents$"}


async def one_due_run(res: Resources, simulator: Simulator, **rule: Any) -> RowMapping:
    """A rule whose first day is complete: one planned run, 2026-03-01."""
    unpublished(simulator, until="2026-03-02")
    await reconcile(res)
    await add_rule(res, **rule)
    return await only_run(res)


async def days_due(res: Resources, simulator: Simulator, days: int, **rule: Any) -> None:
    """A rule with this many complete days, from 2026-03-01 on."""
    unpublished(simulator, until=f"2026-03-{days + 1:02}")
    await reconcile(res)
    await add_rule(res, **rule)


async def claim_one(res: Resources) -> RequestClaim:
    """The one planned run that may be requested, claimed."""
    (claim,) = await claim_requests(res, 10)
    return claim


async def everything_is_due(res: Resources) -> None:
    """As if enough time had passed for everything that waits for a time."""
    await execute(res, "update runs set due_at = now() - interval '1 s'")
    await execute(res, "update account_holds set next_probe_at = now() - interval '1 s'")
    await execute(res, "update report_types set next_probe_at = now() - interval '1 s' where next_probe_at is not null")
    await execute(res, "update events set due_at = now() - interval '1 s'")


async def leases_run_out(res: Resources) -> None:
    """As if every worker had been silent for too long."""
    await execute(res, "update runs set lease_until = now() - interval '1 s' where lease_until is not null")


async def deliver(res: Resources, event: Event, *, secret: str = WEBHOOK_SECRET) -> None:
    """Deliver an event of the simulator to the intake, signed as Stripe signs it."""
    await deliver_value(res, event.rendered("2026-10-28.endive"), secret=secret)


async def deliver_value(res: Resources, value: dict[str, Any], *, secret: str = WEBHOOK_SECRET) -> None:
    """Deliver any event at all."""
    account = res.intake.account("default")
    assert account is not None
    body = json.dumps(value).encode()
    await res.intake.accept(body, signature_header(body, [secret], at=int(time.time())), account)


@asynccontextmanager
async def another_process(res: Resources, simulator: Simulator, **overrides: object) -> AsyncIterator[Resources]:
    """A second process on the same database."""
    async with open_resources(make_settings(database_of(res), simulator, **overrides), random=lambda: 0.0) as other:
        yield other


def database_of(res: Resources) -> str:
    """The URL of the database that these resources use."""
    assert res.settings.database_url is not None
    return res.settings.database_url.get_secret_value()


async def somebody_waits_for_a_lock(res: Resources) -> None:
    """Return once a transaction waits for another one in this database; fails the test when none ever does."""
    waiting = """
        select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
    """
    await until_found(res, waiting)


async def attempts(res: Resources) -> list[RowMapping]:
    """All attempts, first to last."""
    return await fetch(res, "select * from attempts order by run_id, number")


async def stored_bytes(res: Resources) -> bytes:
    """The bytes of the only file."""
    (file,) = await fetch(res, "select * from files where stored_at is not null")
    pieces = [piece async for piece in res.files.read(file["id"], file["location"], start=0, stop=file["size"])]
    return b"".join(pieces)


async def states(res: Resources) -> Counter[str]:
    """How many runs there are in each state."""
    return Counter(run["state"] for run in await fetch(res, "select state from runs"))


def keys_used(simulator: Simulator) -> list[str | None]:
    """The idempotency keys of all creates, in order."""
    return [call.idempotency_key for call in simulator.creates]
