"""Writes all windows that the views show as Parquet to a chosen place: the same objects as in the Parquet store."""

import tempfile
import uuid
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from sqlalchemy import text

from app.db.rows import fetch
from app.errors import ChildEnded, TallyhookError
from app.files import objects
from app.resources import Resources
from app.tables import parquet
from app.tables.child_process import Child
from app.tables.publishing import MEDIA_TYPE, location_of


@dataclass(frozen=True, slots=True)
class Shown:
    """A load that the plain views show."""

    id: int
    run_id: uuid.UUID
    table_name: str
    account: str
    connected_account: str | None
    window_key: str
    rows: int
    is_partly_shown: bool  # its rule leaves connected accounts out


@dataclass(frozen=True, slots=True)
class CurrencySum:
    """The sum of a load in a currency, from the database."""

    currency: str
    net: Decimal | None


async def export(res: Resources, base: str, *, check: bool) -> int:
    """Write every shown window below `base`; returns how many. With `check`, the rows and sums of each are read back.

    Raises TallyhookError if pyarrow is missing, or a window cannot be written or reads back differently.
    """
    if not parquet.is_possible():
        raise TallyhookError(parquet.NEEDS)
    objects.check(base)
    async with res.sessions.begin() as session:
        shown = await fetch(session, Shown, _SHOWN)
    child = Child(res)
    try:
        for one in shown:
            await _export(res, child, one, base, check=check)
    finally:
        await child.end()
    return len(shown)


async def _export(res: Resources, child: Child, one: Shown, base: str, *, check: bool) -> None:
    where = location_of(base, one.table_name, one.account, one.connected_account, one.window_key)
    with tempfile.TemporaryDirectory(prefix="tallyhook-parquet-") as folder:
        path = Path(folder) / "part.parquet"
        try:
            answer = await child.write_parquet(one.run_id, path, whole=False)
        except ChildEnded as error:
            raise TallyhookError(f"run {one.run_id}: {error}") from error
        if answer["outcome"] != "written":
            raise TallyhookError(f"run {one.run_id} cannot be written as Parquet: {answer['outcome']}")
        if check:
            await _check(res, one, path)
        await objects.put_file(where, path, media_type=MEDIA_TYPE)


async def _check(res: Resources, one: Shown, path: Path) -> None:
    async with res.sessions.begin() as session:
        expected = {row.currency: row.net for row in await fetch(session, CurrencySum, _SUMS, {"id": one.id})}
    rows, sums = parquet.read_sums(str(path))
    if one.is_partly_shown and rows <= one.rows:
        return  # sums are known only for whole files
    wrong = rows != one.rows or any(sums[currency] != expected.get(currency) for currency in sums)
    if wrong:
        raise TallyhookError(f"run {one.run_id}: the Parquet file's sums differ from the table's")


_SHOWN = text("""
select loads.id, run_id, table_name, loads.account, connected_account, window_key, rows,
    connected_account is null and coalesce(rules.excepted <> '{}', false) as is_partly_shown
from loads left join rules on rules.id = loads.rule_id
where is_current and leads and loaded_at is not null and state <> 'removed' and window_key is not null order by loads.id
""")
_SUMS = text("select currency, sum(net) as net from load_sums where load_id = :id group by currency")
