"""Checks between files that compare rows, not sums: by payout, by transaction, by day."""

from datetime import datetime
from decimal import Decimal
from itertools import pairwise

from psycopg import sql
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.sentences import count
from app.tables.catalogue import family_of, is_metadata
from app.tables.checks.between_files import PAYOUTS
from app.tables.checks.inputs import Inputs, base_of, loads_by_id, parts_of, query, sister, table_of
from app.tables.checks.results import Comparison, CurrentLoad, Finding
from app.tables.columns import sql_name

RECONCILIATION = "payout_reconciliation.itemized"
ACTIVITY = "balance_change_from_activity.itemized"
UNPAID = "ending_balance_reconciliation.itemized"
OF_TRANSACTIONS = (ACTIVITY, RECONCILIATION, UNPAID)


async def payout_is_paid(session: AsyncSession, inputs: Inputs, load: CurrentLoad) -> list[Finding]:
    """The transactions of a payout add up to it. They are matched by the payout's id, as the two may lie in different
    windows."""
    reconciliations = [load]
    if base_of(load.family) != RECONCILIATION:
        reconciliations = await loads_by_id(session, await _reconciliations_of(session, load))
    asked = [one for one in reconciliations if inputs.is_first("payout_is_paid", one.id)]
    return [finding for one in asked for finding in await _reconciled(session, one)]


async def _reconciliations_of(session: AsyncSession, payouts: CurrentLoad) -> list[int]:
    """The current reconciliations that name a payout of this file."""
    reconciliations = table_of(sister(payouts, RECONCILIATION))
    if not (await _has_columns(session, reconciliations, "automatic_payout_id")
            and {"payout_id"} <= set(payouts.loaded_columns)):  # fmt: skip
        return []
    statement = sql.SQL(
        "select distinct line.load_id from {reconciliations} as line join loads on loads.id = line.load_id"
        " where loads.is_current and loads.leads and loads.account = {account} and loads.scope = {scope}"
        " and line.automatic_payout_id in (select payout_id from {payouts} where load_id = {load})"
    ).format(
        reconciliations=_table(reconciliations),
        payouts=_table(payouts.table_name),
        account=payouts.account,
        scope=payouts.scope,
        load=payouts.id,
    )
    return [row[0] for row in await query(session, statement)]


async def _reconciled(session: AsyncSession, load: CurrentLoad) -> list[Finding]:
    payouts = table_of(sister(load, PAYOUTS[0]))
    if not await _has_columns(session, payouts, "payout_id", "net", "currency", "reporting_category"):
        return []
    if not {"automatic_payout_id", "net", "currency"} <= set(load.loaded_columns):
        said = "the reconciliation lacks automatic_payout_id, net or currency: request these columns"
        return Comparison(load, [load]).not_comparable(said).findings
    no_payout = sql.SQL(_NO_PAYOUT if "reporting_category" in load.loaded_columns else "")
    statement = sql.SQL(
        "with made as (select automatic_payout_id as id, currency, sum(net) as net from {made} as line"
        " where load_id = {load} and automatic_payout_id is not null {no_payout} group by 1, 2),"
        " paid as (select line.payout_id as id, line.currency, -sum(line.net) as net,"
        " array_agg(distinct loads.id) as loads from {paid} as line join loads on loads.id = line.load_id"
        " where loads.is_current and loads.leads and loads.account = {account} and loads.scope = {scope}"
        " and line.reporting_category = 'payout' and line.payout_id in (select id from made) group by 1, 2)"
        " select made.currency, sum(made.net), sum(paid.net),"
        " min(made.id) filter (where made.net <> paid.net), count(*) filter (where made.net <> paid.net),"
        " (select array_agg(distinct one) from unnest(string_to_array(string_agg("
        "array_to_string(paid.loads, ','), ','), ',')::bigint[]) as one)"
        " from made join paid using (id, currency) group by 1 order by 1"
    ).format(
        no_payout=no_payout,
        made=_table(load.table_name),
        paid=_table(payouts),
        load=load.id,
        account=load.account,
        scope=load.scope,
    )
    findings: list[Finding] = []
    for currency, made, paid, first, number, ids in await query(session, statement):
        comparison = Comparison(load, [load, *await loads_by_id(session, ids)])
        reason = f"{count(number, 'payout differs', 'payouts differ')}; the first is {first}" if number else None
        comparison.add(currency, made, paid, reason=reason)
        findings += comparison.findings
    return findings


async def nothing_lost(session: AsyncSession, inputs: Inputs, load: CurrentLoad) -> list[Finding]:
    """Unpaid at the start + new = paid out + unpaid at the end, transaction by transaction."""
    findings = []
    for start, end in _windows(inputs, load):
        if inputs.is_first("nothing_lost", load.scope, sister(load, ACTIVITY), start, end):
            findings += await _nothing_lost_in(session, inputs, load, start, end)
    return findings


def _windows(inputs: Inputs, load: CurrentLoad) -> list[tuple[datetime, datetime]]:
    """The load's own or, as a snapshot has none, those of the activity before and after it."""
    is_snapshot = base_of(load.family) == UNPAID
    found = [
        (one.interval_start, one.interval_end)
        for one in (inputs.shown_of(load, ACTIVITY) if is_snapshot else [load])
        if not is_snapshot or load.interval_end in (one.interval_start, one.interval_end)
    ]
    return [*dict.fromkeys((start, end) for start, end in found if start is not None and end is not None)]


