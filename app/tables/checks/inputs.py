"""What checks read: current loads by family and window, their sums and, where needed, rows. Database only."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from psycopg import sql
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.engine import raw_connection
from app.db.rows import fetch
from app.tables.catalogue import CONNECT_PREFIX, catalogue
from app.tables.checks.results import CurrentLoad, Sums
from app.tables.facts import TOTAL_LINE

# Lines of a balance statement; `activity` and `payouts` are subtotals of their two parts.
STARTING, ENDING = "starting_balance", "ending_balance"


def sister(load: CurrentLoad, family: str) -> str:
    """The family of that name beside this load's: of the account itself, or of its connected accounts."""
    is_connect = load.family.startswith(CONNECT_PREFIX)
    return f"{CONNECT_PREFIX}{family}" if is_connect and not family.startswith(CONNECT_PREFIX) else family


def base_of(family: str) -> str:
    """The family's name without the prefix of Connect."""
    return family.removeprefix(CONNECT_PREFIX)


async def find(
    session: AsyncSession,
    load: CurrentLoad,
    *families: str,
    start: datetime | None = None,
    end: datetime | None = None,
) -> CurrentLoad | None:
    """The load that the views show, in the window with these bounds, from the first of these families that has one.

    Same account and scope; a bound that is None matches any.
    """
    for family in families:
        known = catalogue().families.get(sister(load, family))
        if known is None:
            continue
        values = {"account": load.account, "scope": load.scope, "family": known.id, "table": known.table}
        found = await fetch(session, CurrentLoad, _FIND, {**values, "start": start, "end": end})
        if found:
            return found[0]
    return None


async def led_families(session: AsyncSession, account: str) -> frozenset[str]:
    """The families (without the prefix of Connect) that the views show rows of for an account."""
    found = await session.execute(_LED, {"account": account})
    return frozenset(base_of(family) for family in found.scalars())


async def load_by_id(session: AsyncSession, load_id: int) -> CurrentLoad | None:
    """A load whose rows are there and current, leading or not."""
    found = await fetch(session, CurrentLoad, _BY_ID, {"id": load_id})
    return found[0] if found else None


async def sums_of(session: AsyncSession, load: CurrentLoad) -> list[Sums]:
    """All of a load's sums, the `total` line of a summary among them."""
    return await fetch(session, Sums, _SUMS, {"id": load.id})


async def net_by_currency(session: AsyncSession, load: CurrentLoad) -> dict[str, Decimal]:
    """The net sum of a load's rows, without a `total` line."""
    nets: dict[str, Decimal] = {}
    for one in await sums_of(session, load):
        if one.category != TOTAL_LINE:
            nets[one.currency] = nets.get(one.currency, Decimal(0)) + (one.net or Decimal(0))
    return nets


async def balance_lines(session: AsyncSession, load: CurrentLoad) -> dict[str, dict[str, Decimal]]:
    """The lines of a balance per currency; `activity` and `payouts` are summed from their parts where the line is
    absent."""
    lines: dict[str, dict[str, Decimal]] = {}
    for one in await sums_of(session, load):
        lines.setdefault(one.currency, {})[one.category] = one.net or Decimal(0)
    for of_currency in lines.values():
        for whole in ("activity", "payouts"):
            parts = [of_currency[name] for name in (f"{whole}_gross", f"{whole}_fee") if name in of_currency]
            of_currency.setdefault(whole, sum(parts, Decimal(0)))
    return lines


async def lines_without_currency(session: AsyncSession, load: CurrentLoad) -> bool:
    """Whether a line of a balance has no currency of its own, so that it was taken from the line above."""
    statement = sql.SQL("select exists (select 1 from {} where load_id = {} and currency is null)")
    found = await query(session, statement.format(sql.Identifier("report_rows", load.table_name), load.id))
    return bool(found[0][0])


async def query(session: AsyncSession, statement: sql.Composed) -> list[tuple[Any, ...]]:
    """A statement over rows of reports, whose tables and columns are only known now."""
    async with raw_connection(session) as raw, raw.cursor() as cursor:
        rows: list[tuple[Any, ...]] = await (await cursor.execute(statement)).fetchall()
    return rows


def table_of(family: str) -> str:
    """The table of a family that the catalogue knows."""
    return catalogue().families[family].table


_COLUMNS = """
id, rule_id, account, connected_account, scope, report_type, family, table_name, window_key, interval_start,
    interval_end, timezone, loaded_columns, rows, key_repeats, leads
"""
_FIND = text(f"""
select {_COLUMNS} from loads
where table_name = :table and account = :account and scope = :scope and family = :family
    and is_current and leads and not filtered
    and loaded_at is not null and state <> 'removed'
    and (cast(:start as timestamptz) is null or interval_start = :start)
    and (cast(:end as timestamptz) is null or interval_end = :end)
order by interval_start limit 1
""")  # noqa: S608 - the columns are written above
_BY_ID = text(f"""
select {_COLUMNS} from loads where id = :id and is_current and not filtered and loaded_at is not null
    and state <> 'removed'
""")  # noqa: S608
_LED = text("select distinct family from leaderships where account = :account")
_SUMS = text("""
select category, currency, rows, count, gross, fee, net, net_breaks, plus_breaks from load_sums where load_id = :id
order by category, currency
""")
