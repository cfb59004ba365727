"""All checks, as values: their names, what they say, whose files they need, and how the two sides are found."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sqlalchemy.ext.asyncio import AsyncSession

from app.tables.catalogue import CONNECT_PREFIX, Family, family_of
from app.tables.checks import between_files, between_rows, of_one_file
from app.tables.checks.inputs import Inputs
from app.tables.checks.results import CurrentLoad, Finding

Find: TypeAlias = Callable[[AsyncSession, Inputs, CurrentLoad], Awaitable[list[Finding]]]
_SUMMED = (
    "balance_change_from_activity", "payouts", "payout_reconciliation", "payout_reconciliation.by_id",
    "ending_balance_reconciliation",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Check:
    """Two numbers that must agree. `needs`: families (without the prefix of Connect), each a choice; empty: any."""

    name: str
    says: str
    find: Find
    needs: tuple[tuple[str, ...], ...] = ()
    leading_only: bool = True

    def concerns(self, family: str) -> bool:
        """Whether a file of this family may be one side of it."""
        base = family.removeprefix(CONNECT_PREFIX)
        return not self.needs or any(base in choice for choice in self.needs)

    def has_inputs(self, families: frozenset[str]) -> bool:
        """Whether there are files of every family that it needs."""
        return all(families & set(choice) for choice in self.needs)


def _pure(find: Callable[[Inputs, CurrentLoad], list[Finding]]) -> Find:
    """A check that needs only what was fetched before."""

    async def found(_session: AsyncSession, inputs: Inputs, load: CurrentLoad) -> list[Finding]:
        return find(inputs, load)

    return found


_BALANCE = (between_files.BALANCE,)
CHECKS: tuple[Check, ...] = (
    Check("row_net", "On every row, net is gross minus fee", _pure(of_one_file.row_net)),
    Check("key_unique", "No row is in a file twice", _pure(of_one_file.key_unique)),
    Check("balance_rolls", "The starting balance, the activity and the payouts add up to the ending balance",
          of_one_file.balance_rolls, (_BALANCE,)),
    Check("balance_continues", "A window begins with the balance that the window before it ended with",
          _pure(between_files.balance_continues), (_BALANCE,)),
    Check("activity_total", "The activity in the balance is the net of its transactions",
          _pure(between_files.activity_total), (_BALANCE, between_files.ACTIVITY)),
    Check("payouts_total", "The payouts in the balance are the sum of the list of payouts",
          _pure(between_files.payouts_total), (_BALANCE, between_files.PAYOUTS)),
    Check("summary_is_sum", "A summary is the sum of its itemized report", _pure(between_files.summary_is_sum),
          (tuple(f"{stem}.{end}" for stem in _SUMMED for end in ("summary", "itemized")),)),
    Check("total_line", "The total line of a summary is the sum of its other lines", _pure(of_one_file.total_line),
          (tuple(f"{stem}.summary" for stem in _SUMMED),)),
    Check("payout_is_paid", "The transactions of a payout add up to it", between_rows.payout_is_paid,
          ((between_rows.RECONCILIATION,), ("payouts.itemized",))),
    Check("ending_is_unpaid", "The ending balance is what has not been paid out", _pure(between_files.ending_is_unpaid),
          (_BALANCE, between_files.ENDING)),
    Check("nothing_lost", "Each transaction that was unpaid or is new has been paid out or is still unpaid",
          between_rows.nothing_lost, tuple((one,) for one in between_rows.OF_TRANSACTIONS)),
    Check("days_make_the_month", "The days of a month (or other long window) together have the same rows as the whole",
          between_rows.days_make_the_month, leading_only=False),
)  # fmt: skip
BY_NAME = {check.name: check for check in CHECKS}


def checks_of(report_type: str) -> list[Check]:
    """The checks that files of this type may be a side of."""
    family: Family = family_of(report_type)
    return [check for check in CHECKS if check.concerns(family.id)] if family.is_known else []


def missing_for(check: Check, report_type: str, others: Sequence[str]) -> list[str]:
    """The families that a check still needs beside a rule of this type, given the types of the other rules."""
    had = {family_of(one).id.removeprefix(CONNECT_PREFIX) for one in (report_type, *others)}
    if check.name == "summary_is_sum":
        stem, _, end = family_of(report_type).id.removeprefix(CONNECT_PREFIX).rpartition(".")
        sister = f"{stem}.{'itemized' if end == 'summary' else 'summary'}"
        return [] if sister in had else [sister]
    return [" or ".join(choice) for choice in check.needs if not had & set(choice)]
