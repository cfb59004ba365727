"""The rows of the ledger in a report: one by one, or summed. All functions take a recipe."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import TypeAlias

from app.simulator.reports import ledger
from app.simulator.reports.columns import Sales, Standing, Total
from app.simulator.reports.ledger import DAY, Business, Payout, Transaction
from app.simulator.reports.recipe import Recipe
from app.simulator.reports.transaction_columns import Component, country, fee_category

LARGEST_SUM = 10_000
"""The most transactions that a summary sums, so that it stays cheap at any rate."""

Rows: TypeAlias = Callable[[Recipe], Iterator[Transaction]]


def activity(recipe: Recipe) -> Iterator[Transaction]:
    return _wanted(recipe, _transactions(recipe, recipe.start, recipe.end))


def paid_out(recipe: Recipe) -> Iterator[Transaction]:
    """The transactions behind the payouts of the interval: those of the UTC days that end inside it."""
    first, last = (-(-moment // DAY) * DAY - DAY for moment in (recipe.start, recipe.end))
    return _wanted(recipe, _transactions(recipe, first, last))


def unpaid(recipe: Recipe) -> Iterator[Transaction]:
    return _wanted(recipe, _from_each(recipe, lambda business: ledger.unpaid(business, recipe.end)))


def fees(recipe: Recipe) -> Iterator[Transaction]:
    """What Stripe has taken; the filter is the category of the fee, not of the transaction."""
    for item in _transactions(recipe, recipe.start, recipe.end):
        fits = recipe.currency in (None, item.currency) and recipe.category in (None, fee_category(item))
        if item.cost and fits:
            yield item


def sales(recipe: Recipe) -> Iterator[Transaction]:
    return (item for item in activity(recipe) if item.category in ("charge", "refund"))


def charges(recipe: Recipe) -> Iterator[Transaction]:
    return (item for item in activity(recipe) if item.category == "charge")


def components(recipe: Recipe) -> Iterator[Component]:
    """A transaction's gross and fee as separate parts, which sum to its net."""
    for item in activity(recipe):
        yield Component(item, "gross", item.gross)
        if item.fee:
            yield Component(item, "fee", -item.fee)


def payouts(recipe: Recipe) -> Iterator[Payout]:
    for payout in chain.from_iterable(ledger.payouts(each, recipe.start, recipe.end) for each in recipe.businesses):
        if recipe.currency in (None, payout.currency) and recipe.category in (None, "payout"):
            yield payout


def summed(rows: Rows) -> Callable[[Recipe], Iterator[Total]]:
    """One total per category and currency, in alphabetical order."""

    def totals(recipe: Recipe) -> Iterator[Total]:
        groups: dict[tuple[str, str], list[Transaction]] = {}
        for item in islice(rows(recipe), LARGEST_SUM):
            groups.setdefault((item.category, item.currency), []).append(item)
        lines = [
            Total(
                category, currency, sum(item.gross for item in items), sum(item.fee for item in items), "", len(items)
            )
            for (category, currency), items in sorted(groups.items())
        ]
        return _with_total_lines(recipe, lines)

    return totals


def _total(category: str, currency: str, items: list[Transaction]) -> Total:
    gross, fee = sum(item.gross for item in items), sum(item.fee for item in items)
    return Total(category, currency, gross, fee, count=len(items))


def fee_totals(recipe: Recipe) -> Iterator[Total]:
    groups: dict[tuple[str, str], int] = {}
    for item in islice(fees(recipe), LARGEST_SUM):
        key = (fee_category(item), item.currency)
        groups[key] = groups.get(key, 0) + item.cost
    return (Total(category, currency, 0, cost) for (category, currency), cost in sorted(groups.items()))


def payout_totals(recipe: Recipe) -> Iterator[Total]:
    amounts: dict[str, list[int]] = {}
    for payout in payouts(recipe):
        amounts.setdefault(payout.currency, []).append(payout.amount)
    lines = [Total("payout", currency, -sum(paid), 0, count=len(paid)) for currency, paid in sorted(amounts.items())]
    return _with_total_lines(recipe, lines)


