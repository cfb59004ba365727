"""A rule as a value: what users define, how it is validated, and what it means to the planner."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from app.errors import BadInput, FieldError
from app.planning.planner import Schedule
from app.planning.report_types import CONNECT_PREFIX, OWN_FIELDS, interval_need, is_latest
from app.vocabulary import WORDS_OF_CONNECT, WORDS_OF_LATEST, Cadence, IntervalNeed

# Fixed once the rule has runs: their windows and identities follow from these.
FIXED_WITH_RUNS = frozenset({"account", "report_type", "cadence", "timezone"})


# The default: its rows are loaded, and shown if no other rule leads; personal columns are left out.
DEFAULT_TABLE: Mapping[str, Any] = {"state": "auto", "personal": []}


@dataclass(frozen=True, slots=True)
class NewRule:
    """What users define of a rule, by column name; everything else in its row is internal."""

    name: str
    account: str
    report_type: str
    enabled: bool
    cadence: Cadence
    timezone: str
    starts_on: date
    settle_hours: float
    parameters: dict[str, Any]
    connected_accounts: list[str]
    retention_days: int | None
    connected: str | None = None  # None: what follows from the accounts, said or not; see `connected_of`
    table: dict[str, Any] = field(default_factory=lambda: dict(DEFAULT_TABLE))
    recheck_days: list[int] = field(default_factory=list)
    excepted: list[str] = field(default_factory=list)  # `except` outside: connected accounts that are left out

    def __post_init__(self) -> None:
        if self.connected == _follows(self):
            object.__setattr__(self, "connected", None)  # rules that mean the same are equal


RULE_FIELDS = tuple(one.name for one in fields(NewRule))

# Field values that were added with a `vocabulary.WORDS` above 1: a process with a lower number cannot read a rule that
# has one.
NEW_WORDS: Mapping[str, Mapping[object, int]] = {
    "connected": {"each": WORDS_OF_CONNECT},
    "cadence": {Cadence.EVERY_PAYOUT: WORDS_OF_CONNECT},
}


@dataclass(frozen=True, slots=True)
class RuleWarning:
    """Something that is allowed, but probably a mistake."""

    pointer: str
    detail: str


class HasConnected(Protocol):
    """A rule, saved or new."""

    @property
    def report_type(self) -> str: ...
    @property
    def connected(self) -> str | None: ...
    @property
    def connected_accounts(self) -> Sequence[str]: ...


class HasSchedule(Protocol):
    """A rule, or a row with these columns of it."""

    @property
    def cadence(self) -> str: ...
    @property
    def timezone(self) -> str: ...
    @property
    def starts_on(self) -> date: ...
    @property
    def settle_hours(self) -> float: ...


def schedule_of(rule: HasSchedule) -> Schedule:
    """What the planner needs to know of a rule."""
    return Schedule(Cadence(rule.cadence), rule.timezone, rule.starts_on, timedelta(hours=rule.settle_hours))


def words_of(new: NewRule) -> int:
    """The `vocabulary.WORDS` that a process needs to read this rule."""
    of_values = [words.get(getattr(new, name), 1) for name, words in NEW_WORDS.items()]
    return max([WORDS_OF_LATEST if is_latest(new.report_type) else 1, *of_values])


def today_in(timezone: str) -> date:
    """Today in the rule's time zone; in UTC if the zone is unknown, which `check` refuses."""
    return datetime.now(ZoneInfo(timezone) if timezone in known_zones() else UTC).date()


def check(new: NewRule, accounts: Collection[str]) -> None:
    """Refuse what can never work. Raises BadInput with a pointer per field."""
    errors = []
    if new.account not in accounts:
        known = ", ".join(sorted(accounts)) or "none"
        errors.append(FieldError("/account", f"is not configured; known accounts: {known}"))
    if new.timezone not in known_zones():
        errors.append(FieldError("/timezone", f"is not an IANA time zone; {zone_for(new.timezone)}"))
    errors += _payout_errors(new)
    errors += _connected_errors(new)
    for name in sorted(OWN_FIELDS & set(new.parameters)):
        errors.append(FieldError(f"/parameters/{name}", "is set by Tallyhook for each window; remove it"))
    if errors:
        raise BadInput(*errors)


