"""How one revision differs from another: a full join on the row key, or a count of equal lines if there is no key.

Statements are built here once: the summary is written by the child with the load, the rows are read by the API.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from psycopg import Cursor, sql
from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from app.tables.catalogue import Family, is_metadata
from app.tables.columns import METADATA, sql_name
from app.tables.ddl import ROWS_SCHEMA, Connection
from app.tables.facts import TOTAL_LINE


@dataclass(frozen=True, slots=True)
class Side:
    """A loaded revision: its columns by their names in the file."""

    id: int
    revision: int
    loaded_columns: list[str]
    key_repeats: int | None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two revisions and the columns that can be compared, by their names in the table. `left_out` are names in the
    file."""

    old: Side
    new: Side
    key: tuple[str, ...]  # empty: lines are counted
    columns: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """How a revision differs from revision `against`; `columns`: how often each changed; `sums`: by how much."""

    against: int
    added: int
    removed: int
    changed: int
    columns: dict[str, int]
    left_out: list[str]
    sums: list[dict[str, str | None]]


def pair_of(family: Family, old: Side, new: Side) -> Pair:
    """The columns that two revisions have in common."""
    common = [name for name in new.loaded_columns if name in set(old.loaded_columns)]
    only = sorted(set(old.loaded_columns) ^ set(new.loaded_columns))
    columns = list(dict.fromkeys(_table_name(name) for name in common))
    has_key = bool(family.row_key) and set(family.row_key or ()) <= set(columns)
    has_key = has_key and not old.key_repeats and not new.key_repeats
    key = family.row_key or () if has_key else ()
    return Pair(old, new, key, tuple(columns), tuple(only))


def find_revisions(connection: Connection, load_id: int) -> Cursor[Side]:
    """All loaded revisions of a load's window, in order; the answer can be fetched later."""
    return connection.cursor(row_factory=class_row(Side)).execute(_REVISIONS, {"id": load_id})


def write_diffs(connection: Connection, family: Family, load_id: int, revisions: Sequence[Side]) -> None:
    """Compare a load that was just made with its neighbours among the loaded revisions of its window."""
    for old, new in pairwise(revisions):
        if load_id in (old.id, new.id):
            _write(connection, family, pair_of(family, old, new))


def _write(connection: Connection, family: Family, pair: Pair) -> None:
    with connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(summary(family.table, pair)).fetchone() or {}
        sums = cursor.execute(SUMS, sums_values(pair)).fetchall()
    summed = summed_up(pair, found, sums)
    values = {"load_id": pair.new.id, "against": pair.old.id, "revision": summed.against}
    plain = {"added": summed.added, "removed": summed.removed, "changed": summed.changed, "left_out": summed.left_out}
    connection.execute(_WRITE, values | plain | {"columns": Jsonb(summed.columns), "sums": Jsonb(summed.sums)})


def sums_values(pair: Pair) -> dict[str, Any]:
    """The parameters of SUMS."""
    return {"old": pair.old.id, "new": pair.new.id, "total": TOTAL_LINE}


def summed_up(pair: Pair, found: Mapping[str, Any], sums: Sequence[Mapping[str, Any]]) -> Summary:
    """A comparison from the rows of `summary` and of SUMS."""
    counts = {name: found[_counted(place)] for place, name in enumerate(pair.columns) if found.get(_counted(place))}
    deltas = [{name: None if value is None else str(value) for name, value in row.items()} for row in sums]
    return Summary(
        pair.old.revision, found["added"], found["removed"], found["changed"], counts, list(pair.left_out), deltas
    )


def summary(table: str, pair: Pair) -> sql.Composed:
    """One row: added, removed, changed, and per column (`column_0`, …) in how many rows it changed."""
    if not pair.key:
        return _counting(table, pair)
    differs = [_differs(column) for column in pair.columns]
    counted = [
        sql.SQL("count(*) filter (where {both} and {differs}) as {name}").format(
            both=_BOTH, differs=one, name=sql.Identifier(_counted(place))
        )
        for place, one in enumerate(differs)
    ]
    # Nearly all rows are the same: they are left out first, and only the others are compared column by column.
    return sql.SQL(
        "select count(*) filter (where old.row_number is null) as added,"
        " count(*) filter (where new.row_number is null) as removed,"
        " count(*) filter (where {both}) as changed {counted} from {joined} where {unlike}"
    ).format(
        both=_BOTH,
        unlike=sql.SQL(" or ").join([sql.SQL("old.row_number is null or new.row_number is null"), *differs]),
        counted=sql.SQL("").join(sql.SQL(", ") + one for one in counted),
        joined=_joined(table, pair),
    )


