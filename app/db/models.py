"""The tables that code queries through classes, in the order in which data flows. Everything carries the account.

Alembic compares them, and those of `alembic_models`, whose SQL is text, with the database.

States are text without a CHECK: a state that a newer version wrote is left alone by an older one.
"""

import uuid
from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Json = dict[str, Any]


class Base(DeclarativeBase):
    """All tables; constraint names are fixed, so that a migration can name what it changes."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's own spelling
        str: Text,
        datetime: DateTime(timezone=True),
        Json: JSONB,
        list[str]: ARRAY(Text),
    }


class Account(Base):
    """A Stripe account and mode that we have a key for; its row is locked while free slots are counted."""

    __tablename__ = "accounts"
    slug: Mapped[str] = mapped_column(primary_key=True)
    stripe_account_id: Mapped[str | None]
    livemode: Mapped[bool | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    known_until: Mapped[datetime | None]  # every Stripe run up to here is known (app/accounts/catch_up.py)
    timeline: Mapped[int | None] = mapped_column(BigInteger)  # the server's, when the watermark was last moved
    other_timeline_at: Mapped[datetime | None]  # when we saw that the server has another one now


class ReportType(Base):
    """What an account can run, and the range [start, end) that data is available for; the end only moves forward."""

    __tablename__ = "report_types"
    account: Mapped[str] = mapped_column(ForeignKey("accounts.slug"), primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str | None]
    version: Mapped[int | None]
    livemode: Mapped[bool | None]
    data_available_start: Mapped[datetime | None]
    data_available_end: Mapped[datetime | None]
    default_columns: Mapped[list[str] | None]
    stripe_updated_at: Mapped[datetime | None]
    # One page of Stripe's documentation wants interval_start one second later than another; remembered per type.
    start_offset_seconds: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    # Set when Stripe answered 404 (missing, or live-only): the type's runs wait, and none fails.
    missing_since: Mapped[datetime | None]
    missing_reason: Mapped[str | None]
    next_probe_at: Mapped[datetime | None]
    # The longest times that we saw between two advances: how late data usually is (app/health/lateness.py).
    longest_data_age_seconds: Mapped[float | None]
    # Of a type that ends in `.latest` and that rules name: the highest version that has data, since when, and before.
    resolves_to: Mapped[str | None]
    resolved_since: Mapped[datetime | None]
    resolved_before: Mapped[str | None]
    # Since when Stripe has answered its re-checks with the file that it had made before.
    same_file_since: Mapped[datetime | None]
    refreshed_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Event(Base):
    """A signed message from Stripe, kept exactly once; the pending ones are the inbox."""

    __tablename__ = "events"
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    account: Mapped[str]
    stripe_event_id: Mapped[str]
    type: Mapped[str]
    object_id: Mapped[str | None]
    livemode: Mapped[bool | None]
    stripe_created_at: Mapped[datetime | None]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
    payload: Mapped[str | None]  # the signed text itself; null for types that we do not use
    payload_sha256: Mapped[str]
    status: Mapped[str]
    reason: Mapped[str | None]
    tries: Mapped[int] = mapped_column(server_default=text("0"))
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    handled_at: Mapped[datetime | None]
    signed_with: Mapped[str | None]  # which secret: the first digits of its SHA-256 (app/inbox/intake.py)
    traceparent: Mapped[str | None]  # the delivery's span, where traces are on
    __table_args__ = (
        UniqueConstraint("account", "stripe_event_id"),
        Index("ix_events_inbox", "due_at", "id", postgresql_where=text("status = 'pending'")),
        Index("ix_events_object", "account", "object_id", postgresql_where=text("object_id is not null")),
        Index("ix_events_received_at", "received_at"),
        Index("ix_events_failed", "id", postgresql_where=text("status = 'failed'")),
    )


class Rule(Base):
    """Which report type is wanted, for which windows, with which parameters, for which connected accounts."""

    __tablename__ = "rules"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(ForeignKey("accounts.slug"))
    name: Mapped[str]
    report_type: Mapped[str]
    enabled: Mapped[bool]
    cadence: Mapped[str]
    timezone: Mapped[str]
    starts_on: Mapped[date]
    settle_hours: Mapped[float]
    parameters: Mapped[Json]
    connected_accounts: Mapped[list[str]]
    retention_days: Mapped[int | None]
    connected: Mapped[str | None]  # null: follows from connected_accounts
    # What is done with its rows (app/rules/rule.py, DEFAULT_TABLE).
    table: Mapped[Json] = mapped_column(server_default=text("""'{"state": "auto", "personal": []}'"""))
    recheck_days: Mapped[list[int]] = mapped_column(ARRAY(Integer), server_default=text("'{}'"))
    excepted: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))  # connected accounts; `except` in the API
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deleted_at: Mapped[datetime | None]
    __table_args__ = (
        Index("uq_rules_name", "name", unique=True, postgresql_where=text("deleted_at is null")),
        Index("ix_rules_report_type", "account", "report_type", postgresql_where=text("deleted_at is null")),
    )


class Run(Base):
    """One wanted report: rule × window × connected account, or an ad-hoc request."""

    __tablename__ = "runs"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(ForeignKey("accounts.slug"))
    rule_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("rules.id"))
    report_type: Mapped[str]
    connected_account: Mapped[str | None]
    # First local date, or the start instant for every_update; of an ad-hoc run the Idempotency-Key of its request.
    window_key: Mapped[str | None]
    revision: Mapped[int] = mapped_column(server_default=text("1"))
    partial: Mapped[bool] = mapped_column(server_default=text("false"))
    recheck: Mapped[bool] = mapped_column(server_default=text("false"))  # the same report again, days later
    interval_start: Mapped[datetime | None]
    interval_end: Mapped[datetime | None]
    timezone: Mapped[str | None]
    parameters: Mapped[Json]  # frozen when planned: exactly what is sent
    state: Mapped[str]
    attempt: Mapped[int] = mapped_column(server_default=text("1"))
    attempts_granted: Mapped[int]
    error: Mapped[Json | None]
    planned_at: Mapped[datetime] = mapped_column(server_default=func.now())
    requested_at: Mapped[datetime | None]
    ready_at: Mapped[datetime | None]
    stored_at: Mapped[datetime | None]
    # When the next step may be taken, and how often the current step has failed.
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    tries: Mapped[int] = mapped_column(server_default=text("0"))
    crashes: Mapped[int] = mapped_column(server_default=text("0"))  # unexpected errors of ours
    last_trouble: Mapped[str | None]  # the error of the current step's last try
    # How often, and when last, Stripe refused the key for this run while it accepted it for others of the account.
    refusals: Mapped[int] = mapped_column(server_default=text("0"))
    refused_at: Mapped[datetime | None]  # null once another call of the kind has worked since
    # Availability when Stripe refused the end of the interval: wait until it has moved.
    refused_at_availability: Mapped[datetime | None]
    # When a create was sent with the current idempotency key, if its outcome is unknown: it may hold a slot.
    asked_at: Mapped[datetime | None]
    lease_until: Mapped[datetime | None]
    leased_by: Mapped[uuid.UUID | None]
    fence: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    # The event or request that caused it, for logs; and its span, if traces are on.
    caused_by: Mapped[str | None]
    traceparent: Mapped[str | None]
    __table_args__ = (
        Index(
            "uq_runs_identity",
            "rule_id",
            "connected_account",
            "window_key",
            "revision",
            unique=True,
            postgresql_nulls_not_distinct=True,
            postgresql_where=text("rule_id is not null"),
        ),
        Index(
            "uq_runs_request_key",
            "window_key",
            unique=True,
            postgresql_where=text("rule_id is null and window_key is not null"),
        ),
        Index(
            "ix_runs_planned",
            "account",
            "rule_id",
            text("interval_end desc"),
            "due_at",
            postgresql_where=text("state = 'planned'"),
        ),
        Index("ix_runs_planned_due", "account", "due_at", postgresql_where=text("state = 'planned'")),
        Index(
            "ix_runs_tried",
            "planned_at",
            postgresql_where=text("state in ('requested', 'ready') or (state = 'planned' and tries > 0)"),
        ),
        Index("ix_runs_requested", "account", "due_at", postgresql_where=text("state = 'requested'")),
        Index("ix_runs_asked", "account", postgresql_where=text("state = 'planned' and asked_at is not null")),
        Index("ix_runs_ready", "account", "due_at", postgresql_where=text("state = 'ready'")),
        Index("ix_runs_refused", "account", "state", postgresql_where=text("refused_at is not null")),
        Index("ix_runs_state", "state", text("id desc")),
        Index("ix_runs_rule", "rule_id", text("id desc")),
        Index("ix_runs_report_type", "report_type", text("id desc")),
        Index("ix_runs_account", "account", text("id desc")),
        Index("ix_runs_connected_account", "connected_account", text("id desc")),
        Index("ix_runs_stored", "stored_at", "id", postgresql_where=text("state = 'stored'")),
        Index(
            "ix_runs_rule_day",
            "rule_id",
            text("window_day(window_key, interval_start, interval_end, timezone)"),
            postgresql_where=text("rule_id is not null"),
        ),
        # The day that the window counts as (app/planning/dates.py).
        Index(
            "ix_runs_window_day",
            text("window_day(window_key, interval_start, interval_end, timezone)"),
            "id",
            postgresql_where=text("rule_id is not null"),
        ),
    )


class Attempt(Base):
    """One attempt to have a run made; its random idempotency key is stored before the call."""

    __tablename__ = "attempts"
    run_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    account: Mapped[str]
    idempotency_key: Mapped[str]
    key_drawn_at: Mapped[datetime] = mapped_column(server_default=func.now())
    stripe_run_id: Mapped[str | None]
    requested_at: Mapped[datetime | None]
    heard_at: Mapped[datetime | None]
    stripe_file_id: Mapped[str | None]
    file_url: Mapped[str | None]
    file_size: Mapped[int | None] = mapped_column(BigInteger)
    file_name: Mapped[str | None]
    file_type: Mapped[str | None]
    file_expires_at: Mapped[datetime | None]
    mismatches: Mapped[int] = mapped_column(server_default=text("0"))
    stripe_ended_at: Mapped[datetime | None]  # of a cancelled run; until then it is pending at Stripe and holds a slot
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    error: Mapped[Json | None]
    __table_args__ = (
        UniqueConstraint("idempotency_key"),
        Index("ix_attempts_stripe_run", "account", "stripe_run_id", postgresql_where=text("stripe_run_id is not null")),
        Index(
            "ix_attempts_left_pending",
            "account",
            postgresql_where=text(
                "outcome = 'cancelled' and stripe_run_id is not null and stripe_file_id is null"
                " and stripe_ended_at is null"
            ),
        ),
    )


class RunMove(Base):
    """The history of a run: every move with its time and reason, never changed."""

    __tablename__ = "run_moves"
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    run_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), index=True)
    account: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    from_state: Mapped[str | None]
    to_state: Mapped[str]
    attempt: Mapped[int]
    reason: Mapped[str]


class File(Base):
    """The bytes of a run's result; partial and invisible until `stored_at` is set."""

    __tablename__ = "files"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    run_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("runs.id"), unique=True)
    rule_id: Mapped[uuid.UUID | None]  # the run's, because retention belongs to rules
    account: Mapped[str]
    stripe_file_id: Mapped[str]
    filename: Mapped[str]
    media_type: Mapped[str]
    size: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str | None]
    line_count: Mapped[int | None] = mapped_column(BigInteger)
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    stored_at: Mapped[datetime | None]
    removed_at: Mapped[datetime | None]
    removed_reason: Mapped[str | None]
    location: Mapped[str | None]  # the URL of an object; null: in file_chunks
    purged_at: Mapped[datetime | None]  # the bytes of a removed file are gone
    __table_args__ = (
        Index(
            "ix_files_kept",
            "rule_id",
            "stored_at",
            postgresql_where=text("stored_at is not null and removed_at is null"),
        ),
        Index("ix_files_removed", "run_id", postgresql_where=text("removed_at is not null")),
        Index("ix_files_leaving", "removed_at", postgresql_where=text("removed_at is not null and purged_at is null")),
    )


