"""How the simulator behaves by default; every field can be changed while it runs."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from app.simulator.reports.recipe import Layout, Quoting
from app.simulator.words import checked

Outcome = Literal["succeed", "fail", "hang"]


@dataclass(slots=True)
class Settings:
    """All seconds may have decimals."""

    seed: int = 1
    """Determines the contents of files, and the accounts' ids."""
    rows_per_day: float = 48.0
    """Balance transactions per day of an account; 0 makes files with a header only."""
    quoting: Quoting = "all"
    """How files are quoted: `all` like the real ones that have been seen, only the `header`, or `minimal`."""
    total_lines: bool = False
    """Summaries end in a line `total` per currency."""
    payout_parts: bool = True
    """A balance summary has `payouts_gross` and `payouts_fee` lines."""
    payout_currency: bool = True
    """The payout lines of a balance summary name their currency."""
    outcome: Outcome = "succeed"
    """How runs end; `hang` leaves them pending."""
    delay: float = 0.0
    """Seconds of the simulator's clock from the create answer to the end of the run."""
    instant: bool = False
    """The create answer already says `succeeded`, with its result."""
    ranges: bool = True
    """Whether ranges of file contents can be requested."""
    rate_limits: bool = False
    """Refuse more than 25 calls per second and endpoint (files: 20, all together: 100 live, 25 test)."""
    api_version: str = "2026-10-28.endive"
    """The API version of events for endpoints without their own."""
    delivery_tries: int = 16
    """How often a delivery is tried before it fails."""
    delivery_base: float = 0.05
    """Seconds before the second try; each further try waits twice as long, up to `delivery_most`."""
    delivery_most: float = 2.0
    delivery_timeout: float = 10.0
    """Seconds that an endpoint has for its answer."""

    @property
    def layout(self) -> Layout:
        """How a report is written without faults."""
        return Layout(
            quoting=self.quoting,
            total_lines=self.total_lines,
            payout_parts=self.payout_parts,
            payout_currency=self.payout_currency,
        )

    def change(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Changes some; returns all of them. A ValueError lists the fields, or names the value that does not fit."""
        new = checked(Settings, asdict(self) | changes, what="the simulator's settings")
        for name in changes:
            setattr(self, name, getattr(new, name))
        return asdict(self)
