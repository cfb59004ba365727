"""Checks that need one file only."""

from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncSession

from app.sentences import count
from app.tables.amounts import difference, total
from app.tables.checks.inputs import ENDING, STARTING, Inputs, lines_without_currency
from app.tables.checks.results import Comparison, CurrentLoad, Finding, Sums
from app.tables.facts import TOTAL_LINE

_ZERO = Decimal(0)


def row_net(inputs: Inputs, load: CurrentLoad) -> list[Finding]:
    """net = gross - fee on every row."""
    comparison = Comparison(load, [load])
    by_currency: dict[str, list[Sums]] = {}
    for one in inputs.sums[load.id]:
        if one.net_breaks is not None:
            by_currency.setdefault(one.currency, []).append(one)
    for currency, sums in sorted(by_currency.items()):
        breaks = sum(one.net_breaks or 0 for one in sums)
        fits_plus = breaks and not sum(one.plus_breaks or 0 for one in sums)
        reason = f"{count(breaks, 'row')} where net is not gross - fee" if breaks else None
        if fits_plus:
            reason = f"{reason}; net = gross + fee would fit instead"
        expected = difference(total(one.gross for one in sums), total(one.fee for one in sums))
        comparison.add(currency, total(one.net for one in sums), expected, reason=reason)
    return comparison.findings


def key_unique(_inputs: Inputs, load: CurrentLoad) -> list[Finding]:
    """No key twice in a file."""
    if load.key_repeats is None:
        return []
    comparison = Comparison(load, [load])
    comparison.add("", Decimal(load.rows), Decimal(load.rows - load.key_repeats))
    return comparison.findings


async def balance_rolls(session: AsyncSession, inputs: Inputs, load: CurrentLoad) -> list[Finding]:
    """starting_balance + activity + payouts = ending_balance."""
    comparison = Comparison(load, [load])
    lines = inputs.balance_lines(load)
    does_not_roll = False
    for currency, line in sorted(lines.items()):
        if STARTING not in line or ENDING not in line:
            comparison.not_comparable("the statement lacks its starting or ending balance", currency)
            continue
        rolled = total((line[STARTING], line["activity"], line["payouts"]))
        does_not_roll = does_not_roll or rolled != line[ENDING]
        comparison.add(currency, rolled, line[ENDING])
    if does_not_roll and len(lines) > 1 and await lines_without_currency(session, load):
        guess = "a line has no currency, and that of the line above it does not make the balance roll"
        return Comparison(load, [load]).not_comparable(guess).findings
    return comparison.findings


def total_line(inputs: Inputs, load: CurrentLoad) -> list[Finding]:
    """The `total` line of a summary is the sum of its other lines."""
    comparison = Comparison(load, [load])
    sums = inputs.sums[load.id]
    for line in (one for one in sums if one.category == TOTAL_LINE):
        others = [one for one in sums if one.currency == line.currency and one.category != TOTAL_LINE]
        differs = [
            name
            for name in ("count", "gross", "fee", "net")
            if (getattr(line, name) or _ZERO) != total(getattr(one, name) for one in others)
        ]
        reason = f"different: {', '.join(differs)}" if differs else None
        comparison.add(line.currency, line.net or _ZERO, total(one.net for one in others), reason=reason)
    return comparison.findings
