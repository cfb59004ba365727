"""Everything that a report's bytes depend on."""

from dataclasses import dataclass
from typing import Literal, TypeAlias
from zoneinfo import ZoneInfo

from app.simulator.reports.columns import Style
from app.simulator.reports.ledger import Business

Quoting: TypeAlias = Literal["all", "header", "minimal"]
"""`all`: quotes the header and every value, but not absent ones; `header`: quotes values only if they need it."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something wrong with the rows. The first data row is 1; a `bad_value` without a column is in the first one."""

    kind: Literal["extra_column", "bad_value", "missing_row"]
    row: int = 1
    column: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the rows of a report are written, where several forms have been seen."""

    quoting: Quoting = "all"
    newline: Literal["\n", "\r\n"] = "\n"
    bom: bool = False
    total_lines: bool = False
    """Summaries end in a line `total` per currency."""
    payout_parts: bool = True
    """A balance has `payouts_gross` and `payouts_fee` before `payouts`."""
    payout_currency: bool = True
    """The payout lines of a balance name their currency."""
    flaws: tuple[Flaw, ...] = ()


@dataclass(frozen=True, slots=True)
class Recipe:
    """Equal recipes give equal bytes. The interval is half-open, Unix seconds; the businesses (the platform's own, or
    those of connected accounts) are written in sequence."""

    report_type: str
    businesses: tuple[Business, ...]
    start: int
    end: int
    columns: tuple[str, ...]
    currency: str | None = None
    category: str | None = None
    timezone: str = "Etc/UTC"
    decimal_separator: str = "."
    bytes: int | None = None
    compressed: bool = False
    layout: Layout = Layout()

    @property
    def style(self) -> Style:
        zone = "America/Los_Angeles" if self.timezone == "US/Pacific-New" else self.timezone
        return Style(ZoneInfo(zone), self.decimal_separator)

    @property
    def expected_rows(self) -> float:
        """Roughly how many transactions the interval has."""
        return (self.end - self.start) / 86400 * sum(business.rows_per_day for business in self.businesses)
