"""The enums that packages share, and the moves that a run may make. Pure: only the standard library."""

from dataclasses import dataclass
from enum import StrEnum


class RunState(StrEnum):
    """The states of a run; `ALLOWED_MOVES` says where each may lead."""

    PLANNED = "planned"
    """The report is owed and no Stripe run is pending for it. It waits for its window's data, for a slot, for the rate
    limit, or for a back-off to pass (`waiting` says which). A retry puts a run back here with its next attempt."""

    REQUESTED = "requested"
    """Stripe has accepted the request, and a Stripe run is pending. It holds a slot until a webhook or a lookup says
    how it ended. One that is pending for too long counts as timed out, and the run is planned again."""

    READY = "ready"
    """Stripe has made the file, but it is not here yet. A download that breaks off resumes where the last commit was,
    in any process. If the file is gone from Stripe, the run is planned again with its next attempt."""

    STORED = "stored"
    """The file is here, complete: as many bytes as were announced, with their SHA-256. Final. Making the window again
    is a new run with the next revision; retention removes the bytes and leaves the run as it is."""

    FAILED = "failed"
    """Given up: Stripe refused the request for good, or every attempt was used up. `error` says why. It stays failed
    until somebody retries or cancels it."""

    CANCELLED = "cancelled"
    """No longer wanted: cancelled manually, or planned for a rule or an account that has since been removed. A Stripe
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
    """How a rule divides time into windows."""

    EVERY_UPDATE = "every_update"  # from the end of the last window to the new end of availability
    DAILY = "daily"
    WEEKLY = "weekly"  # from Monday
    MONTHLY = "monthly"
    QUARTERLY = "quarterly"
    YEARLY = "yearly"
    EVERY_PAYOUT = "every_payout"  # one for each automatic payout that Stripe has reconciled


class IntervalNeed(StrEnum):
    """Which parameters tell a report type the period that it covers."""

    RANGE = "range"  # interval_start and interval_end
    END = "end"  # interval_end alone
    NONE = "none"  # no interval: a payout names it


class EventType(StrEnum):
    """The types of Stripe events that we use; `handlers.py` says for what. Others are stored as ignored."""

    REPORT_TYPE_UPDATED = "reporting.report_type.updated"
    REPORT_RUN_SUCCEEDED = "reporting.report_run.succeeded"
    REPORT_RUN_FAILED = "reporting.report_run.failed"
    PAYOUT_RECONCILED = "payout.reconciliation_completed"
    # Of connected accounts:
    ACCOUNT_UPDATED = "account.updated"
    ACCOUNT_AUTHORIZED = "account.application.authorized"
    ACCOUNT_DEAUTHORIZED = "account.application.deauthorized"


# What every account's endpoint is sent; what else is sent if a rule needs it; and what an endpoint for connected
# accounts is sent.
OWN_EVENTS = (EventType.REPORT_TYPE_UPDATED, EventType.REPORT_RUN_SUCCEEDED, EventType.REPORT_RUN_FAILED)
PAYOUT_EVENTS = (EventType.PAYOUT_RECONCILED,)
ACCOUNT_EVENTS = (EventType.ACCOUNT_UPDATED, EventType.ACCOUNT_AUTHORIZED, EventType.ACCOUNT_DEAUTHORIZED)
CONNECT_EVENTS = (*ACCOUNT_EVENTS, *PAYOUT_EVENTS)


class EventStatus(StrEnum):
    """The status of a stored event."""

    PENDING = "pending"  # stored, not handled yet: the inbox
    HANDLED = "handled"
    IGNORED = "ignored"  # not for us; the reason says why
    FAILED = "failed"  # handling kept failing because of a bug in Tallyhook; can be replayed


class ErrorKind(StrEnum):
    """Why a run failed, in one word: the `kind` of its `error` in the API."""

    REJECTED = "rejected"  # Stripe will never accept this request
    REFUSED = "refused"  # the key is refused for this run only
    INTERVAL_REFUSED = "interval_refused"
    STRIPE_FAILED = "stripe_failed"
    TIMED_OUT = "timed_out"
    FILE_GONE = "file_gone"
    FILE_MISMATCH = "file_mismatch"
    INTERNAL = "internal"


class AttemptOutcome(StrEnum):
    """How an attempt ended without failing; a failed one ended with its `ErrorKind`."""

    STORED = "stored"
    CANCELLED = "cancelled"


class WaitReason(StrEnum):
    """Why a run is waiting, as `waiting` of the API says it: derived from the rows, never stored."""

    AVAILABILITY = "availability"
    SLOT = "slot"
    RATE = "rate"
    BACKOFF = "backoff"
    ACCOUNT_HELD = "account_held"
    REPORT_TYPE_MISSING = "report_type_missing"


class RunOrder(StrEnum):
    """The orders in which runs are listed."""

    PLANNED = "-planned"  # newest first
    WINDOW = "-window"  # by the day of the window, newest first; ad-hoc runs come last
    STORED = "stored"  # oldest first: for pollers, with `stored_after`


class CallKind(StrEnum):
    """The kinds of calls to Stripe; each has its own rate limit and can be put on hold."""

    CREATE = "create"
    READ = "read"
    FILES = "files"


class Role(StrEnum):
    """What a bearer token may do in the admin API."""

    ADMIN = "admin"
    READ = "read"


class Lane(StrEnum):
    """The lanes of work; a wake-up names the lane in which something became due."""

    INBOX = "inbox"  # stored events that are not handled yet
    RULES = "rules"  # windows that became due, backfills, runs that a rule no longer owes: a slice at a time
    REQUESTS = "requests"  # planned runs → Stripe runs
    LOOKUPS = "lookups"  # requested runs without news
    DOWNLOADS = "downloads"  # ready runs → stored files
    BIG_DOWNLOADS = "big_downloads"  # the same for big files, so that small ones never wait behind them
    LOADS = "loads"  # stored files → rows of tables
    DELIVERIES = "deliveries"  # messages to targets
    OBJECTS = "objects"  # loaded windows → objects of the Parquet store
    ACCOUNTS = "accounts"  # accounts whose poll at Stripe is due
    TIMETABLE = "timetable"  # recurring work


@dataclass(frozen=True, slots=True)
class RunStep:
    """One step of a run's life: runs in this state are due in these lanes, and make a call of this kind."""

    state: RunState
    call: CallKind
    lanes: tuple[Lane, ...]


