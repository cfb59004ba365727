"""Checks that need one file only."""

from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncSession

from app.tables.checks import inputs
from app.tables.checks.results import Comparison, CurrentLoad, Finding, Sums
from app.tables.facts import TOTAL_LINE

_ZERO = Decimal(0)


async def row_net(session: AsyncSession, load: CurrentLoad) -> list[Finding]:
    """net = gross - fee on every row."""
    comparison = Comparison(load, [load])
    by_currency: dict[str, list[Sums]] = {}
    for one in await inputs.sums_of(session, load):
        if one.net_breaks is not None:
            by_currency.setdefault(one.currency, []).append(one)
    for currency, sums in sorted(by_currency.items()):
        breaks = sum(one.net_breaks or 0 for one in sums)
        fits_plus = breaks and not sum(one.plus_breaks or 0 for one in sums)
        reason = f"{breaks} rows where net is not gross - fee" if breaks else None
        if fits_plus:
            reason = f"{reason}; net = gross + fee would fit all of them"
        net = sum((one.net or _ZERO for one in sums), _ZERO)
        comparison.add(
            currency, net, sum(((one.gross or _ZERO) - (one.fee or _ZERO) for one in sums), _ZERO), reason=reason
        )
    return comparison.findings


async def key_unique(_session: AsyncSession, load: CurrentLoad) -> list[Finding]:
    """No key twice in a file."""
    if load.key_repeats is None:
        return []
    comparison = Comparison(load, [load])
    comparison.add("", Decimal(load.rows), Decimal(load.rows - load.key_repeats))
    return comparison.findings


async def balance_rolls(session: AsyncSession, load: CurrentLoad) -> list[Finding]:
    """starting_balance + activity + payouts = ending_balance."""
    comparison = Comparison(load, [load])
    lines = await inputs.balance_lines(session, load)
    does_not_roll = False
    for currency, line in sorted(lines.items()):
        if inputs.STARTING not in line or inputs.ENDING not in line:
            comparison.not_comparable("the statement has no starting or no ending balance", currency)
            continue
        rolled = line[inputs.STARTING] + line["activity"] + line["payouts"]
        does_not_roll = does_not_roll or rolled != line[inputs.ENDING]
        comparison.add(currency, rolled, line[inputs.ENDING])
    if does_not_roll and len(lines) > 1 and await inputs.lines_without_currency(session, load):
        guess = "a line has no currency, and that of the line above it does not make the balance roll"
        return Comparison(load, [load]).not_comparable(guess).findings
    return comparison.findings


async def total_line(session: AsyncSession, load: CurrentLoad) -> list[Finding]:
    """The `total` line of a summary is the sum of its other lines."""
    comparison = Comparison(load, [load])
    sums = await inputs.sums_of(session, load)
    for total in (one for one in sums if one.category == TOTAL_LINE):
        others = [one for one in sums if one.currency == total.currency and one.category != TOTAL_LINE]
        differs = [
            name
            for name in ("count", "gross", "fee", "net")
            if (getattr(total, name) or _ZERO) != sum((getattr(one, name) or _ZERO for one in others), _ZERO)
        ]
        reason = f"different: {', '.join(differs)}" if differs else None
        net = sum((one.net or _ZERO for one in others), _ZERO)
        comparison.add(total.currency, total.net or _ZERO, net, reason=reason)
    return comparison.findings
