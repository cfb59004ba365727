"""Files of reports that are stored as if they had been downloaded, and their loads, done step by step."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.files import FileMetadata
from app.files.database_writer import DatabaseWriter
from app.resources import Resources
from app.tables import loading, loads
from app.tables.loads import LoadClaim
from tests.files.stored import finish_all
from tests.runs.stories import somebody_waits_for_a_lock
from tests.service import execute, fetch, until_found

ACTIVITY = "balance_change_from_activity.itemized.6"
HEADER = "balance_transaction_id,created,currency,gross,fee,net,reporting_category"


def day(number: int, month: int = 10) -> datetime:
    """Midnight of a day of 2026, in UTC."""
    return datetime(2026, month, 1, tzinfo=UTC) + timedelta(days=number - 1)


def rows(*lines: str, header: str = HEADER) -> bytes:
    """A file with this header and these lines."""
    return "".join(f"{line}\n" for line in (header, *lines)).encode()


def line(number: int, net: str = "9.00", *, currency: str = "usd", category: str = "charge") -> str:
    """A transaction with a fee of one."""
    gross = f"{float(net) + 1:.2f}"
    return f"txn_{number},2026-10-01 10:00:00,{currency},{gross},1.00,{net},{category}"


async def rule(res: Resources, name: str = "daily", **values: Any) -> uuid.UUID:
    """A rule as a row, without windows planned."""
    table = {"state": values.pop("table_state", "auto"), "personal": values.pop("table_personal", [])}
    values = {
        "id": uuid.uuid4(), "name": name, "report_type": ACTIVITY, "cadence": "daily", "timezone": "UTC",
        "starts_on": date(2026, 1, 1), "parameters": {}, "connected_accounts": [], **values,
    }  # fmt: skip
    await execute(
        res,
        "insert into rules (id, account, name, report_type, enabled, cadence, timezone, starts_on, settle_hours,"
        " parameters, connected_accounts, \"table\") values (:id, 'default', :name, :report_type,"
        " true, :cadence, :timezone, :starts_on, 0, cast(:parameters as jsonb), :connected_accounts,"
        " cast(:table as jsonb))",
        **{**values, "parameters": json.dumps(values["parameters"]), "table": json.dumps(table)},
    )
    id_: uuid.UUID = values["id"]
    return id_


async def store(
    res: Resources,
    content: bytes,
    *,
    rule_id: uuid.UUID | None = None,
    report_type: str = ACTIVITY,
    start: datetime | None = None,
    end: datetime | None = None,
    revision: int = 1,
    parameters: dict[str, Any] | None = None,
    connected_account: str | None = None,
    owed: bool = True,
) -> uuid.UUID:
    """A stored run and its file, by default of the first of October; its load is owed as after a download."""
    run_id, start = uuid.uuid4(), start or day(1)
    end = end or start + timedelta(days=1)
    await execute(
        res,
        "insert into runs (id, account, rule_id, report_type, connected_account, window_key, revision, interval_start,"
        " interval_end, timezone, parameters, state, attempts_granted, stored_at) values (:id, 'default', :rule_id,"
        " :report_type, :connected_account, :key, :revision, :start, :end, 'UTC', cast(:parameters as jsonb), 'stored',"
        " 3, now())",
        id=run_id, rule_id=rule_id, report_type=report_type, connected_account=connected_account,
        key=start.date().isoformat() if rule_id else None, revision=revision, start=start, end=end,
        parameters=json.dumps(parameters or {}),
    )  # fmt: skip
    metadata = FileMetadata(run_id, rule_id, "default", report_type, f"file_{run_id}", "report.csv")
    writer = DatabaseWriter(metadata, res.sessions.begin)
    await writer.write(content)
    await writer.facts()
    async with res.sessions.begin() as session:
        await finish_all(session, [writer])
        if owed:
            await loads.owe(session, [run_id])
    return run_id


async def load_all(res: Resources) -> None:
    """Load whatever is due, and check it: `claim_loads` does the latter when there is nothing to load."""
    while claims := await loading.claim_loads(res, 10):
        for claim in claims:
            await loading.load(res, claim)


async def load_of(res: Resources, run_id: uuid.UUID) -> RowMapping:
    """The row of a run's load."""
    (found,) = await fetch(res, "select * from loads where run_id = :run_id", run_id=run_id)
    return found


async def stored_and_loaded(res: Resources, content: bytes, **values: Any) -> RowMapping:
    """A file, loaded."""
    run_id = await store(res, content, **values)
    await load_all(res)
    return await load_of(res, run_id)


async def claim_one(res: Resources) -> LoadClaim:
    """The one load that is due, claimed."""
    (claim,) = await loading.claim_loads(res, 10)
    return claim


@asynccontextmanager
async def at_its_last_step(
    res: Resources, rule_id: uuid.UUID, start: datetime, claim: LoadClaim
) -> AsyncIterator[tuple[AsyncSession, asyncio.Task[None]]]:
    """A load whose rows are written and not committed: its last step waits until this session's transaction ends."""
    async with res.sessions.begin() as session:
        mine = {"key": f"load:{rule_id}:None:{start.date()}"}
        await session.execute(text("select pg_advisory_xact_lock(hashtextextended(:key, 1))"), mine)
        task = asyncio.create_task(loading.load(res, claim))
        await somebody_waits_for_a_lock(res)
        yield session, task
    # The server takes a moment to see that a child has died.
    await until_found(res, "select 1 where not exists (select from pg_locks where locktype = 'advisory' and database ="
                           " (select oid from pg_database where datname = current_database()))")  # fmt: skip
