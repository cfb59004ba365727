"""What checks read: the current loads around the checked ones, and their sums, fetched at once. Database only."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from psycopg import sql
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.engine import raw_connection
from app.db.rows import fetch
from app.tables.amounts import total
from app.tables.catalogue import CONNECT_PREFIX, catalogue
from app.tables.checks.results import CurrentLoad, Sums
from app.tables.facts import TOTAL_LINE

# Lines of a balance statement; `activity` and `payouts` are subtotals of their two parts.
STARTING, ENDING = "starting_balance", "ending_balance"
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the checks of some loads of an account may read, as it is in one transaction.

    `loads`: those to check, by id. `shown`: what the views show in windows that touch theirs, or touch one of those, by
    scope and family, in order. `led`: the families (without the prefix of Connect) that the views show at all.
    """

    led: frozenset[str]
    loads: Mapping[int, CurrentLoad]
    shown: Mapping[tuple[str, str], Sequence[CurrentLoad]]
    sums: Mapping[int, Sequence[Sums]]
    wholes: Mapping[int, Sequence[CurrentLoad]]
    _asked: set[Hashable] = field(default_factory=set)

    def find(
        self, load: CurrentLoad, *families: str, start: datetime | None = None, end: datetime | None = None
    ) -> CurrentLoad | None:
        """The load that the views show, in the window with these bounds, from the first of these families that has one.

        Same account and scope; a bound that is None matches any. A window must touch one that touches the load's.
        """
        for family in families:
            for one in self.shown_of(load, family):
                if start in (None, one.interval_start) and end in (None, one.interval_end):
                    return one
        return None

    def shown_of(self, load: CurrentLoad, family: str) -> Sequence[CurrentLoad]:
        """The loads of a family that the views show around this one, in the same scope, in the order of their start."""
        return self.shown.get((load.scope, sister(load, family)), ())

    def net_by_currency(self, load: CurrentLoad) -> dict[str, Decimal]:
        """The net sum of a load's rows, without a `total` line."""
        nets: dict[str, list[Decimal | None]] = {}
        for one in self.sums[load.id]:
            if one.category != TOTAL_LINE:
                nets.setdefault(one.currency, []).append(one.net)
        return {currency: total(parts) for currency, parts in nets.items()}

    def balance_lines(self, load: CurrentLoad) -> dict[str, dict[str, Decimal]]:
        """The lines of a balance per currency; `activity` and `payouts` are summed from their parts where the line is
        absent."""
        lines: dict[str, dict[str, Decimal]] = {}
        for one in self.sums[load.id]:
            lines.setdefault(one.currency, {})[one.category] = one.net or Decimal(0)
        for of_currency in lines.values():
            for whole in ("activity", "payouts"):
                parts = [of_currency[name] for name in (f"{whole}_gross", f"{whole}_fee") if name in of_currency]
                of_currency.setdefault(whole, total(parts))
        return lines

    def is_first(self, *question: Hashable) -> bool:
        """Whether this is asked for the first time: several loads ask the same about a window, and once is enough."""
        first = question not in self._asked
        self._asked.add(question)
        return first


@dataclass(frozen=True, slots=True)
class _Whole(CurrentLoad):
    """A load that `part_id` is a part of."""

    part_id: int


def sister(load: CurrentLoad, family: str) -> str:
    """The family of that name beside this load's: of the account itself, or of its connected accounts."""
    is_connect = load.family.startswith(CONNECT_PREFIX)
    return f"{CONNECT_PREFIX}{family}" if is_connect and not family.startswith(CONNECT_PREFIX) else family


def base_of(family: str) -> str:
    """The family's name without the prefix of Connect."""
    return family.removeprefix(CONNECT_PREFIX)


async def gather(session: AsyncSession, account: str, load_ids: Sequence[int]) -> Inputs:
    """Fetch what the checks of these loads of an account read, in a few statements however many they are."""
    led = (await session.execute(_LED, {"account": account})).scalars().all()
    loads = {load.id: load for load in await fetch(session, CurrentLoad, _BY_ID, {"ids": list(load_ids)})}
    shown = await _shown_around(session, account, led, loads.values())
    sums: dict[int, list[Sums]] = defaultdict(list)
    for one in await fetch(session, Sums, _SUMS, {"ids": [*{*loads, *(load.id for load in shown)}]}):
        sums[one.load_id].append(one)
    by_place: dict[tuple[str, str], list[CurrentLoad]] = {}
    for load in shown:
        by_place.setdefault((load.scope, load.family), []).append(load)
    wholes = await _wholes_of(session, loads)
    return Inputs(frozenset(map(base_of, led)), loads, by_place, sums, wholes)


