"""What is owed, as a small pure model: rules, how they were changed, and how far Stripe's data ever reached."""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from uuid import UUID
from zoneinfo import ZoneInfo

from app.planning.dates import local_dates, window_day
from app.planning.planner import Availability, Schedule, due_windows
from app.planning.windows import Window, unit_start
from app.vocabulary import Cadence
from tests.proofs.promises import Owed


@dataclass
class ModelRule:
    """A rule as it is now; `allowed` is what it owed at any time."""

    id: UUID
    report_type: str
    schedule: Schedule
    enabled: bool = True
    deleted: bool = False
    allowed: set[Owed] = field(default_factory=set)
    backfilled: set[Owed] = field(default_factory=set)

    @property
    def follows_updates(self) -> bool:
        """Its windows depend on which advances were seen together."""
        return self.schedule.cadence is Cadence.EVERY_UPDATE


class Model:
    """Follows everything that happens to rules and data; says what must be there in the end, and what may be."""

    def __init__(self, availability: dict[str, Availability]) -> None:
        self.rules: list[ModelRule] = []
        self._availability = availability

    def advance(self, report_type: str, end: datetime) -> None:
        """Data reaches `end`; it never goes back."""
        known = self._availability[report_type]
        self._availability[report_type] = replace(known, end=max(known.end, end))
        self._note()

    def add(self, rule: ModelRule) -> None:
        """A new rule."""
        self.rules.append(rule)
        self._note()

    def change(
        self,
        rule: ModelRule,
        *,
        enabled: bool | None = None,
        starts_on: date | None = None,
        timezone: str | None = None,
    ) -> None:
        """Its windows from before stay; `starts_on` and `timezone` decide which others there are."""
        rule.enabled = rule.enabled if enabled is None else enabled
        rule.schedule = replace(
            rule.schedule,
            starts_on=starts_on or rule.schedule.starts_on,
            timezone=timezone or rule.schedule.timezone,
        )
        self._note()

    def backfill(self, rule: ModelRule, first: date, until: date, *, known: datetime | None) -> None:
        """It owes what is due of these days by what the service knew when it was asked, and may have more.

        A window that began before the rule is meant only if the days begin before it, too.
        """
        cadence, timezone, starts_on = rule.schedule.cadence, rule.schedule.timezone, rule.schedule.starts_on
        begin = first if rule.follows_updates else unit_start(first, cadence)
        schedule = replace(rule.schedule, starts_on=begin if first < starts_on else max(begin, starts_on))
        reach = self._availability[rule.report_type]
        for windows, available in ((rule.backfilled, known), (rule.allowed, reach.end)):
            if available is not None:
                due = due_windows(schedule, replace(reach, end=available), planned_until=None)
                days = {window: local_dates(window.start, window.end, timezone) for window in due}
                windows |= {_owed(rule, window) for window in due if window_day(days[window], cadence) < until}

    def delete(self, rule: ModelRule) -> None:
        """It owes nothing from now on; what was made stays."""
        rule.deleted = True

    def put_back(self, rules: list[ModelRule]) -> None:
        """A backup of the rules is back; Stripe's data reaches as far as ever, and they owe what is due by that."""
        self.rules = rules
        self._note()

    def owed(self) -> Set[Owed]:
        """What must be there."""
        calendar = [rule for rule in self._alive() if not rule.follows_updates]
        return {window for rule in calendar for window in self._due(rule) | rule.backfilled}

    def allowed(self) -> Set[Owed]:
        """What may be there."""
        return {window for rule in self.rules for window in rule.allowed}

    def untiled(self, made: Sequence[Owed]) -> Iterator[str]:
        """What is wrong with the windows of rules that follow updates: they have to tile the time line."""
        for rule in self.rules:
            if not rule.follows_updates:
                continue
            windows = sorted((window for window in made if window.rule_id == rule.id), key=lambda window: window.start)
            reach = self._availability[rule.report_type]
            begins = datetime.combine(rule.schedule.starts_on, time(), ZoneInfo(rule.schedule.timezone))
            if any(before.end != after.start for before, after in pairwise(windows)):
                yield f"windows of {rule} do not tile: {windows}"
            if windows and windows[0].start != max(begins, reach.start):
                yield f"windows of {rule} begin at {windows[0].start}"
            until = windows[-1].end if windows else max(begins, reach.start)
            if rule.enabled and not rule.deleted and until < reach.end:
                yield f"windows of {rule} end at {until}, and data reaches {reach.end}"

    def _alive(self) -> Iterator[ModelRule]:
        return (rule for rule in self.rules if rule.enabled and not rule.deleted)

    def _note(self) -> None:
        for rule in self._alive():
            if not rule.follows_updates:
                rule.allowed |= self._due(rule)

    def _due(self, rule: ModelRule) -> set[Owed]:
        windows = due_windows(rule.schedule, self._availability[rule.report_type], planned_until=None)
        return {_owed(rule, window) for window in windows}


def _owed(rule: ModelRule, window: Window) -> Owed:
    return Owed(rule.id, window.key, window.start, window.end)


def schedule(cadence: Cadence, timezone: str, starts_on: date) -> Schedule:
    """A schedule without settling."""
    return Schedule(cadence, timezone, starts_on, timedelta())
