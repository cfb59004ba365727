"""A report file as Parquet, streamed from the CSV (sync). Money is decimal; times are naive, with the run's zone beside
them.

Only this needs the extra `parquet` (pyarrow).
"""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from psycopg.rows import class_row

from app.errors import FileIsGone
from app.files.reading import pieces
from app.tables.catalogue import Kind, family_of, find_column
from app.tables.columns import METADATA, Field, plan_columns, sql_name
from app.tables.ddl import Connection
from app.tables.load_file import known_columns
from app.tables.reading import Reader, Row, Wanted, as_json, as_stream
from app.tables.unzipping import plain

if TYPE_CHECKING:
    import pyarrow as pa

# Rows that become one row group.
GROUP_ROWS = 50_000
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
    was_read: bool  # after a load: each of its values has the strict shape

    @property
    def separator(self) -> str:
        """Digits before the decimal point."""
        return str(self.parameters.get("decimal_separator", "."))


def write_file(
    reading: Connection, looking: Connection, run_id: uuid.UUID, path: str, *, whole: bool, all_personal: bool
) -> int:
    """Write a run's file to `path`; returns its number of rows. Raises Unloadable, FileIsGone.

    With `whole` it has every column of the CSV; otherwise those that the views show and the rule names.
    """
    with looking.cursor(row_factory=class_row(Source)) as cursor:
        source = cursor.execute(_SOURCE, {"run_id": run_id}).fetchone()
    if source is None:
        raise FileIsGone(f"run {run_id} has no file")
    reader = Reader(_csv(reading, source), decimal_separator=source.separator)
    fields = _every_field(reader.header) if whole else _shown_fields(looking, reader, source, all_personal)
    if source.was_read and source.separator == "." and all(field.sql_name is not None for field in fields):
        return _write_read_file(path, _csv(reading, source), fields, source)
    _write(path, reader, fields, source)
    return reader.row_count


def _csv(reading: Connection, source: Source) -> Iterator[bytes]:
    return plain(pieces(reading, source.file_id, source.location, source.size))


def read_sums(path: str) -> tuple[int, dict[str, Any]]:
    """The number of rows of a written file, and its net per currency; no sums where it has no such columns."""
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


def _write(path: str, reader: Reader, fields: Sequence[Field], source: Source) -> None:
    import pyarrow.parquet as pq

    plain_fields = [field for field in fields if field.sql_name is not None]
    has_metadata = len(plain_fields) < len(fields)
    front = _front(source)
    schema = _schema(front, plain_fields, source, has_metadata=has_metadata)
    batches = reader.batches([Wanted(field.index, field.name, field.kind) for field in fields])
    with pq.ParquetWriter(path, schema, compression="zstd", compression_level=1) as writer:
        first = 1
        for rows in _groups(batches, fields, has_metadata):
            writer.write_table(_table(rows, plain_fields, front, schema, first))
            first += len(rows)


def _schema(
    front: list[tuple[str, Any, Any]], fields: Sequence[Field], source: Source, *, has_metadata: bool
) -> "pa.Schema":
    import pyarrow as pa

    columns = [pa.field(name, type_) for name, type_, _ in front]
    columns += [pa.field(str(field.sql_name), _type(field.kind)) for field in fields]
    columns += [pa.field(METADATA, pa.string())] if has_metadata else []
    about = {"tallyhook.run_id": str(source.run_id), "tallyhook.sha256": source.sha256,
             "tallyhook.revision": str(source.revision), "tallyhook.timezone": source.timezone or ""}  # fmt: skip
    return pa.schema(columns, metadata=about)


def _write_read_file(path: str, content: Iterator[bytes], fields: Sequence[Field], source: Source) -> int:
    """The same with pyarrow's own reader, five times as fast; for files that the strict reader has accepted before."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv
    import pyarrow.parquet as pq

    front = _front(source)
    schema = _schema(front, fields, source, has_metadata=False)
    names = [field.name for field in fields]
    stream = pa_csv.open_csv(
        pa.PythonFile(as_stream(content), mode="r"),
        read_options=pa_csv.ReadOptions(block_size=4 * 1024 * 1024, use_threads=False),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), include_columns=names, null_values=[""],
            strings_can_be_null=True,
        ),
    )  # fmt: skip
    rows = 0
    with pq.ParquetWriter(path, schema, compression="zstd", compression_level=1) as writer:
        for batch in stream:
            columns = [column.cast(_type(field.kind)) for column, field in zip(batch.columns, fields, strict=True)]
            arrays = _front_arrays(front, rows + 1, batch.num_rows) + columns
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            rows += batch.num_rows
    return rows


def _groups(batches: Iterator[list[Row]], fields: Sequence[Field], has_metadata: bool) -> Iterator[list[Row]]:
    group: list[Row] = []
    for batch in batches:
        group += _with_metadata(iter([batch]), fields) if has_metadata else batch
        if len(group) >= GROUP_ROWS:
            yield group
            group = []
    if group:
        yield group


def _with_metadata(batches: Iterator[list[Row]], fields: Sequence[Field]) -> Iterator[Row]:
    """The rows, with all keys of metadata in one JSON object at the end."""
    plain = [place for place, field in enumerate(fields) if field.sql_name is not None]
    keys = [place for place, field in enumerate(fields) if field.sql_name is None]
    names = [fields[place].name for place in keys]
    for batch in batches:
        for row in batch:
            yield (*(row[place] for place in plain), as_json(names, [row[place] for place in keys]))


def _table(
    rows: list[Row], plain: Sequence[Field], front: list[tuple[str, Any, Any]], schema: "pa.Schema", first: int
) -> "pa.Table":
    import pyarrow as pa

    arrays = _front_arrays(front, first, len(rows))
    values = list(zip(*rows, strict=True))
    kinds = [field.kind for field in plain] + [Kind.TEXT] * (len(values) - len(plain))
    for column, kind in zip(values, kinds, strict=True):
        texts = pa.array(column, pa.string())
        arrays.append(texts if kind is Kind.TEXT else texts.cast(_type(kind)))
    return pa.Table.from_arrays(arrays, schema=schema)


def _front_arrays(front: list[tuple[str, Any, Any]], first: int, rows: int) -> list[Any]:
    """The columns that are the same in every row of a file, and the row's number."""
    import pyarrow as pa

    return [
        pa.array(range(first, first + rows), type_) if name == "_row" else pa.repeat(pa.scalar(value, type_), rows)
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
    exists (select 1 from loads where loads.run_id = runs.id and state = 'loaded' and rows > 0) as was_read
from runs join files on files.run_id = runs.id left join rules on rules.id = runs.rule_id
where runs.id = %(run_id)s and files.stored_at is not null and files.removed_at is null
"""
