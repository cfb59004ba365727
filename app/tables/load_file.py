"""Loads one file into its table: one transaction, fenced, with the same result however often it is done. In the child
(sync)."""

import hashlib
import json
import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row, tuple_row

from app.errors import LoadOvertaken, Unloadable
from app.files.reading import pieces
from app.tables import copying
from app.tables.catalogue import Family, Kind, family_of
from app.tables.columns import METADATA, ColumnPlan, ColumnState, KnownColumn, plan_columns
from app.tables.ddl import ROWS_SCHEMA, Connection, prepare_table, together
from app.tables.diffs import find_revisions, write_diffs
from app.tables.facts import Facts, write_facts
from app.tables.reading import Reader, Unwanted, Wanted, as_json
from app.tables.unzipping import plain

# Increased whenever a version can read more than the previous one: it then retries the failed loads of an older loader.
LOADER = 1
# A load's statement may take this long, plus a second per this many bytes.
SECONDS = 60
BYTES_PER_SECOND = 4 * 1024 * 1024
_COPY_LINE = re.compile(r"line (\d+)")


@dataclass(frozen=True, slots=True)
class Job:
    """A load, from the database."""

    id: int
    run_id: uuid.UUID
    file_id: uuid.UUID
    rule_id: uuid.UUID | None
    connected_account: str | None
    report_type: str
    window_key: str | None
    location: str | None
    size: int
    parameters: dict[str, Any]
    personal: list[str]


@dataclass(frozen=True, slots=True)
class How:
    """The settings of loading."""

    reports_schema: str
    all_personal: bool


@dataclass(frozen=True, slots=True)
class _Load:
    """A file that is being read, and what is done with each of its columns."""

    job: Job
    fence: int
    family: Family
    reader: Reader
    plan: ColumnPlan
    left: list[Unwanted]

    @property
    def columns(self) -> set[str]:
        """The table's columns that this file has."""
        return {field.sql_name for field in self.plan.fields if field.sql_name is not None}


def load_file(
    writing: Connection, reading: Connection, load_id: int, fence: int, how: How, *, gently: bool = False
) -> int:
    """Load a claimed load; returns its number of rows. Both connections are in autocommit, and ours alone.

    `gently` keeps one core busy instead of two: this process and PostgreSQL work by turns, which takes a third longer.
    Raises Unloadable, LoadOvertaken, FileIsGone, and what the database raises: then nothing has changed.
    """
    load = _open(writing, reading, load_id, fence, how)
    if load.plan.fields:
        prepare_table(writing, load.family, load.plan.fields, how.reports_schema)
    with writing.transaction():
        writing.execute(_FOR_THIS_LOAD, [f"{_seconds(load.job.size)}s"])
        _copy(writing, load, gently=gently)
        _finish(writing, load)
    return load.reader.row_count


def _open(writing: Connection, reading: Connection, load_id: int, fence: int, how: How) -> _Load:
    job = _job(reading, load_id, fence)
    family = family_of(job.report_type)
    reader = Reader(
        plain(pieces(reading, job.file_id, job.location, job.size)),
        decimal_separator=str(job.parameters.get("decimal_separator", ".")),
    )
    known = known_columns(writing, family.table)
    plan = plan_columns(reader.header, family, known, personal=job.personal, all_personal=how.all_personal)
    return _Load(job, fence, family, reader, plan, [Unwanted(column.index, column.name) for column in plan.left])


def _seconds(size: int) -> int:
    return SECONDS + size // BYTES_PER_SECOND


def _job(connection: Connection, load_id: int, fence: int) -> Job:
    with connection.cursor(row_factory=class_row(Job)) as cursor:
        found = cursor.execute(_JOB, {"id": load_id, "fence": fence}).fetchone()
    if found is None:
        raise LoadOvertaken
    return found


