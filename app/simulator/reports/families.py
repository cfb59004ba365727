"""What each family of report types contains: which rows of the ledger, with which cells."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeAlias

from app.simulator.reports import rows
from app.simulator.reports.catalogue import CONNECTED_PREFIX
from app.simulator.reports.columns import (
    FEE_TOTAL_CELLS,
    PAYOUT_CELLS,
    SALES_CELLS,
    STANDING_CELLS,
    TOTAL_CELLS,
    Cell,
    Cells,
    RowT,
    Sales,
    Standing,
    Total,
)
from app.simulator.reports.ledger import Payout, Transaction
from app.simulator.reports.recipe import Recipe
from app.simulator.reports.transaction_columns import (
    CARD_FEE_CELLS,
    COMPONENT_CELLS,
    FEE_CELLS,
    FINANCIAL_CELLS,
    TAX_CELLS,
    TRANSACTION_CELLS,
    Component,
    metadata_value,
)


@dataclass(frozen=True, slots=True)
class Family(Generic[RowT]):
    """The rows of a kind of report and the cells that a row can be written with."""

    cells: Cells[RowT]
    rows: Callable[[Recipe], Iterable[RowT]]

    def lines(self, recipe: Recipe) -> Iterator[list[str]]:
        """The rows as text, in the recipe's order and style; absent values are empty."""
        style = recipe.style
        cells = [self._cell(column) for column in recipe.columns]
        for row in self.rows(recipe):
            yield [cell(row, style) for cell in cells]

    def _cell(self, column: str) -> Cell[RowT]:
        known = self.cells.get(column)
        return known if known is not None else lambda row, style: metadata_value(column, row)


AnyFamily: TypeAlias = (
    "Family[Transaction] | Family[Payout] | Family[Total] | Family[Component] | Family[Sales] | Family[Standing]"
)

FAMILIES: dict[str, AnyFamily] = {
    "activity.itemized": Family(COMPONENT_CELLS, rows.components),
    "activity.summary": Family(TOTAL_CELLS, rows.summed(rows.activity)),
    "all_fees.balance_transaction_created.itemized": Family(FEE_CELLS, rows.fees),
    "all_fees.balance_transaction_created.summary": Family(FEE_TOTAL_CELLS, rows.fee_totals),
    "all_fees.incurred_at.itemized": Family(FEE_CELLS, rows.fees),
    "all_fees.incurred_at.summary": Family(FEE_TOTAL_CELLS, rows.fee_totals),
    "balance.summary": Family(TOTAL_CELLS, rows.balance),
    "balance_change_from_activity.itemized": Family(TRANSACTION_CELLS, rows.activity),
    "balance_change_from_activity.summary": Family(TOTAL_CELLS, rows.summed(rows.activity)),
    "connect.negative_balance_refunds_disputes_overview": Family(STANDING_CELLS, rows.standings),
    "connect_card_payments_fees.plan_level": Family(CARD_FEE_CELLS, rows.charges),
    "connect_card_payments_fees.transaction_level": Family(CARD_FEE_CELLS, rows.charges),
    "ending_balance_reconciliation.itemized": Family(TRANSACTION_CELLS, rows.unpaid),
    "ending_balance_reconciliation.summary": Family(TOTAL_CELLS, rows.summed(rows.unpaid)),
    "financial_account_balance.summary": Family(TOTAL_CELLS, rows.balance),
    "financial_account_balance_change_from_activity.itemized": Family(FINANCIAL_CELLS, rows.activity),
    "payout_reconciliation.itemized": Family(TRANSACTION_CELLS, rows.paid_out),
    "payout_reconciliation.summary": Family(TOTAL_CELLS, rows.summed(rows.paid_out)),
    "payout_reconciliation.by_id.itemized": Family(TRANSACTION_CELLS, rows.paid_out),
    "payout_reconciliation.by_id.summary": Family(TOTAL_CELLS, rows.summed(rows.paid_out)),
    "payouts.itemized": Family(PAYOUT_CELLS, rows.payouts),
    "payouts.summary": Family(TOTAL_CELLS, rows.payout_totals),
    "tax.summarized_export": Family(SALES_CELLS, rows.sales_by_country),
    "tax.transactions.itemized": Family(TAX_CELLS, rows.sales),
}


@lru_cache(maxsize=256)
def family_of(report_type: str) -> AnyFamily:
    """The family of an id, whatever its version; an unknown family is written like plain activity."""
    name = report_type.removeprefix(CONNECTED_PREFIX).rpartition(".")[0]
    kind = "summary" if name.endswith(".summary") else "itemized"
    return FAMILIES.get(name) or FAMILIES[f"balance_change_from_activity.{kind}"]