class Target(Base):
    """Where messages go. Its secret is derived, never stored (app/targets/signatures.py)."""

    __tablename__ = "targets"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    kind: Mapped[str]
    url: Mapped[str | None]  # of a webhook or folder; for Slack, the name of one of TALLYHOOK_SLACK_URLS
    recipients: Mapped[list[str]]
    message_types: Mapped[list[str]]
    rule_ids: Mapped[list[uuid.UUID] | None] = mapped_column(ARRAY(Uuid))
    accounts: Mapped[list[str] | None]
    enabled: Mapped[bool]
    secret_version: Mapped[int] = mapped_column(server_default=text("1"))
    previous_until: Mapped[datetime | None]  # until then the previous secret signs too
    failing_since: Mapped[datetime | None]  # the first failure after the last success
    disabled_reason: Mapped[str | None]
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deleted_at: Mapped[datetime | None]
    __table_args__ = (Index("uq_targets_name", "name", unique=True, postgresql_where=text("deleted_at is null")),)


class Message(Base):
    """One event of ours, written in the transaction in which it happened."""

    __tablename__ = "messages"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    type: Mapped[str]
    account: Mapped[str | None]
    rule_id: Mapped[uuid.UUID | None]
    subject: Mapped[str | None]  # the id of the run, the rule's name, …
    data: Mapped[Json]
    dedupe_key: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    __table_args__ = (UniqueConstraint("dedupe_key"), Index("ix_messages_created_at", "created_at"))


