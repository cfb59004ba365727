"""Facts about a file, computed by SQL over its rows in the transaction of its load (sync)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache

from psycopg import sql

from app.tables.catalogue import Family
from app.tables.ddl import ROWS_SCHEMA, Connection, together

# The columns that may hold a family's category, currency, amounts and time, best first.
CATEGORY = ("reporting_category", "balance_transaction_reporting_category", "category", "fee_category")
CURRENCY = ("currency", "transaction_currency", "fee_currency")
GROSS = ("gross",)
FEE = ("fee",)
NET = ("net", "net_amount", "amount", "total_amount", "total_sales")
CREATED = (
    "created", "created_utc", "effective_at", "effective_at_utc", "balance_transaction_created",
    "balance_transaction_created_at", "activity_at", "incurred_at", "transaction_date",
)  # fmt: skip
# A line of a summary that adds up the others: it has its own check and is left out of all sums.
TOTAL_LINE = "total"


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of one loaded file. Numbers are None if the file lacks a column for them."""

    first_created: str | None
    last_created: str | None
    key_repeats: int | None
    net_breaks: int | None


def first_of(names: Sequence[str], columns: Collection[str]) -> str | None:
    """The first of these names that is a column."""
    return next((name for name in names if name in columns), None)


def write_facts(connection: Connection, family: Family, load_id: int, columns: Collection[str]) -> Facts:
    """Replace the recorded sums of a load's rows, and find its facts, in one pass over the rows.

    `columns` are those of the table that the file has.
    """
    with together(connection):
        connection.execute("delete from load_sums where load_id = %s", [load_id])
        found = connection.execute(_statement(family, frozenset(columns)), {"load_id": load_id})
    return Facts(*found.fetchone() or (None,) * 4)


@cache
def _statement(family: Family, columns: frozenset[str]) -> str:
    """The same text for all files with these columns: the server plans it only a few times."""
    breaks = "cast(null as bigint)"
    if {"gross", "fee", "net"} <= columns:
        breaks = "count(*) filter (where net is distinct from gross {} coalesce(fee, 0))"
    created = _identifier(first_of(CREATED, columns))
    return (
        sql.SQL(_FACTS)
        .format(
            category=_identifier(first_of(CATEGORY, columns), "text"),
            currency=_identifier(first_of(CURRENCY, columns), "text"),
            count=_identifier("count" if "count" in columns else None),
            gross=_identifier(first_of(GROSS, columns)),
            fee=_identifier(first_of(FEE, columns)),
            net=_identifier(first_of(NET, columns)),
            minus=sql.SQL(breaks.format("-")),
            plus=sql.SQL(breaks.format("+")),
            created=created,
            rows=_filled_rows(family, columns),
            key_repeats=_key_repeats(family, columns),
        )
        .as_string()
    )


def _key_repeats(family: Family, columns: Collection[str]) -> sql.Composable:
    if not family.row_key or not set(family.row_key) <= set(columns):
        return sql.SQL("cast(null as bigint)")
    return sql.SQL(
        "(select coalesce(sum(times - 1), 0)::bigint from"
        " (select count(*) as times from {rows} group by {key} having count(*) > 1) as repeated)"
    ).format(key=sql.SQL(", ").join(map(sql.Identifier, family.row_key)), rows=_filled_rows(family, columns))


def _filled_rows(family: Family, columns: Collection[str]) -> sql.Composed:
    """The rows of the load, as something to select from; in a balance, a line without a currency gets that of the line
    above it."""
    rows = sql.SQL("(select * from {} where load_id = %(load_id)s) as line").format(
        sql.Identifier(ROWS_SCHEMA, family.table)
    )
    if not (family.row_key == ("category", "currency") and {"category", "currency"} <= set(columns)):
        return rows
    others = [name for name in ("category", "net_amount", first_of(CREATED, columns)) if name in columns]
    return sql.SQL(
        "(select {others}, max(currency) over (partition by filled) as currency from ("
        "select *, count(currency) over (order by row_number) as filled from {rows}) as line) as line"
    ).format(others=sql.SQL(", ").join(map(sql.Identifier, filter(None, others))), rows=rows)


def _identifier(name: str | None, type_: str = "numeric") -> sql.Composable:
    return sql.SQL(f"cast(null as {type_})") if name is None else sql.SQL("line.{}").format(sql.Identifier(name))


_FACTS = """
with summed as (
    select coalesce({category}, '') as category, coalesce({currency}, '') as currency, count(*) as rows,
        sum({count}) as count, sum({gross}) as gross, sum({fee}) as fee, sum({net}) as net, {minus} as net_breaks,
        {plus} as plus_breaks, min({created}) as first_created, max({created}) as last_created
    from {rows} group by 1, 2
), written as (
    insert into load_sums (load_id, category, currency, rows, count, gross, fee, net, net_breaks, plus_breaks)
    select %(load_id)s, category, currency, rows, count, gross, fee, net, net_breaks, plus_breaks from summed
)
select min(first_created)::text, max(last_created)::text, {key_repeats}, sum(net_breaks)::bigint from summed
"""