RUN_STEPS = (
    RunStep(RunState.PLANNED, CallKind.CREATE, (Lane.REQUESTS,)),
    RunStep(RunState.REQUESTED, CallKind.READ, (Lane.LOOKUPS,)),
    RunStep(RunState.READY, CallKind.FILES, (Lane.DOWNLOADS, Lane.BIG_DOWNLOADS)),
)


# How many "words" (values in a rule) this version understands. Raise it with every new one that the previous version
# cannot read: while a process with a lower number is alive, such a rule is refused (docs/decisions/0006,
# queue/processes). 1: everything up to 330d95e. 2: a `report_type` that ends in `.latest`.
WORDS = 3
WORDS_OF_LATEST = 2
WORDS_OF_CONNECT = 3  # `connected: each` and `cadence: every_payout`


class TargetKind(StrEnum):
    """How a target is reached."""

    WEBHOOK = "webhook"  # a signed POST to its URL (Standard Webhooks)
    EMAIL = "email"  # to its recipients, through TALLYHOOK_SMTP_URL
    SLACK = "slack"  # to a Slack-compatible incoming webhook of TALLYHOOK_SLACK_URLS
    FOLDER = "folder"  # a copy of each stored file, below TALLYHOOK_TARGET_FOLDERS


class MessageType(StrEnum):
    """What targets can be notified of: the `message_types` of the API."""

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
    """The state of a message on its way to one target."""

    PENDING = "pending"  # due now or later
    DELIVERED = "delivered"
    FAILED = "failed"  # every try failed; `recover` or a retry sends it again
    SKIPPED = "skipped"  # the target was disabled; `recover` sends it