async def _shown_around(
    session: AsyncSession, account: str, families: Sequence[str], loads: Iterable[CurrentLoad]
) -> list[CurrentLoad]:
    """What the views show in windows that share a bound with one of these, or with one of those."""
    known = catalogue().families
    values = {
        "account": account,
        "tables": sorted({known[family].table for family in families if family in known}),
        "scopes": sorted({load.scope for load in loads}),
    }
    found: dict[int, CurrentLoad] = {}
    looked_at: set[datetime] = set()
    bounds = _bounds(loads)
    for _ in range(2):
        if new := bounds - looked_at:
            around = await fetch(session, CurrentLoad, _AROUND, {**values, "bounds": sorted(new)})
            found |= {load.id: load for load in around}
            looked_at |= new
            bounds = _bounds(around)
    return sorted(found.values(), key=lambda load: (load.interval_start or _NEVER, load.id))


def _bounds(loads: Iterable[CurrentLoad]) -> set[datetime]:
    return {at for load in loads for at in (load.interval_start, load.interval_end) if at is not None}


async def _wholes_of(session: AsyncSession, loads: Mapping[int, CurrentLoad]) -> dict[int, list[CurrentLoad]]:
    """The loads of other rules that each load is a part of, and the load itself if others are parts of it."""
    wholes: dict[int, list[CurrentLoad]] = defaultdict(list)
    for whole in await fetch(session, _Whole, _WHOLES, {"ids": list(loads)}):
        wholes[whole.part_id].append(whole)
    return wholes


async def parts_of(session: AsyncSession, whole: CurrentLoad) -> list[CurrentLoad]:
    """The shorter leading loads of other rules that lie within a load, in the order of their start."""
    return await fetch(session, CurrentLoad, _PARTS, {"id": whole.id})


async def loads_by_id(session: AsyncSession, load_ids: Sequence[int]) -> list[CurrentLoad]:
    """Those of these loads whose rows are loaded and current, leading or not."""
    return await fetch(session, CurrentLoad, _BY_ID, {"ids": list(load_ids)})


async def lines_without_currency(session: AsyncSession, load: CurrentLoad) -> bool:
    """Whether a line of a balance has no currency of its own, so that it was taken from the line above."""
    statement = sql.SQL("select exists (select 1 from {} where load_id = {} and currency is null)")
    found = await query(session, statement.format(sql.Identifier("report_rows", load.table_name), load.id))
    return bool(found[0][0])


async def query(session: AsyncSession, statement: sql.Composed) -> list[tuple[Any, ...]]:
    """A statement over rows of reports, whose tables and columns are known only now."""
    async with raw_connection(session) as raw, raw.cursor() as cursor:
        rows: list[tuple[Any, ...]] = await (await cursor.execute(statement)).fetchall()
    return rows


def table_of(family: str) -> str:
    """The table of a family that the catalogue knows."""
    return catalogue().families[family].table


def _columns(of: str) -> str:
    return ", ".join(f"{of}.{name}" for name in CurrentLoad.__dataclass_fields__)


_BY_ID = text(f"""
select {_columns("loads")} from loads where id = any(:ids) and is_current and not filtered and loaded_at is not null
    and state <> 'removed'
order by id
""")  # noqa: S608 - the columns are those of a class of ours
_LED = text("select distinct family from leaderships where account = :account")
_SHOWN = """
table_name = any(:tables) and account = :account and scope = any(:scopes) and is_current and leads and not filtered
    and loaded_at is not null and state <> 'removed'
"""
# Two indexes, one for each end of a window.
_AROUND = text(f"""
select {_columns("loads")} from loads where {_SHOWN} and interval_start = any(:bounds)
union
select {_columns("loads")} from loads where {_SHOWN} and interval_end = any(:bounds)
""")  # noqa: S608
_SUMS = text("""
select load_id, category, currency, rows, count, gross, fee, net, net_breaks, plus_breaks from load_sums
where load_id = any(:ids) order by load_id, category, currency
""")
_SAME = """
other.table_name = one.table_name and other.account = one.account and other.scope = one.scope
    and other.report_type = one.report_type
    and other.timezone is not distinct from one.timezone and other.rule_id <> one.rule_id
    and other.is_current and not other.filtered and other.loaded_at is not null and other.state <> 'removed'
"""
_WITHIN = """
other.leads and other.interval_start >= one.interval_start and other.interval_end <= one.interval_end
    and other.interval_end - other.interval_start < one.interval_end - one.interval_start
"""
_WHOLES = text(f"""
select one.id as part_id, {_columns("other")} from loads as one join loads as other on {_SAME}
    and other.interval_start <= one.interval_start and other.interval_end >= one.interval_end
    and other.interval_end - other.interval_start > one.interval_end - one.interval_start
where one.id = any(:ids) and one.leads
union
select one.id, {_columns("one")} from loads as one where one.id = any(:ids)
    and exists (select 1 from loads as other where {_SAME} and {_WITHIN})
order by id
""")  # noqa: S608
_PARTS = text(f"""
select {_columns("other")} from loads as one join loads as other on {_SAME} and {_WITHIN}
where one.id = :id order by other.interval_start
""")  # noqa: S608
