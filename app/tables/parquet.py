"""A report file as Parquet, streamed from the CSV (sync). Money is decimal; times are naive, with the run's zone beside
them.

Only this needs the extra `parquet` (pyarrow).
"""

import uuid
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.util import find_spec
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

from psycopg.rows import class_row

from app.errors import LoadOvertaken
from app.files.reading import pieces
from app.tables.catalogue import Kind, family_of, find_column
from app.tables.columns import METADATA, Field, plan_columns, sql_name
from app.tables.ddl import ACCOUNT_COLUMN, Connection
from app.tables.load_file import known_columns, metadata_of
from app.tables.reading import Reader, Wanted, as_stream
from app.tables.unzipping import plain

if TYPE_CHECKING:
    import pyarrow as pa

# Rows that become one row group.
GROUP_ROWS = 50_000
# What pyarrow reads at once, which also becomes one row group.
_BLOCK_BYTES = 4 * 1024 * 1024
# Columns of the report, and how many rows they are.
Batch: TypeAlias = tuple[list["pa.Array"], int]
NEEDS = (
    "Parquet needs the extra `parquet`: start with `make run EXTRAS=parquet`, or build the image with EXTRAS=parquet"
)


def is_possible() -> bool:
    """Whether pyarrow is installed."""
    return find_spec("pyarrow") is not None


@dataclass(frozen=True, slots=True)
class Source:
    """The file of a run, and where its rows come from."""

    run_id: uuid.UUID
    file_id: uuid.UUID
    location: str | None
    size: int
    sha256: str
    account: str
    connected_account: str | None
    report_type: str
    rule: str | None
    revision: int
    interval_start: datetime | None
    interval_end: datetime | None
    timezone: str | None
    parameters: dict[str, Any]
    personal: list[str]
    left_out: list[str]  # connected accounts whose lines are not shown
    loaded_columns: list[str]  # those whose values the strict reader has accepted; empty unless the load is done
    loaded_rows: int

    @property
    def separator(self) -> str:
        """Digits before the decimal point."""
        return str(self.parameters.get("decimal_separator", "."))


def write_file(
    reading: Connection, looking: Connection, run_id: uuid.UUID, path: str, *, whole: bool, all_personal: bool
) -> int:
    """Write a run's file to `path`; returns its number of rows. Raises as `load_file` does.

    With `whole` it has every line and column of the CSV; otherwise those that the views show and the rule names.
    """
    import pyarrow as pa

    with looking.cursor(row_factory=class_row(Source)) as cursor:
        source = cursor.execute(_SOURCE, {"run_id": run_id}).fetchone()
    if source is None:
        raise LoadOvertaken  # it was removed meanwhile
    source = replace(source, left_out=[]) if whole else source
    reader = Reader(_csv(reading, source), decimal_separator=source.separator)
    fields = _every_field(reader.header) if whole else _shown_fields(looking, reader, source, all_personal)
    plain_fields = [field for field in fields if field.sql_name is not None]
    schema = _schema(plain_fields, source, has_metadata=len(plain_fields) < len(fields))
    if _was_read(source, fields):
        # A row may be longer than what pyarrow reads at once.
        with suppress(pa.ArrowInvalid):
            return _write(path, schema, source, _by_arrow(_csv(reading, source), fields))
    return _write(path, schema, source, _strictly(reader, fields))


def _csv(reading: Connection, source: Source) -> Iterator[bytes]:
    return plain(pieces(reading, source.file_id, source.location, source.size))


def read_sums(path: str) -> tuple[int, dict[str, Any]]:
    """The number of rows of a written file, and its net per currency; no sums if it has no such columns."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    if not {"currency", "net"} <= set(file.schema_arrow.names):
        return file.metadata.num_rows, {}
    table = file.read(columns=["currency", "net"])
    currencies = pc.fill_null(table["currency"], "")
    sums = {
        currency: pc.sum(table["net"].filter(pc.equal(currencies, currency))).as_py()
        for currency in pc.unique(currencies).to_pylist()
    }
    return file.metadata.num_rows, sums


def _every_field(header: Sequence[str]) -> list[Field]:
    known = [find_column(name) for name in header]
    return [
        Field(place, name, Kind.TEXT if found is None else found.kind, False, sql_name(name))
        for place, (name, found) in enumerate(zip(header, known, strict=True))
    ]


def _shown_fields(looking: Connection, reader: Reader, source: Source, all_personal: bool) -> list[Field]:
    family = family_of(source.report_type)
    known = known_columns(looking, family.table)
    plan = plan_columns(reader.header, family, known, personal=source.personal, all_personal=all_personal)
    return list(plan.fields)


def _was_read(source: Source, fields: Sequence[Field]) -> bool:
    """Whether the strict reader has accepted every value of these columns, so that another reader may read them."""
    return (
        source.separator == "."
        and source.loaded_rows > 0
        and bool(fields)
        and all(field.sql_name is not None for field in fields)
        and all(field.kind is Kind.TEXT or field.name in source.loaded_columns for field in fields)
    )


def _write(path: str, schema: "pa.Schema", source: Source, batches: Iterator[Batch]) -> int:
    """Write the report's columns behind those that say where a row comes from; returns the number of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    front, rows = _front(source), 0
    first = next(batches, ([], 0))
    options: dict[str, Any] = {"compression": "zstd", "compression_level": 1}
    with pq.ParquetWriter(path, schema, use_dictionary=_repetitive(schema, front, *first), **options) as writer:
        for columns, size in chain([first], batches):
            if size:
                arrays = [*_front_arrays(front, rows + 1, size), *columns]
                writer.write_table(_without(pa.Table.from_arrays(arrays, schema=schema), source.left_out))
                rows += size
    return rows