async def _nothing_lost_in(
    session: AsyncSession, inputs: Inputs, load: CurrentLoad, start: datetime, end: datetime
) -> list[Finding]:
    activity = inputs.find(load, ACTIVITY, start=start, end=end)
    paid = inputs.find(load, RECONCILIATION, start=start, end=end)
    first = inputs.find(load, UNPAID, end=start)
    last = inputs.find(load, UNPAID, end=end)
    if activity is None or paid is None or first is None or last is None:
        return []
    loads = [first, activity, paid, last]
    comparison = Comparison(activity, loads)
    if any(not {"balance_transaction_id", "currency"} <= set(one.loaded_columns) for one in loads):
        return comparison.not_comparable("a file lacks balance_transaction_id or currency").findings
    sides = ((1, first), (1, activity), (-1, paid), (-1, last))
    parts = [_side(side, one, skip_payouts=one is paid) for side, one in sides]
    statement = sql.SQL(
        "select currency, sum(ins), sum(outs), min(id) filter (where ins <> outs), count(*) filter (where ins <> outs)"
        " from (select id, currency, count(*) filter (where side = 1) as ins, count(*) filter (where side = -1) as outs"
        " from ({parts}) as line group by 1, 2) as line group by 1 order by 1"
    ).format(parts=sql.SQL(" union all ").join(parts))
    for currency, ins, outs, example, number in await query(session, statement):
        lone = count(number, "transaction is on one side only", "transactions are on one side only")
        reason = f"{lone}; the first is {example}" if number else None
        comparison.add(currency or "", Decimal(ins), Decimal(outs), reason=reason)
    return comparison.findings


def _side(side: int, load: CurrentLoad, *, skip_payouts: bool) -> sql.Composed:
    """The transactions of a file as (id, currency, side)."""
    where = _NO_PAYOUT if skip_payouts and "reporting_category" in load.loaded_columns else ""
    return sql.SQL(
        "select balance_transaction_id as id, currency, {side} as side from {table} where load_id = {id} {where}"
    ).format(side=side, table=_table(load.table_name), id=load.id, where=sql.SQL(where))


async def days_make_the_month(session: AsyncSession, inputs: Inputs, load: CurrentLoad) -> list[Finding]:
    """The leading short windows together have the rows of the long one: a difference means that Stripe restated
    them."""
    findings = []
    for whole in inputs.wholes.get(load.id, ()):
        if inputs.is_first("days_make_the_month", whole.id):
            parts = await parts_of(session, whole)
            if parts and _tile(parts, whole):
                findings += await _same_rows(session, parts, whole)
    return findings


def _tile(parts: list[CurrentLoad], whole: CurrentLoad) -> bool:
    """Whether the parts, in order, cover the whole without a gap."""
    bounds = [(one.interval_start, one.interval_end) for one in parts]
    touching = all(one[1] == next_[0] for one, next_ in pairwise(bounds))
    return touching and (bounds[0][0], bounds[-1][1]) == (whole.interval_start, whole.interval_end)


async def _same_rows(session: AsyncSession, parts: list[CurrentLoad], whole: CurrentLoad) -> list[Finding]:
    comparison = Comparison(whole, [whole, *parts])
    family = family_of(whole.report_type)
    names = set(whole.loaded_columns).intersection(*(one.loaded_columns for one in parts))
    if set(whole.loaded_columns) != names or any(set(one.loaded_columns) != names for one in parts):
        return comparison.not_comparable("the files have different columns").findings
    if family.is_summary or family.row_key == ("category", "currency") or "currency" not in names:
        return []
    columns = sorted(sql_name(name) for name in names if not is_metadata(name))
    listed = sql.SQL(", ").join(map(sql.Identifier, columns))
    extra = sql.SQL(", sum(coalesce(net, 0) * times) filter (where side = 1), sum(coalesce(net, 0) * times)"
                    " filter (where side = -1)") if "net" in names else sql.SQL(", 0, 0")  # fmt: skip
    # Every line that one side has more often than the other, counted; equal lines cancel out.
    statement = sql.SQL(
        "with line as (select {listed}, side, count(*) as times from ("
        "select {listed}, 1 as side from {table} where load_id = any({parts}) union all"
        " select {listed}, -1 as side from {table} where load_id = {whole}) as line group by {listed}, side)"
        " select coalesce(currency, '') as currency {extra},"
        " (select count(*) from (select sum(side * times) as more from line as other"
        " where other.currency is not distinct from line.currency group by {listed}) as other where more <> 0)"
        " from line group by line.currency order by 1"
    ).format(
        listed=listed, table=_table(whole.table_name), parts=[one.id for one in parts], whole=whole.id, extra=extra
    )
    for currency, days, month, differing in await query(session, statement):
        rows = count(differing, "row is different", "rows are different")
        reason = f"{rows}: the report was restated" if differing else None
        comparison.add(currency, days or Decimal(0), month or Decimal(0), reason=reason)
    return comparison.findings


async def _has_columns(session: AsyncSession, table: str, *columns: str) -> bool:
    found = (await session.execute(_HAS_COLUMNS, {"table": table, "columns": list(columns)})).scalar_one()
    return bool(found == len(columns))


def _table(name: str) -> sql.Identifier:
    return sql.Identifier("report_rows", name)


_NO_PAYOUT = "and coalesce(reporting_category, '') not in ('payout', 'payout_reversal')"
_HAS_COLUMNS = text("""
select count(*) from pg_attribute where attrelid = to_regclass(format('report_rows.%I', cast(:table as text)))
    and attname = any(:columns) and not attisdropped
""")
