"""Faults on demand: rules that say what goes wrong, for which calls, runs, files and events, and how often."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from app.simulator.ids import new_id
from app.simulator.words import checked

CallFault = Literal["status", "slow", "cut"]
RunFault = Literal[
    "run_fails", "run_hangs", "run_instant", "run_earlier_file", "event_early", "url_null", "url_elsewhere"
]
ReportFault = Literal[
    "report_bad_value", "report_bom", "report_crlf", "report_extra_column", "report_missing_row", "report_unquoted"
]
FileFault = Literal[
    "file_slow",
    "file_cut",
    "file_cut_silently",
    "file_short",
    "file_long",
    "file_empty",
    "file_chunked",
    "file_gone",
    "file_redirect",
    "file_gzip",
]
EventFault = Literal[
    "event_never_made",
    "event_lost",
    "event_doubled",
    "event_twin",
    "event_late",
    "event_held",
    "event_wrong_secret",
    "event_stale",
]
FaultKind = CallFault | RunFault | ReportFault | FileFault | EventFault
When = Literal["before", "during", "after"]

CALL_FAULTS = frozenset(get_args(CallFault))
RUN_FAULTS = frozenset(get_args(RunFault))
REPORT_FAULTS = frozenset(get_args(ReportFault))
FILE_FAULTS = frozenset(get_args(FileFault))
EVENT_FAULTS = frozenset(get_args(EventFault))


@dataclass(frozen=True, slots=True)
class Subject:
    """What a fault may match: a call, a run that is created, a file that is read or an event that is sent."""

    method: str = ""
    path: str = ""
    report_type: str = ""
    key: str = ""
    account: str = ""
    event: str = ""
    endpoint: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """All given values must match. `path`, `event` and `endpoint` are regular expressions, the others exact."""

    method: str | None = None
    path: str | None = None
    report_type: str | None = None
    key: str | None = None
    account: str | None = None
    event: str | None = None
    endpoint: str | None = None

    def fits(self, subject: Subject) -> bool:
        for wanted, actual in (
            (self.method, subject.method),
            (self.report_type, subject.report_type),
            (self.key, subject.key),
            (self.account, subject.account),
        ):
            if wanted is not None and wanted != actual:
                return False
        return all(
            wanted is None or re.search(wanted, actual)
            for wanted, actual in (
                (self.path, subject.path),
                (self.event, subject.event),
                (self.endpoint, subject.endpoint),
            )
        )


@dataclass(slots=True)
class Fault:
    """One rule. It skips its first `after` matches, then strikes `times` times (None: until it is removed)."""

    fault: FaultKind
    match: Match = field(default_factory=Match)
    times: int | None = 1
    after: int = 0
    when: When = "before"
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    message: str | None = None
    code: str | None = None
    param: str | None = None
    seconds: float = 0.0
    bytes: int | None = None
    url: str | None = None
    row: int = 1
    column: str | None = None
    value: str | None = None
    id: str = field(default_factory=lambda: new_id("fault"))
    struck: int = 0
    passed_over: int = 0

    @property
    def spent(self) -> bool:
        return self.times is not None and self.struck >= self.times

    def strikes(self, subject: Subject) -> bool:
        """Whether the rule applies this time; counts."""
        if self.spent or not self.match.fits(subject):
            return False
        if self.passed_over < self.after:
            self.passed_over += 1
            return False
        self.struck += 1
        return True


def fault_of(kind: FaultKind, words: Mapping[str, Any]) -> Fault:
    """A rule from its fields. A ValueError names a field that faults or matches do not have."""
    match = checked(Match, words.get("match") or {}, what="the match of a fault")
    return checked(Fault, {**words, "fault": kind, "match": match}, what="a fault")


class FaultBook:
    """The rules in force, in the order they were given."""

    def __init__(self) -> None:
        self.rules: list[Fault] = []

    def add(self, rule: Fault) -> Fault:
        self.rules.append(rule)
        return rule

    def clear(self) -> None:
        self.rules.clear()

    def strike(self, kinds: frozenset[str], subject: Subject) -> dict[str, Fault]:
        """The rules among `kinds` that strike now. If two rules of one kind match, only the older one strikes."""
        struck: dict[str, Fault] = {}
        for rule in self.rules:
            if rule.fault in kinds and rule.fault not in struck and rule.strikes(subject):
                struck[rule.fault] = rule
        return struck