def rows(table: str, pair: Pair, kind: str, shown: Sequence[str]) -> sql.Composed:
    """Rows that were added, removed or changed, in the order of their key: `key`, and `old` and `new` as JSON texts.

    Takes the parameters `after` (the key before the page, or an empty text) and `limit`. Only with a row key.
    """
    where = {
        "added": sql.SQL("old.row_number is null"),
        "removed": sql.SQL("new.row_number is null"),
        "changed": _BOTH + sql.SQL(" and (") + sql.SQL(" or ").join(map(_differs, pair.columns)) + sql.SQL(")"),
    }[kind]
    key = sql.SQL("coalesce({}, {})").format(_key_text("old", pair.key), _key_text("new", pair.key))
    values = {side: _object(side, shown) for side in ("old", "new")}
    return sql.SQL(
        "select {key} as key, new.row_number as row, {old} as old, {new} as new from {joined}"
        " where {where} and {key} > %(after)s order by {key} limit %(limit)s"
    ).format(key=key, joined=_joined(table, pair), where=where, **values)


def _object(side: str, columns: Sequence[str]) -> sql.Composable:
    values = [sql.SQL("{}, {}::text").format(sql.Literal(column), sql.Identifier(side, column)) for column in columns]
    # A function takes at most 100 arguments.
    objects = [
        sql.SQL("jsonb_build_object({})").format(sql.SQL(", ").join(values[start : start + 40]))
        for start in range(0, len(values), 40)
    ]
    return sql.SQL("case when {}.row_number is null then null else ").format(sql.Identifier(side)) + (
        sql.SQL(" || ").join(objects) + sql.SQL(" end")
    )


def _joined(table: str, pair: Pair) -> sql.Composed:
    on = [
        sql.SQL("coalesce(old.{name}::text, '') = coalesce(new.{name}::text, '')").format(name=sql.Identifier(name))
        for name in pair.key
    ]
    return sql.SQL(
        "(select * from {table} where load_id = {old}) as old full join"
        " (select * from {table} where load_id = {new}) as new on {on}"
    ).format(table=_rows(table), old=pair.old.id, new=pair.new.id, on=sql.SQL(" and ").join(on))


def _counting(table: str, pair: Pair) -> sql.Composed:
    """Lines without a key: how many more or fewer there are of each."""
    columns = sql.SQL(", ").join(map(sql.Identifier, pair.columns)) if pair.columns else sql.SQL("true")
    return sql.SQL(
        "select coalesce(sum(greatest(more, 0)), 0)::bigint as added,"
        " coalesce(sum(greatest(-more, 0)), 0)::bigint as removed, 0::bigint as changed from ("
        "select sum(case when load_id = {new} then 1 else -1 end) as more from {table}"
        " where load_id in ({old}, {new}) group by {columns}) as line where more <> 0"
    ).format(table=_rows(table), old=pair.old.id, new=pair.new.id, columns=columns)


def _rows(table: str) -> sql.Identifier:
    return sql.Identifier(ROWS_SCHEMA, table)


def _differs(column: str) -> sql.Composed:
    return sql.SQL("old.{name} is distinct from new.{name}").format(name=sql.Identifier(column))


def _key_text(side: str, key: Sequence[str]) -> sql.Composed:
    parts = [sql.SQL("coalesce({}::text, '')").format(sql.Identifier(side, name)) for name in key]
    return sql.SQL("case when {side}.row_number is not null then concat_ws(chr(31), {parts}) end").format(
        side=sql.Identifier(side), parts=sql.SQL(", ").join(parts)
    )


def _table_name(name: str) -> str:
    return METADATA if is_metadata(name) else sql_name(name)


def _counted(place: int) -> str:
    return f"column_{place}"


_BOTH = sql.SQL("old.row_number is not null and new.row_number is not null")
_REVISIONS = """
select other.id, other.revision, other.loaded_columns, other.key_repeats from loads as one join loads as other
    on other.rule_id = one.rule_id and other.window_key is not distinct from one.window_key
    and other.connected_account is not distinct from one.connected_account and other.table_name = one.table_name
where one.id = %(id)s and other.state <> 'removed' and other.loaded_at is not null and other.loaded_columns <> '{}'
order by other.revision
"""
# In a balance only the end counts: its other lines are parts of one another.
SUMS = """
select currency, sum(gross) as gross, sum(fee) as fee, sum(net) as net from (
    select currency, category, case when load_id = %(new)s then gross else -gross end as gross,
        case when load_id = %(new)s then fee else -fee end as fee,
        case when load_id = %(new)s then net else -net end as net
    from load_sums where load_id in (%(old)s, %(new)s)
) as line
where category <> %(total)s
    and (category = 'ending_balance' or not exists (
        select 1 from load_sums where load_id in (%(old)s, %(new)s) and category = 'ending_balance'))
group by currency order by currency
"""
_WRITE = """
insert into diffs (load_id, against_load_id, against_revision, added, removed, changed, columns, left_out, sums)
values (%(load_id)s, %(against)s, %(revision)s, %(added)s, %(removed)s, %(changed)s, %(columns)s, %(left_out)s,
    %(sums)s)
on conflict (load_id) do update set against_load_id = excluded.against_load_id,
    against_revision = excluded.against_revision, added = excluded.added, removed = excluded.removed,
    changed = excluded.changed, columns = excluded.columns, left_out = excluded.left_out, sums = excluded.sums,
    at = now()
"""
