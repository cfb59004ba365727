"""Every closed set of words, and the moves a run may make. Pure: the standard library only."""

from enum import StrEnum


class RunState(StrEnum):
    """Where a run stands (`docs/` draws the picture from `ALLOWED_MOVES`)."""

    PLANNED = "planned"  # owed; no Stripe run is pending for it
    REQUESTED = "requested"  # a Stripe run is pending
    READY = "ready"  # Stripe finished it, the file is not here yet
    STORED = "stored"  # the file is here, whole
    FAILED = "failed"  # given up, with a reason that can be seen
    CANCELLED = "cancelled"  # by hand, or its rule was deleted before it was requested


ALLOWED_MOVES: dict[RunState, frozenset[RunState]] = {
    RunState.PLANNED: frozenset({RunState.REQUESTED, RunState.FAILED, RunState.CANCELLED}),
    RunState.REQUESTED: frozenset({RunState.READY, RunState.PLANNED, RunState.FAILED, RunState.CANCELLED}),
    RunState.READY: frozenset({RunState.STORED, RunState.PLANNED, RunState.FAILED, RunState.CANCELLED}),
    RunState.STORED: frozenset(),
    RunState.FAILED: frozenset({RunState.PLANNED, RunState.CANCELLED}),
    RunState.CANCELLED: frozenset({RunState.PLANNED}),
}


def sources_of(to: RunState) -> frozenset[RunState]:
    """The states from which a run may move to `to`."""
    return frozenset(state for state, targets in ALLOWED_MOVES.items() if to in targets)


class Cadence(StrEnum):
    """How a rule cuts the time line into windows."""

    EVERY_UPDATE = "every_update"  # from the end of the last window to the new end of availability
    DAILY = "daily"
    WEEKLY = "weekly"  # from Monday
    MONTHLY = "monthly"
    QUARTERLY = "quarterly"
    YEARLY = "yearly"


class IntervalNeed(StrEnum):
    """What a report type takes to say which time it is about."""

    RANGE = "range"  # interval_start and interval_end
    END = "end"  # interval_end alone
    NONE = "none"  # no interval: a payout names it


class EventType(StrEnum):
    """The types of Stripe's events that mean something to us; `handlers.py` says what. Any other is kept as ignored."""

    REPORT_TYPE_UPDATED = "reporting.report_type.updated"
    REPORT_RUN_SUCCEEDED = "reporting.report_run.succeeded"
    REPORT_RUN_FAILED = "reporting.report_run.failed"


class EventStatus(StrEnum):
    """Where a kept event stands."""

    PENDING = "pending"  # kept, not handled yet: the inbox
    HANDLED = "handled"
    IGNORED = "ignored"  # not for us; the reason says why
    FAILED = "failed"  # handling kept failing by an error of our own; can be replayed


class AttemptOutcome(StrEnum):
    """How an attempt ended; while it is under way it has none."""

    STORED = "stored"
    REJECTED = "rejected"
    INTERVAL_REFUSED = "interval_refused"
    STRIPE_FAILED = "stripe_failed"
    TIMED_OUT = "timed_out"
    FILE_GONE = "file_gone"
    FILE_MISMATCH = "file_mismatch"
    INTERNAL = "internal"
    CANCELLED = "cancelled"


class ErrorKind(StrEnum):
    """Why a run failed, in one word (contract §5)."""

    REJECTED = "rejected"
    INTERVAL_REFUSED = "interval_refused"
    STRIPE_FAILED = "stripe_failed"
    TIMED_OUT = "timed_out"
    FILE_GONE = "file_gone"
    FILE_MISMATCH = "file_mismatch"
    INTERNAL = "internal"


class WaitReason(StrEnum):
    """Why a run stands still (contract §5): derived from the rows, never stored."""

    AVAILABILITY = "availability"
    SLOT = "slot"
    RATE = "rate"
    BACKOFF = "backoff"
    ACCOUNT_HELD = "account_held"
    REPORT_TYPE_MISSING = "report_type_missing"


class CallKind(StrEnum):
    """The kinds of call to Stripe that have a limit, and can be held, of their own."""

    CREATE = "create"
    READ = "read"
    FILES = "files"


class Role(StrEnum):
    """What a bearer token may do in the admin API."""

    ADMIN = "admin"
    READ = "read"


class Lane(StrEnum):
    """The lanes of work; a wake-up names the lane in which something became due."""

    INBOX = "inbox"  # kept events that are not handled yet
    REQUESTS = "requests"  # planned runs → Stripe runs
    LOOKUPS = "lookups"  # requested runs that nothing was heard of
    DOWNLOADS = "downloads"  # ready runs → stored files
    BIG_DOWNLOADS = "big_downloads"  # the same for big files, so that small ones never wait behind them
    TIMETABLE = "timetable"  # recurring work
