"""Checks between files of the same account and scope, by their sums. No verdict while an input is missing. Pure."""

from collections.abc import Iterable, Mapping
from decimal import Decimal

from app.tables.amounts import total
from app.tables.checks.inputs import ENDING as ENDING_LINE
from app.tables.checks.inputs import STARTING as STARTING_LINE
from app.tables.checks.inputs import Inputs, base_of
from app.tables.checks.results import Comparison, CurrentLoad, Finding, Sums
from app.tables.facts import TOTAL_LINE

BALANCE = "balance.summary"
ACTIVITY = ("balance_change_from_activity.itemized", "balance_change_from_activity.summary")
PAYOUTS = ("payouts.itemized", "payouts.summary")
ENDING = ("ending_balance_reconciliation.itemized", "ending_balance_reconciliation.summary")


def balance_continues(inputs: Inputs, load: CurrentLoad) -> list[Finding]:
    """The ending balance of a window is the starting balance of the next."""
    before = inputs.find(load, BALANCE, end=load.interval_start)
    after = inputs.find(load, BALANCE, start=load.interval_end)
    pairs = [(before, load), (load, after)]
    return [
        finding
        for one, next_ in pairs
        if one is not None and next_ is not None and one.id != next_.id
        for finding in _continues(inputs, one, next_)
    ]


def _continues(inputs: Inputs, before: CurrentLoad, after: CurrentLoad) -> list[Finding]:
    ending = _line(inputs.balance_lines(before), ENDING_LINE)
    starting = _line(inputs.balance_lines(after), STARTING_LINE)
    return Comparison(after, [before, after]).all_of(ending, starting).findings


def activity_total(inputs: Inputs, load: CurrentLoad) -> list[Finding]:
    """The activity of a balance is the sum of its transactions."""
    return _total(inputs, load, ACTIVITY, "activity")


def payouts_total(inputs: Inputs, load: CurrentLoad) -> list[Finding]:
    """The payouts of a balance are what was paid out, reversals included."""
    return _total(inputs, load, PAYOUTS, "payouts")


def _total(inputs: Inputs, load: CurrentLoad, families: tuple[str, ...], line: str) -> list[Finding]:
    balance = inputs.find(load, BALANCE, start=load.interval_start, end=load.interval_end)
    parts = inputs.find(load, *families, start=load.interval_start, end=load.interval_end)
    if balance is None or parts is None:
        return []
    said = _line(inputs.balance_lines(balance), line)
    return Comparison(balance, [balance, parts]).all_of(said, inputs.net_by_currency(parts)).findings


def summary_is_sum(inputs: Inputs, load: CurrentLoad) -> list[Finding]:
    """A summary is the sum of its itemized counterpart: count, gross, fee and net, per category."""
    stem = base_of(load.family).rpartition(".")[0]
    # A snapshot has no start: it is taken at its end.
    start = None if stem == "ending_balance_reconciliation" else load.interval_start
    summary = inputs.find(load, f"{stem}.summary", start=start, end=load.interval_end)
    itemized = inputs.find(load, f"{stem}.itemized", start=start, end=load.interval_end)
    if summary is None or itemized is None:
        return []
    comparison = Comparison(summary, [summary, itemized])
    left = _by_category(inputs.sums[summary.id])
    right = _by_category(inputs.sums[itemized.id])
    for currency in sorted({currency for currency, _ in (*left, *right)}):
        differs = _first_difference(currency, left, right)
        comparison.add(currency, _net(currency, left), _net(currency, right), reason=differs)
    return comparison.findings


def ending_is_unpaid(inputs: Inputs, load: CurrentLoad) -> list[Finding]:
    """What is not yet paid out at the end of a window is its ending balance."""
    balance = inputs.find(load, BALANCE, end=load.interval_end)
    unpaid = inputs.find(load, *ENDING, end=load.interval_end)
    if balance is None or unpaid is None:
        return []
    ending = _line(inputs.balance_lines(balance), ENDING_LINE)
    return Comparison(balance, [balance, unpaid]).all_of(ending, inputs.net_by_currency(unpaid)).findings


def _line(lines: Mapping[str, Mapping[str, Decimal]], name: str) -> dict[str, Decimal]:
    return {currency: line.get(name, Decimal(0)) for currency, line in lines.items()}


Numbers = tuple[Decimal, Decimal, Decimal, Decimal]


def _by_category(sums: Iterable[Sums]) -> dict[tuple[str, str], Numbers]:
    """Count, gross, fee and net per currency and category. Rows without a `count` are counted."""
    zero = Decimal(0)
    return {
        (one.currency, one.category): (
            Decimal(one.rows) if one.count is None else one.count, one.gross or zero, one.fee or zero, one.net or zero,
        )
        for one in sums
        if one.category != TOTAL_LINE
    }  # fmt: skip


def _first_difference(
    currency: str, left: Mapping[tuple[str, str], Numbers], right: Mapping[tuple[str, str], Numbers]
) -> str | None:
    for place in sorted({*left, *right}):
        if place[0] != currency:
            continue
        one, other = left.get(place, (Decimal(0),) * 4), right.get(place, (Decimal(0),) * 4)
        for name, said, is_ in zip(("count", "gross", "fee", "net"), one, other, strict=True):
            if said != is_:
                return f"{name} of {place[1]}: the summary says {said:f}, the rows {is_:f}"
    return None


def _net(currency: str, sums: Mapping[tuple[str, str], Numbers]) -> Decimal:
    return total(numbers[3] for place, numbers in sums.items() if place[0] == currency)
