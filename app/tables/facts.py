"""Facts about a file, computed by SQL over its rows in the transaction of its load (sync)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from psycopg import sql

from app.tables.catalogue import Family
from app.tables.ddl import ROWS_SCHEMA, Connection

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
# A line of a summary that adds up the others: it has a check of its own and is left out of all sums.
TOTAL_LINE = "total"


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of one loaded file. The numbers are None where the file lacks a column for them."""

    first_created: str | None
    last_created: str | None
    key_repeats: int | None
    net_breaks: int | None


def first_of(names: Sequence[str], columns: Collection[str]) -> str | None:
    """The first of these names that is a column."""
    return next((name for name in names if name in columns), None)


def find_facts(connection: Connection, family: Family, load_id: int, columns: Collection[str]) -> Facts:
    """Read the facts from the rows of a load, after its sums; `columns` are those of the table that its file has."""
    created = _identifier(first_of(CREATED, columns))
    statement = sql.SQL(
        "select min({created})::text, max({created})::text,"
        " (select sum(net_breaks)::bigint from load_sums where load_id = {load_id}) from {rows}"
    ).format(created=created, load_id=load_id, rows=rows_of(family.table, load_id))
    first, last, breaks = connection.execute(statement).fetchone() or (None,) * 3
    return Facts(first, last, _key_repeats(connection, family, load_id, columns), breaks)


def write_sums(connection: Connection, family: Family, load_id: int, columns: Collection[str]) -> None:
    """Write down the sums of the load's rows, replacing earlier ones."""
    connection.execute("delete from load_sums where load_id = %s", [load_id])
    has_net = {"gross", "fee", "net"} <= set(columns)
    breaks = (
        "count(*) filter (where net is distinct from gross {} coalesce(fee, 0))" if has_net else "cast(null as bigint)"
    )
    statement = sql.SQL(
        "insert into load_sums (load_id, category, currency, rows, count, gross, fee, net, net_breaks, plus_breaks)"
        " select {load_id}, coalesce({category}, ''), coalesce({currency}, ''), count(*), sum({count}), sum({gross}),"
        " sum({fee}), sum({net}), {minus}, {plus} from {rows} group by 2, 3"
    ).format(
        load_id=load_id,
        category=_identifier(first_of(CATEGORY, columns), "text"),
        currency=_identifier(first_of(CURRENCY, columns), "text"),
        count=_identifier("count" if "count" in columns else None),
        gross=_identifier(first_of(GROSS, columns)),
        fee=_identifier(first_of(FEE, columns)),
        net=_identifier(first_of(NET, columns)),
        minus=sql.SQL(breaks.format("-")),
        plus=sql.SQL(breaks.format("+")),
        rows=_filled_rows(family, load_id, columns),
    )
    connection.execute(statement)


def _key_repeats(connection: Connection, family: Family, load_id: int, columns: Collection[str]) -> int | None:
    if not family.row_key or not set(family.row_key) <= set(columns):
        return None
    statement = sql.SQL(
        "select coalesce(sum(times - 1), 0)::bigint from"
        " (select count(*) as times from {rows} group by {key} having count(*) > 1) as repeated"
    ).format(key=sql.SQL(", ").join(map(sql.Identifier, family.row_key)), rows=_filled_rows(family, load_id, columns))
    return int((connection.execute(statement).fetchone() or (0,))[0])


def rows_of(table: str, load_id: int) -> sql.Composed:
    """The rows of one load, as something to select from."""
    return sql.SQL("(select * from {} where load_id = {}) as line").format(
        sql.Identifier(ROWS_SCHEMA, table), sql.Literal(load_id)
    )


def _filled_rows(family: Family, load_id: int, columns: Collection[str]) -> sql.Composed:
    """The same for a balance: a line without a currency gets that of the line above it."""
    if not (family.row_key == ("category", "currency") and {"category", "currency"} <= set(columns)):
        return rows_of(family.table, load_id)
    others = [name for name in ("category", "net_amount") if name in columns]
    return sql.SQL(
        "(select {others}, max(currency) over (partition by filled) as currency from ("
        "select *, count(currency) over (order by row_number) as filled from {rows}) as line) as line"
    ).format(others=sql.SQL(", ").join(map(sql.Identifier, others)), rows=rows_of(family.table, load_id))


def _identifier(name: str | None, type_: str = "numeric") -> sql.Composable:
    return sql.SQL(f"cast(null as {type_})") if name is None else sql.SQL("line.{}").format(sql.Identifier(name))