def _with_total_lines(recipe: Recipe, lines: list[Total]) -> Iterator[Total]:
    yield from lines
    for currency in sorted({line.currency for line in lines}) if recipe.layout.total_lines else ():
        own = [line for line in lines if line.currency == currency]
        gross, fee, count = (sum(getattr(line, name) for line in own) for name in ("gross", "fee", "count"))
        yield Total("total", currency, gross, fee, count=count)


def balance(recipe: Recipe) -> Iterator[Total]:
    """Per currency: starting balance + activity + payouts = ending balance."""
    starting = _sums(_from_each(recipe, lambda business: ledger.unpaid(business, recipe.start)))
    moved = _sums(_transactions(recipe, recipe.start, recipe.end))
    paid: dict[str, int] = {}
    for payout in payouts(recipe):
        paid[payout.currency] = paid.get(payout.currency, 0) - payout.amount
    for currency in sorted(starting.keys() | moved.keys() | paid.keys()):
        if recipe.currency in (None, currency):
            gross, fee = starting.get(currency, (0, 0))
            yield from _balance_lines(recipe, currency, gross - fee, moved.get(currency, (0, 0)), paid.get(currency, 0))


def _balance_lines(recipe: Recipe, currency: str, before: int, moved: tuple[int, int], paid: int) -> Iterator[Total]:
    gross, fee = moved
    parts = ("payouts_gross", "Payouts before fees", paid), ("payouts_fee", "Payout fees", 0)
    for category, description, amount in (
        ("starting_balance", "Starting balance", before),
        ("activity_gross", "Account activity before fees", gross),
        ("activity_fee", "Less fees", -fee),
        ("activity", "Net balance change from account activity", gross - fee),
        *(parts if recipe.layout.payout_parts else ()),
        ("payouts", "Total payouts", paid),
        ("ending_balance", "Ending balance", before + gross - fee + paid),
    ):
        hides = category.startswith("payouts") and not recipe.layout.payout_currency
        yield Total(category, currency, amount, 0, description=description, hides_currency=hides)


def sales_by_country(recipe: Recipe) -> Iterator[Sales]:
    groups: dict[tuple[str, str], list[Transaction]] = {}
    for item in islice(sales(recipe), LARGEST_SUM):
        groups.setdefault((country(item), item.currency), []).append(item)
    for (where, currency), items in sorted(groups.items()):
        sold = sum(item.gross for item in items if item.gross > 0)
        yield Sales(where, currency, sold, refunded=sold - sum(item.gross for item in items))


def standings(recipe: Recipe) -> Iterator[Standing]:
    """Every connected account in every currency, as of the end of the interval."""
    for business in recipe.businesses:
        left = ledger.net_by_currency(ledger.unpaid(business, recipe.end))
        week = list(islice(ledger.transactions(business, recipe.end - 7 * DAY, recipe.end), LARGEST_SUM))
        for currency in sorted({item.currency for item in week} | left.keys()):
            own = [item for item in week if item.currency == currency]
            yield Standing(
                account=business.account,
                currency=currency,
                balance=left.get(currency, 0),
                change=sum(item.net for item in own if item.created >= recipe.end - DAY),
                refunded=-sum(item.gross for item in own if item.category == "refund"),
                disputed=-sum(item.gross for item in own if item.category == "dispute"),
            )


def _transactions(recipe: Recipe, start: int, end: int) -> Iterator[Transaction]:
    return _from_each(recipe, lambda business: ledger.transactions(business, start, end))


def _from_each(recipe: Recipe, rows: Callable[[Business], Iterator[Transaction]]) -> Iterator[Transaction]:
    return chain.from_iterable(rows(business) for business in recipe.businesses)


def _wanted(recipe: Recipe, items: Iterable[Transaction]) -> Iterator[Transaction]:
    for item in items:
        if recipe.currency in (None, item.currency) and recipe.category in (None, item.category):
            yield item


def _sums(items: Iterable[Transaction]) -> dict[str, tuple[int, int]]:
    """Gross and fee by currency."""
    sums: dict[str, tuple[int, int]] = {}
    for item in islice(items, LARGEST_SUM):
        gross, fee = sums.get(item.currency, (0, 0))
        sums[item.currency] = (gross + item.gross, fee + item.fee)
    return sums
