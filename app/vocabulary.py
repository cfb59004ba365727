"""Every closed set of words, and the moves a run may make. Pure: the standard library only."""

from enum import StrEnum


class RunState(StrEnum):
    """Where a run stands; `ALLOWED_MOVES` says where it may go from there."""

    PLANNED = "planned"
    """The report is owed and no Stripe run is pending for it. It waits for its window's data, for a slot, for the rate
    limit, or for a back-off to pass (`waiting` says which). A retry puts a run back here with its next attempt."""

    REQUESTED = "requested"
    """Stripe has accepted the request, and a Stripe run is pending. It holds a slot until a webhook or a lookup says
    how it ended. One that is pending for too long counts as timed out, and the run is planned again."""

    READY = "ready"
    """Stripe has made the file and it is not here yet. A download that breaks off resumes where the last commit was,
    in any process. If the file is gone from Stripe, the run is planned again with its next attempt."""

    STORED = "stored"
    """The file is here, whole: as many bytes as were announced, with their SHA-256. Final. Making the window again is a
    new run with the next revision; retention removes the bytes and leaves the run as it is."""

    FAILED = "failed"
    """Given up: Stripe refused the request for good, or every attempt was used up. `error` says why. It stays failed
    until somebody retries or cancels it."""

    CANCELLED = "cancelled"
    """Not wanted any more: cancelled by hand, or planned for a rule or an account that has since been removed. A Stripe
    run that was pending keeps its slot until Stripe has finished it. A retry plans the run again."""


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


class ErrorKind(StrEnum):
    """Why a run failed, in one word (contract §5)."""

    REJECTED = "rejected"  # Stripe will never take the request as it is
    REFUSED = "refused"  # the key may not have this run, and only this one
    INTERVAL_REFUSED = "interval_refused"
    STRIPE_FAILED = "stripe_failed"
    TIMED_OUT = "timed_out"
    FILE_GONE = "file_gone"
    FILE_MISMATCH = "file_mismatch"
    INTERNAL = "internal"


class AttemptOutcome(StrEnum):
    """How an attempt ended that did not fail; one that did ended with its `ErrorKind`."""

    STORED = "stored"
    CANCELLED = "cancelled"


class WaitReason(StrEnum):
    """Why a run stands still (contract §5): derived from the rows, never stored."""

    AVAILABILITY = "availability"
    SLOT = "slot"
    RATE = "rate"
    BACKOFF = "backoff"
    ACCOUNT_HELD = "account_held"
    REPORT_TYPE_MISSING = "report_type_missing"


class RunOrder(StrEnum):
    """How runs are listed."""

    PLANNED = "-planned"  # newest first
    WINDOW = "-window"  # by the day that the window counts as, newest first; ad-hoc runs come last
    STORED = "stored"  # oldest first: for pollers, with `stored_after`


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
    RULES = "rules"  # windows that became due, backfills, runs that a rule no longer owes: a slice at a time
    REQUESTS = "requests"  # planned runs → Stripe runs
    LOOKUPS = "lookups"  # requested runs that nothing was heard of
    DOWNLOADS = "downloads"  # ready runs → stored files
    BIG_DOWNLOADS = "big_downloads"  # the same for big files, so that small ones never wait behind them
    LOADS = "loads"  # stored files → rows of tables
    DELIVERIES = "deliveries"  # messages to targets
    OBJECTS = "objects"  # loaded windows → objects of the Parquet store
    TIMETABLE = "timetable"  # recurring work


# Raise it with every word that a rule may hold from now on and that the version before could not read: while a process
# with a lower number lives, such a rule is refused (docs/decisions/0006, queue/processes). 1: everything up to 330d95e.
WORDS = 1


class TargetKind(StrEnum):
    """How a target is reached."""

    WEBHOOK = "webhook"  # a signed POST to its URL (Standard Webhooks)
    EMAIL = "email"  # to its recipients, through TALLYHOOK_SMTP_URL
    SLACK = "slack"  # to a Slack-compatible incoming webhook of TALLYHOOK_SLACK_URLS
    FOLDER = "folder"  # a copy of each stored file, below TALLYHOOK_TARGET_FOLDERS


class MessageType(StrEnum):
    """What we tell targets about (contract §10)."""

    RUN_STORED = "run.stored"
    RUN_FAILED = "run.failed"
    RUN_CANCELLED = "run.cancelled"
    RUN_RESTATED = "run.restated"
    RULE_LATE = "rule.late"
    RULE_ON_TIME = "rule.on_time"
    ACCOUNT_HELD = "account.held"
    ACCOUNT_RELEASED = "account.released"
    REPORT_TYPE_MISSING = "report_type.missing"
    COLUMNS_CHANGED = "columns.changed"
    CHECK_DIFFERS = "check.differs"
    MONTH_COMPLETE = "month.complete"
    TARGET_DISABLED = "target.disabled"
    PING = "ping"


class DeliveryState(StrEnum):
    """Where a message stands on its way to one target."""

    PENDING = "pending"  # due now or later
    DELIVERED = "delivered"
    FAILED = "failed"  # every try failed; `recover` or a retry sends it again
    SKIPPED = "skipped"  # the target was disabled; `recover` sends it