def connected_of(rule: HasConnected) -> str:
    """For which connected accounts a rule's runs are made.

    `none`, `listed` (a run for each of these), `each` (a run for each that the platform has) or `together` (one run).
    """
    return rule.connected or _follows(rule)


def _follows(rule: HasConnected) -> str:
    if rule.connected_accounts:
        return "listed"
    return "together" if rule.report_type.startswith(CONNECT_PREFIX) else "none"


def _payout_errors(new: NewRule) -> list[FieldError]:
    of_payouts = interval_need(new.report_type) is IntervalNeed.NONE
    if of_payouts is not (new.cadence is Cadence.EVERY_PAYOUT):
        detail = "must be `every_payout` for a report type that takes a payout (`….by_id.…`), and for no other"
        return [FieldError("/cadence", detail)]
    if not of_payouts:
        return []
    errors = []
    if connected_of(new) == "together":
        errors.append(FieldError("/connected", "must be `each` or `listed`: a payout belongs to one account"))
    if "payout" in new.parameters:
        errors.append(FieldError("/parameters/payout", "is set by Tallyhook for each payout; remove it"))
    return errors


def changes_whose(was: NewRule, wanted: NewRule) -> bool:
    """Whether a change makes other runs than before: between `listed` and `each` only the accounts differ."""
    kinds = {connected_of(one) for one in (was, wanted)}
    return len(kinds) > 1 and kinds != {"listed", "each"}


def _connected_errors(new: NewRule) -> list[FieldError]:
    follows = _follows(new)
    possible = {follows, "each"} if follows == "together" else {follows}
    detail = {
        "each": "`each` is for types that begin with `connected_account_`, without `connected_accounts`",
        "listed": "`listed` needs `connected_accounts`",
        "together": "`together` is for types that begin with `connected_account_`, without `connected_accounts`",
        "none": "`none` cannot be used with `connected_accounts` or a type that begins with `connected_account_`",
    }
    wrong = new.connected is not None and new.connected not in possible
    errors = [FieldError("/connected", detail.get(new.connected or "", "is not a known value"))] if wrong else []
    if new.excepted and (new.connected or follows) not in ("each", "together"):
        instead = "otherwise list the accounts that you want in `connected_accounts`"
        errors.append(FieldError("/except", f"works only with `connected: each` or `together`; {instead}"))
    return errors


@cache
def known_zones() -> frozenset[str]:
    """The names in the IANA time zone database.

    The other names in a machine's zone folder (`localtime`, `posix/…`) mean something else on another machine;
    `Factory` means that no zone was ever set.
    """
    listed = resources.files("tzdata").joinpath("zones").read_text(encoding="ascii").split()
    return frozenset(listed) - {"Factory"}


def zone_for(name: str) -> str:
    """What to write instead of a time zone that does not exist."""
    meant = _ABBREVIATIONS.get(name.upper())
    if meant is None:
        wanted, known = name.strip().replace(" ", "_").lower(), {one.lower(): one for one in known_zones()}
        meant = next((known[one] for one in get_close_matches(wanted, known, n=1)), None)
    return "use a name like Europe/Berlin" if meant is None else f"did you mean {meant}?"


# What people call zones that the database has under cities only.
_ABBREVIATIONS = {"PST": "America/Los_Angeles", "PDT": "America/Los_Angeles", "CST": "America/Chicago"}
_ABBREVIATIONS |= {"CDT": "America/Chicago", "EDT": "America/New_York", "MDT": "America/Denver", "BST": "Europe/London"}
_ABBREVIATIONS |= {"CEST": "Europe/Berlin", "IST": "Asia/Kolkata", "JST": "Asia/Tokyo", "AEST": "Australia/Sydney"}
