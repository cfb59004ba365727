"""The demo ends with money: the sums of the files per currency, and whether the numbers in them agree."""

import asyncio
import time
from collections import Counter
from decimal import Decimal
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from app.cli.demo.client import pages
from app.resources import Resources
from app.sentences import count
from app.tables.amounts import total

TABLE = "balance_change_from_activity_itemized"
PATIENCE_SECONDS = 30.0


async def show_numbers(console: Console, client: httpx.AsyncClient, res: Resources, stop: asyncio.Event) -> None:
    """Print the net of every currency, and how many of the checks agree, once every file is loaded and checked."""
    await _checked(res, stop)
    nets: dict[str, Decimal] = {}
    async for load in pages(client, "/v1/loads"):
        if load["table"] == TABLE and load["state"] == "loaded" and load["is_current"] and load["leads"]:
            facts = (await client.get(f"/v1/runs/{load['run_id']}/facts")).json()
            for one in facts["sums"]:
                nets[one["currency"]] = total((nets.get(one["currency"]), Decimal(one["net"] or 0)))
    table = Table(title=f"sum(net) of reports.{TABLE}")
    table.add_column("currency")
    table.add_column("net", justify="right")
    for currency, net in sorted(nets.items()):
        table.add_row(currency, f"{net:,f}")
    console.print(table)
    checks = [check async for check in pages(client, "/v1/checks")]
    verdicts = Counter(check["verdict"] for check in checks)
    agree, differ = count(verdicts["agrees"], "agrees", "agree"), count(verdicts["differs"], "differs", "differ")
    console.print(f"checks    {agree}, {differ} (GET /v1/checks)")
    for check in checks:
        if check["verdict"] != "agrees":
            console.print(_line(check), highlight=False, soft_wrap=True, markup=False)


def _line(check: dict[str, Any]) -> str:
    where = f"{check['name']} of {check['window']['first']}, {check['currency'] or 'every currency'}"
    if check["verdict"] == "differs":
        return f"          {where}: {check['left']} and {check['right']} differ by {check['difference']}"
    return f"          {where}: {check['reason']}"


async def _checked(res: Resources, stop: asyncio.Event) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and not stop.is_set():
        async with res.sessions.begin() as session:
            if not (await session.execute(_UNDER_WAY)).scalar_one():
                return
        await asyncio.sleep(0.2)


_UNDER_WAY = text("select exists (select from loads where state = 'due' or checks_due)")
