"""The result of a check: a verdict per currency, and the loads that it is based on."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum


class Verdict(StrEnum):
    """Whether the two sides agree; the tolerance is zero."""

    AGREES = "agrees"
    DIFFERS = "differs"
    NOT_COMPARABLE = "not_comparable"


def difference_text(about: str, difference: Decimal | None, reason: str | None) -> str:
    """What differs, in a sentence. If both sides add up to the same and still differ, the reason says how."""
    if difference:
        return f"{about} differs by {difference:f}"
    return f"{about} differs" + (f": {reason}" if reason else "")


@dataclass(frozen=True, slots=True)
class CurrentLoad:
    """A load whose rows the views show; `family` is without the Connect prefix, which is `prefix`."""

    id: int
    rule_id: uuid.UUID | None
    account: str
    connected_account: str | None
    scope: str
    report_type: str
    family: str
    table_name: str
    window_key: str | None
    interval_start: datetime | None
    interval_end: datetime | None
    timezone: str | None
    loaded_columns: list[str]
    rows: int
    key_repeats: int | None
    leads: bool


@dataclass(frozen=True, slots=True)
class Sums:
    """What one category of a load adds up to in one currency."""

    load_id: int
    category: str
    currency: str
    rows: int
    count: Decimal | None
    gross: Decimal | None
    fee: Decimal | None
    net: Decimal | None
    net_breaks: int | None
    plus_breaks: int | None


@dataclass(frozen=True, slots=True)
class Finding:
    """One currency's verdict. `window_of` is the load whose window it is about."""

    currency: str
    verdict: Verdict
    left: Decimal | None
    right: Decimal | None
    window_of: CurrentLoad
    loads: Sequence[CurrentLoad]
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class NewVerdict:
    """A finding of a check that differs from the previous one on the same `subject`."""

    check: str
    subject: str
    finding: Finding


@dataclass(slots=True)
class Comparison:
    """Builds findings for one window from two sides, each a number per currency."""

    window_of: CurrentLoad
    loads: Sequence[CurrentLoad]
    findings: list[Finding] = field(default_factory=list)

    def add(self, currency: str, left: Decimal, right: Decimal, *, reason: str | None = None) -> None:
        """The verdict of one currency: the sides agree, differ, or cannot be compared for a reason."""
        verdict = Verdict.AGREES if left == right and reason is None else Verdict.DIFFERS
        self.findings.append(Finding(currency, verdict, left, right, self.window_of, self.loads, reason))

    def all_of(self, left: Mapping[str, Decimal], right: Mapping[str, Decimal]) -> "Comparison":
        """The verdict for every currency that either side has; what a side lacks counts as zero."""
        for currency in sorted({*left, *right}):
            self.add(currency, left.get(currency, Decimal(0)), right.get(currency, Decimal(0)))
        return self

    def not_comparable(self, reason: str, currency: str = "") -> "Comparison":
        """The sides cannot be compared, and why."""
        self.findings.append(Finding(currency, Verdict.NOT_COMPARABLE, None, None, self.window_of, self.loads, reason))
        return self