def _without(table: "pa.Table", left_out: Sequence[str]) -> "pa.Table":
    """The rows that are not of one of these connected accounts."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not left_out or ACCOUNT_COLUMN not in table.column_names:
        return table
    return table.filter(pc.invert(pc.is_in(table[ACCOUNT_COLUMN], value_set=pa.array(left_out))))


def _repetitive(
    schema: "pa.Schema", front: list[tuple[str, Any, Any]], columns: list["pa.Array"], rows: int
) -> list[str]:
    """The columns to write as references to their distinct values; with many of those it takes long for nothing."""
    names = schema.names[len(front) :]
    few = [name for name, column in zip(names, columns, strict=False) if 2 * len(column.unique()) < rows]
    return [*(name for name, _, _ in front if name != "_row"), *few]


def _schema(fields: Sequence[Field], source: Source, *, has_metadata: bool) -> "pa.Schema":
    import pyarrow as pa

    columns = [pa.field(name, type_) for name, type_, _ in _front(source)]
    columns += [pa.field(str(field.sql_name), _type(field.kind)) for field in fields]
    columns += [pa.field(METADATA, pa.string())] if has_metadata else []
    about = {"tallyhook.run_id": str(source.run_id), "tallyhook.sha256": source.sha256,
             "tallyhook.revision": str(source.revision), "tallyhook.timezone": source.timezone or ""}  # fmt: skip
    return pa.schema(columns, metadata=about)


def _by_arrow(content: Iterator[bytes], fields: Sequence[Field]) -> Iterator[Batch]:
    """The columns by pyarrow's own reader, which is several times as fast and not as strict."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    types = {field.name: _type(field.kind) for field in fields}
    stream = pa_csv.open_csv(
        pa.PythonFile(as_stream(content), mode="r"),
        read_options=pa_csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            column_types=types, include_columns=list(types), null_values=[""], strings_can_be_null=True
        ),
    )
    for batch in stream:
        yield batch.columns, batch.num_rows


def _strictly(reader: Reader, fields: Sequence[Field]) -> Iterator[Batch]:
    """The columns by our own reader, the keys of metadata in one column at the end; many rows at a time."""
    import pyarrow as pa

    plain = [place for place, field in enumerate(fields) if field.sql_name is not None]
    keys = [place for place, field in enumerate(fields) if field.sql_name is None]
    types = [_type(fields[place].kind) for place in plain] + [pa.string()] * bool(keys)
    groups: list[list[pa.Array]] = [[] for _ in types]
    found = 0
    for columns, rows in reader.columns([Wanted(field.index, field.name, field.kind) for field in fields]):
        texts = [columns[place] for place in plain]
        if keys:
            texts.append(metadata_of([fields[place].name for place in keys], [columns[place] for place in keys]))
        for group, column in zip(groups, texts, strict=True):
            group.append(pa.array([value or None for value in column] if "" in column else column, pa.string()))
        found += rows
        if found >= GROUP_ROWS:
            yield [pa.concat_arrays(group).cast(type_) for group, type_ in zip(groups, types, strict=True)], found
            groups, found = [[] for _ in types], 0
    if found:
        yield [pa.concat_arrays(group).cast(type_) for group, type_ in zip(groups, types, strict=True)], found


def _front_arrays(front: list[tuple[str, Any, Any]], first: int, rows: int) -> list[Any]:
    """The columns that are the same in every row of a file, and the row's number."""
    import pyarrow as pa

    numbers = pa.py_buffer(array("q", range(first, first + rows)))
    return [
        pa.Array.from_buffers(type_, rows, [None, numbers])
        if name == "_row"
        else pa.repeat(pa.scalar(value, type_), rows)
        for name, type_, value in front
    ]


def _front(source: Source) -> list[tuple[str, Any, Any]]:
    """The columns that say where a row comes from, as in the views."""
    import pyarrow as pa

    instant = pa.timestamp("us", tz="UTC")
    return [
        ("_account", pa.string(), source.account),
        ("_connected_account", pa.string(), source.connected_account),
        ("_report_type", pa.string(), source.report_type),
        ("_rule", pa.string(), source.rule),
        ("_revision", pa.int32(), source.revision),
        ("_interval_start", instant, source.interval_start),
        ("_interval_end", instant, source.interval_end),
        ("_timezone", pa.string(), source.timezone),
        ("_run_id", pa.string(), str(source.run_id)),
        ("_row", pa.int64(), None),
    ]


def _type(kind: Kind) -> "pa.DataType":
    import pyarrow as pa

    return {
        Kind.DECIMAL: pa.decimal128(38, 18),
        Kind.INTEGER: pa.int64(),
        Kind.TIMESTAMP: pa.timestamp("us"),
        Kind.TEXT: pa.string(),
    }[kind]


_SOURCE = """
select runs.id as run_id, files.id as file_id, files.location, files.size, files.sha256, runs.account,
    runs.connected_account, runs.report_type, rules.name as rule, runs.revision, runs.interval_start, runs.interval_end,
    runs.timezone, runs.parameters, coalesce(rules."table" -> 'personal', '[]') as personal,
    case when runs.connected_account is null then coalesce(rules.excepted, '{}') else '{}' end as left_out,
    coalesce(loads.loaded_columns, '{}') as loaded_columns, coalesce(loads.rows, 0) as loaded_rows
from runs join files on files.run_id = runs.id left join rules on rules.id = runs.rule_id
left join loads on loads.run_id = runs.id and loads.state = 'loaded'
where runs.id = %(run_id)s and files.stored_at is not null and files.removed_at is null
"""