class Delivery(Base):
    """A message on its way to one target."""

    __tablename__ = "deliveries"
    message_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True)
    target_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("targets.id"), primary_key=True)
    state: Mapped[str]
    tries: Mapped[int] = mapped_column(server_default=text("0"))
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    lease_until: Mapped[datetime | None]
    leased_by: Mapped[uuid.UUID | None]
    fence: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    delivered_at: Mapped[datetime | None]
    last_status: Mapped[int | None]
    last_error: Mapped[str | None]
    __table_args__ = (
        Index("ix_deliveries_due", "target_id", "due_at", postgresql_where=text("state = 'pending'")),
        Index(
            "ix_deliveries_under_way",
            "target_id",
            postgresql_where=text("state = 'pending' and lease_until is not null"),
        ),
        Index("ix_deliveries_target", "target_id", text("message_id desc")),
        Index(
            "ix_deliveries_undelivered",
            "state",
            text("message_id desc"),
            postgresql_where=text("state <> 'delivered'"),
        ),
    )


class DeliveryAttempt(Base):
    """One attempt to deliver a message, and its result."""

    __tablename__ = "delivery_attempts"
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    message_id: Mapped[uuid.UUID]
    target_id: Mapped[uuid.UUID]
    number: Mapped[int]
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    milliseconds: Mapped[int]
    status: Mapped[int | None]
    error: Mapped[str | None]  # a word if there was no answer: connection_refused, timed_out, …
    answer: Mapped[str | None]  # its first KiB, redacted
    __table_args__ = (
        ForeignKeyConstraint(
            ["message_id", "target_id"], ["deliveries.message_id", "deliveries.target_id"], ondelete="CASCADE"
        ),
        Index("ix_delivery_attempts_message_id_target_id", "message_id", "target_id", "id"),
    )


class AuditEntry(Base):
    """Who changed what, and when: one row per write through the admin API or the command line, never changed."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    actor: Mapped[str]  # the token's name, or `cli:<system user>`
    action: Mapped[str]  # rule.created, rule.changed, run.retried, …
    subject: Mapped[str | None] = mapped_column(index=True)  # the id of the rule, run or event
    before: Mapped[Json | None]
    after: Mapped[Json | None]
