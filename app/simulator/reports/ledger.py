"""The business behind the reports: an endless list of balance transactions, a pure function of a seed.

Transaction number *n* always looks the same and always happens at the same instant, so windows tile: the reports of
thirty days add up to the report of the month, and a summary agrees with its itemized report. Every UTC midnight an
automatic payout per currency pays out the earnings of the day before; the balance in between is what is still unpaid. A
restatement changes a window for all reports at once, so that their figures still agree.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from app.simulator.ids import derived_id

DAY = 86400
DECIMALS = {"jpy": 0, "kwd": 3}
CURRENCIES = ("usd", "eur", "usd", "jpy", "usd", "kwd")
DESCRIPTIONS = (
    "Subscription update",
    'Order "A-113", gift wrap',
    "Café Zürich – réservation n°42",
    "請求書 2026年3月分 ありがとう",
    "Two lines,\nsecond line; with a semicolon",
    "Großhandel Müller & Söhne 🚲",
    "",
    "Invoice 0042, net 30",
)
ADDED = 1_000_000_000_000
"""A transaction that a restatement adds has the number of its neighbour plus this."""


@dataclass(frozen=True, slots=True)
class Restatement:
    """A changed window `[start, end)`: in every eight transactions, one has another amount, one another text,
    one is gone and one has a new neighbour."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Business:
    """Whose transactions: the seed decides everything, `rows_per_day` how many there are; `account` is the connected
    account that they belong to, empty for the platform itself."""

    seed: str
    rows_per_day: float
    account: str = ""
    restatements: tuple[Restatement, ...] = ()
    currencies: tuple[str, ...] = CURRENCIES


@dataclass(frozen=True, slots=True)
class Transaction:
    """One balance transaction; amounts in minor units, `net = gross - fee`, `created` in Unix seconds."""

    number: int
    created: int
    category: str
    currency: str
    gross: int
    fee: int
    description: str
    business: Business

    @property
    def net(self) -> int:
        return self.gross - self.fee

    @property
    def cost(self) -> int:
        """What Stripe takes for it: its fee, or the whole of a transaction that is itself a fee."""
        return self.fee - self.gross if self.category == "fee" else self.fee

    @property
    def payout_at(self) -> int:
        """The midnight whose automatic payout carries this transaction."""
        return self.created - self.created % DAY + DAY

    def identifier(self, prefix: str) -> str:
        return derived_id(prefix, self.business.seed, self.number)


@dataclass(frozen=True, slots=True)
class Payout:
    """One automatic payout at a UTC midnight; `amount` (minor units) is what it pays out."""

    at: int
    currency: str
    amount: int
    business: Business

    @property
    def identifier(self) -> str:
        return derived_id("po", self.business.seed, self.at, self.currency)


def transactions(business: Business, start: int, end: int) -> Iterator[Transaction]:
    """All transactions created in `[start, end)`, in order of time."""
    if business.rows_per_day <= 0:
        return
    first, last = (math.floor(moment * business.rows_per_day / DAY) for moment in (start, end))
    for number in range(first - 1, last + 2):
        transaction = nth_transaction(business, number)
        if start <= transaction.created < end:
            yield from _restated(transaction) if business.restatements else (transaction,)


def nth_transaction(business: Business, number: int) -> Transaction:
    noise = int.from_bytes(hashlib.blake2b(f"{business.seed}:{number}".encode(), digest_size=16).digest(), "big")
    noise, place = divmod(noise, 1024)
    noise, kind = divmod(noise, 100)
    noise, cents = divmod(noise, 25_000)
    noise, currency = divmod(noise, len(business.currencies))
    category, gross, fee = _amounts(kind, 100 + cents)
    return Transaction(
        number=number,
        # The offset never reaches the next transaction's slot, so the order of numbers is the order of time.
        created=math.floor((number + place / 1024) * DAY / business.rows_per_day),
        category=category,
        currency=business.currencies[currency],
        gross=gross,
        fee=fee,
        description=DESCRIPTIONS[noise % len(DESCRIPTIONS)],
        business=business,
    )


def _amounts(kind: int, amount: int) -> tuple[str, int, int]:
    """Category, gross and fee: money that leaves the balance has a negative gross, a fee is never negative."""
    if kind < 84:
        return "charge", amount, amount * 29 // 1000 + 30
    if kind < 94:
        return "refund", -amount, 0
    if kind < 96:
        return "dispute", -amount, 1500
    if kind < 99:
        return "fee", -(amount % 300), 0
    return "other_adjustment", amount % 700, 0


def _restated(transaction: Transaction) -> Iterable[Transaction]:
    """A transaction after the restatements of the business, applied in order."""
    items = [transaction]
    for restatement in transaction.business.restatements:
        if restatement.start <= transaction.created < restatement.end and items:
            items = _restated_items(items, transaction.number % 8)
    return items


def _restated_items(items: list[Transaction], place: int) -> list[Transaction]:
    first = items[0]
    if place == 1:
        return [replace(first, gross=first.gross + 100), *items[1:]]
    if place == 3:
        return [replace(first, description="Restated"), *items[1:]]
    if place == 5:
        return items[1:]
    if place == 7:
        return [*items, replace(first, number=items[-1].number + ADDED)]
    return items


def payouts(business: Business, start: int, end: int) -> Iterator[Payout]:
    """The payouts at the UTC midnights in `[start, end)`; a day without earnings has none."""
    for midnight in range(-(-start // DAY) * DAY, end, DAY):
        totals = net_by_currency(transactions(business, midnight - DAY, midnight))
        for currency, amount in sorted(totals.items()):
            if amount:
                yield Payout(at=midnight, currency=currency, amount=amount, business=business)


def unpaid(business: Business, moment: int) -> Iterator[Transaction]:
    """The transactions in the balance at `moment`: created before it and not yet paid out."""
    last_payout = (moment - 1) // DAY * DAY
    return transactions(business, last_payout, moment)


def net_by_currency(items: Iterator[Transaction]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for transaction in items:
        totals[transaction.currency] = totals.get(transaction.currency, 0) + transaction.net
    return totals


def major(amount: int, currency: str) -> str:
    """Minor units as Stripe writes them: 1234 → `12.34`, for JPY `1234`, for KWD `1.234`."""
    places = DECIMALS.get(currency, 2)
    if places == 0:
        return str(amount)
    sign = "-" if amount < 0 else ""
    whole, part = divmod(abs(amount), 10**places)
    return f"{sign}{whole}.{part:0{places}d}"