def known_columns(connection: Connection, table: str) -> dict[str, KnownColumn]:
    """What a table knows about the columns of its files."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute("select column_name, state, kind, personal from table_columns where table_name = %s", [table])
        return {name: KnownColumn(ColumnState(state), Kind(kind), personal) for name, state, kind, personal in cursor}


def _copy(connection: Connection, load: _Load, *, gently: bool) -> None:
    """All rows into the table, in place of what was there; without a field there is no table: they are only read."""
    fields = load.plan.fields
    batches = load.reader.columns([Wanted(field.index, field.name, field.kind) for field in fields], load.left)
    if not fields:
        for _ in batches:
            pass
        return
    table = sql.Identifier(ROWS_SCHEMA, load.family.table)
    connection.execute(sql.SQL("delete from {} where load_id = %s").format(table), [load.job.id])
    plain = [place for place, field in enumerate(fields) if field.sql_name is not None]
    keys = [place for place, field in enumerate(fields) if field.sql_name is None]
    names = ["load_id", "row_number", *(str(fields[place].sql_name) for place in plain), *([METADATA] if keys else ())]
    statement = sql.SQL("copy {} ({}) from stdin").format(table, sql.SQL(", ").join(map(sql.Identifier, names)))
    unescaped = {place for place, field in enumerate(plain) if fields[field].kind is not Kind.TEXT}
    first = 1
    # At the end of each COPY this process waits until PostgreSQL has taken all.
    for part in ([batch] for batch in batches) if gently else [batches]:
        with _naming_the_row(first), connection.cursor() as cursor, cursor.copy(statement) as copy:
            for columns, rows in part:
                values = [columns[place] for place in plain]
                if keys:
                    names_of_keys = [fields[place].name for place in keys]
                    values.append(metadata_of(names_of_keys, [columns[place] for place in keys]))
                copy.write(copying.lines(load.job.id, first, values, rows, unescaped))
                first += rows


@contextmanager
def _naming_the_row(first: int) -> Iterator[None]:
    """Say which row holds a value that the database refuses: `first` is the number of this COPY's first row."""
    try:
        yield
    except psycopg.DataError as error:
        # The message repeats the value, so only the place is shown.
        line = _COPY_LINE.search(error.diag.context or "")
        row = None if line is None else first - 1 + int(line[1])
        raise Unloadable("the database does not accept a value of this row", row=row) from None


def metadata_of(names: Sequence[str], columns: Sequence[Sequence[str]]) -> list[str]:
    """The columns of metadata as one, of JSON objects without empty values; empty if all are."""
    return [as_json(names, [value or None for value in row]) or "" for row in zip(*columns, strict=True)]


def _finish(connection: Connection, load: _Load) -> None:
    """Write facts, sums and the state, and supersede earlier loads: after the commit the views show this file
    instead."""
    facts = write_facts(connection, load.family, load.job.id, load.columns) if load.columns else None
    with together(connection):
        _note_left(connection, load)
        # The revisions of a window take turns: the last one decides which is the newest.
        connection.execute("select pg_advisory_xact_lock(hashtextextended(%s, 1))", [_identity(load.job)])
        loaded = connection.execute(_LOADED, _values(load, facts))
        connection.execute(_SUPERSEDE, {"id": load.job.id})
        revisions = find_revisions(connection, load.job.id)
    if loaded.rowcount == 0:
        raise LoadOvertaken
    if load.columns:
        write_diffs(connection, load.family, load.job.id, revisions.fetchall())


def _values(load: _Load, facts: Facts | None) -> dict[str, Any]:
    header = load.reader.header
    return {
        "id": load.job.id,
        "fence": load.fence,
        "loader": LOADER,
        "rows": load.reader.row_count,
        "header": list(header),
        "header_sha256": hashlib.sha256("\n".join(header).encode()).hexdigest(),
        "loaded_columns": [field.name for field in load.plan.fields],
        "set_aside": load.plan.set_aside,
        "first_created": facts and facts.first_created,
        "last_created": facts and facts.last_created,
        "key_repeats": facts and facts.key_repeats,
        "net_breaks": facts and facts.net_breaks,
    }


def _identity(job: Job) -> str:
    return f"load:{job.rule_id or job.run_id}:{job.connected_account}:{job.window_key}"


def _note_left(connection: Connection, load: _Load) -> None:
    """Remember which columns were not loaded: their names and sizes, never a value."""
    if not load.left:
        return
    values = [
        {
            "name": column.name, "state": column.state.value, "kind": column.kind.value, "personal": column.personal,
            "filled": counted.filled, "longest": counted.longest,
        }
        for column, counted in zip(load.plan.left, load.left, strict=True)
    ]  # fmt: skip
    values_json = json.dumps(values)
    connection.execute(_NOTE_LEFT, {"table": load.family.table, "run_id": load.job.run_id, "values": values_json})


