"""What a platform has besides its reports: connected accounts, payouts, and restated windows."""

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class ConnectedAccount:
    """An account that is connected to a platform; once it has left, the platform's key no longer finds it."""

    id: str
    created: int
    country: str = "DE"
    name: str | None = None
    email: str | None = None

    def rendered(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "account",
            "business_profile": {"name": self.name},
            "charges_enabled": True,
            "country": self.country,
            "created": self.created,
            "default_currency": "eur",
            "details_submitted": True,
            "email": self.email,
            "payouts_enabled": True,
            "type": "standard",
        }


@dataclass(frozen=True, slots=True)
class RestatedWindow:
    """Since `at` (the simulator's clock), the window `[start, end)` has other figures; `connected` None: for the
    platform and all its connected accounts."""

    start: int
    end: int
    at: float
    connected: str | None = None


@dataclass(frozen=True, slots=True)
class PayoutObject:
    """A payout of the API; the amount in minor units, times in Unix seconds. Reports itemize only automatic ones."""

    id: str
    created: int
    amount: int
    currency: str
    arrival_date: int
    status: str
    reconciliation_status: str
    livemode: bool
    automatic: bool = True
    owner: str | None = None

    def rendered(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "payout",
            "amount": self.amount,
            "arrival_date": self.arrival_date,
            "automatic": self.automatic,
            "balance_transaction": self.id.replace("po_", "txn_"),
            "created": self.created,
            "currency": self.currency,
            "description": "STRIPE PAYOUT",
            "destination": self.id.replace("po_", "ba_"),
            "livemode": self.livemode,
            "method": "standard",
            "reconciliation_status": self.reconciliation_status,
            "statement_descriptor": None,
            "status": self.status,
            "type": "bank_account",
        }