# The rules whose files are not loaded, and whose rows are removed.
RULES_OFF = """select id from rules where "table" ->> 'state' = 'off'"""


def is_off(row: str) -> str:
    """Whether the rule of a `row` that has its id is one of these."""
    return f"exists ({RULES_OFF} and rules.id = {row}.rule_id)"


# Nobody waits for the disk: a load that a crash of the server undoes is due again, its rows and its state together, and
# whatever is recorded later about it reaches the disk after it. And 200,000 keys fit into memory.
_FOR_THIS_LOAD = """
select set_config('statement_timeout', %s, true), set_config('synchronous_commit', 'off', true),
    set_config('work_mem', greatest(pg_size_bytes(current_setting('work_mem')) / 1024, 32 * 1024)::text, true)
"""
_JOB = f"""
select loads.id, loads.run_id, loads.file_id, loads.rule_id, loads.connected_account, loads.report_type,
    loads.window_key, files.location, files.size, runs.parameters,
    coalesce(rules."table" -> 'personal', '[]') as personal
from loads join files on files.id = loads.file_id join runs on runs.id = loads.run_id
left join rules on rules.id = loads.rule_id
where loads.id = %(id)s and loads.fence = %(fence)s and loads.state = 'due' and files.removed_at is null
    and not {is_off("loads")}
"""  # noqa: S608 - of constants only
_LOADED = """
update loads set state = 'loaded', loader = %(loader)s, rows = %(rows)s, header = %(header)s,
    header_sha256 = %(header_sha256)s, loaded_columns = %(loaded_columns)s, set_aside = %(set_aside)s,
    first_created = %(first_created)s, last_created = %(last_created)s, key_repeats = %(key_repeats)s,
    net_breaks = %(net_breaks)s, error = null, loaded_at = clock_timestamp(),
    lease_until = null, leased_by = null, tries = 0, crashes = 0, checks_due = true, object_due = true
where id = %(id)s and fence = %(fence)s and state = 'due'
"""
# Whether a row of `loads` is in a period of its rule; one for all accounts of a rule for each of them (`*`) does not
# count for those that have periods of their own.
LEADS = """
not loads.filtered and exists (
    select from leaderships as period where period.rule_id = loads.rule_id and period.family = loads.family
        and period.starts_at <= loads.interval_start
        and (period.ends_at is null or loads.interval_end <= period.ends_at)
        and (period.scope = loads.scope or period.scope = '*' and not exists (
            select from leaderships as own where own.account = loads.account and own.family = loads.family
                and own.scope = loads.scope)))
"""


def object_due(loads: str = "loads", *, when: str = "true") -> str:
    """The columns that an update sets for a window's object to be written or removed, `when` this is so.

    One that is being written is due again afterwards: without its name on the lease, the writer does not call it done.
    The lease stays, so that no second writer begins meanwhile.
    """
    return f"""object_due = {loads}.object_due or {when},
    leased_by = case when {loads}.state = 'due' or not ({when}) then {loads}.leased_by end"""


# The newest revision by number, whatever order they were loaded in; and whether its rule leads.
_SUPERSEDE = f"""
with one as (select * from loads where id = %(id)s), same as (
    select loads.id, loads.revision, max(loads.revision) over () as newest from loads join one on
        case when one.rule_id is null then loads.id = one.id
        else loads.rule_id = one.rule_id and loads.window_key is not distinct from one.window_key
            and loads.connected_account is not distinct from one.connected_account end
    where loads.loaded_at is not null
)
update loads set is_current = (same.revision = same.newest),
    {object_due(when="loads.is_current <> (same.revision = same.newest)")},
    leads = {LEADS}
from same where loads.id = same.id
"""  # noqa: S608 - of constants only
_NOTE_LEFT = """
insert into table_columns (table_name, column_name, state, kind, personal, filled, longest, first_run_id)
select %(table)s, name, state, kind, personal, filled, longest, %(run_id)s
from jsonb_to_recordset(%(values)s::jsonb)
    as new(name text, state text, kind text, personal bool, filled bigint, longest int)
order by name
on conflict (table_name, column_name) do update set filled = greatest(table_columns.filled, excluded.filled),
    longest = greatest(table_columns.longest, excluded.longest)
where table_columns.filled < excluded.filled or table_columns.longest < excluded.longest
"""
