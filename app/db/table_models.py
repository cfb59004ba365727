"""The bookkeeping of the tables (app/tables). The rows themselves are in schema `report_rows`, in tables created at run
time."""

import uuid
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, Uuid, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.db.models import Base, Json


class Load(Base):
    """The load of one file into its table (app/tables): `due → loaded | failed`. It never changes the run or the
    file."""

    __tablename__ = "loads"
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    run_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), unique=True)
    file_id: Mapped[uuid.UUID]
    rule_id: Mapped[uuid.UUID | None]
    account: Mapped[str]
    connected_account: Mapped[str | None]
    # Whose rows they are: '' for the account's own, an acct_ id, or * for all connected accounts together.
    scope: Mapped[str]
    report_type: Mapped[str]
    family: Mapped[str]
    table_name: Mapped[str]
    window_key: Mapped[str | None]
    revision: Mapped[int]
    interval_start: Mapped[datetime | None]
    interval_end: Mapped[datetime | None]
    timezone: Mapped[str | None]
    filtered: Mapped[bool]  # by currency or category: the file does not show that, and it never leads
    state: Mapped[str]
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    tries: Mapped[int] = mapped_column(server_default=text("0"))
    crashes: Mapped[int] = mapped_column(server_default=text("0"))
    lease_until: Mapped[datetime | None]
    leased_by: Mapped[uuid.UUID | None]
    fence: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    loader: Mapped[int] = mapped_column(server_default=text("0"))  # the version of the loader
    loaded_at: Mapped[datetime | None]  # its rows are there, and stay until its next load commits
    # What the views show: the newest revision that was ever loaded, of the rule that leads.
    is_current: Mapped[bool] = mapped_column(server_default=text("false"))
    leads: Mapped[bool] = mapped_column(server_default=text("false"))
    rows: Mapped[int | None] = mapped_column(BigInteger)
    header: Mapped[list[str] | None]
    header_sha256: Mapped[str | None]
    loaded_columns: Mapped[list[str] | None]
    set_aside: Mapped[list[str] | None]
    # Compared with the file before it; null: the same columns, or no such file.
    added_columns: Mapped[list[str] | None]
    removed_columns: Mapped[list[str] | None]
    first_created: Mapped[str | None]  # as written in the file; only the run knows the zone
    last_created: Mapped[str | None]
    key_repeats: Mapped[int | None] = mapped_column(BigInteger)  # rows whose key an earlier row already has
    net_breaks: Mapped[int | None] = mapped_column(BigInteger)  # rows where net is not gross - fee
    error: Mapped[Json | None]
    checks_due: Mapped[bool] = mapped_column(server_default=text("false"))
    # The window's object in the Parquet store: whether it must be written or removed, and where it is.
    object_due: Mapped[bool] = mapped_column(server_default=text("false"))
    object_location: Mapped[str | None]
    __table_args__ = (
        Index("ix_loads_due", "due_at", postgresql_where=text("state = 'due'")),
        Index("ix_loads_checks_due", "id", postgresql_where=text("checks_due")),
        Index("ix_loads_object_due", "id", postgresql_where=text("object_due")),
        Index("ix_loads_identity", "rule_id", "connected_account", "window_key", "revision"),
        Index("ix_loads_table", "table_name", "account", "interval_start"),
        Index("ix_loads_table_end", "table_name", "account", "interval_end"),
        Index("ix_loads_state", "state", text("id desc")),
        Index("ix_loads_columns_changed", text("id desc"), postgresql_where=text("added_columns is not null")),
    )


class LoadSum(Base):
    """The exact sums of a loaded file, per category and currency."""

    __tablename__ = "load_sums"
    load_id: Mapped[int] = mapped_column(ForeignKey("loads.id", ondelete="CASCADE"), primary_key=True)
    category: Mapped[str] = mapped_column(primary_key=True)
    currency: Mapped[str] = mapped_column(primary_key=True)
    rows: Mapped[int] = mapped_column(BigInteger)
    count: Mapped[Decimal | None]  # for a summary: the number of transactions that were summed
    gross: Mapped[Decimal | None]
    fee: Mapped[Decimal | None]
    net: Mapped[Decimal | None]
    net_breaks: Mapped[int | None] = mapped_column(BigInteger)
    plus_breaks: Mapped[int | None] = mapped_column(BigInteger)  # rows where net is not gross + fee either


class TableColumn(Base):
    """A column of a table's files: loaded, or set aside until somebody approves or ignores it."""

    __tablename__ = "table_columns"
    table_name: Mapped[str] = mapped_column(primary_key=True)
    column_name: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    kind: Mapped[str]
    personal: Mapped[bool]
    filled: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    longest: Mapped[int] = mapped_column(server_default=text("0"))
    first_run_id: Mapped[uuid.UUID | None]
    first_seen_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Leadership(Base):
    """A period in which the plain view of a table shows a rule's windows for a scope."""

    __tablename__ = "leaderships"
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    account: Mapped[str]
    family: Mapped[str]
    scope: Mapped[str]
    rule_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("rules.id", ondelete="CASCADE"))
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime | None]  # null: it still leads
    __table_args__ = (Index("ix_leaderships_family", "account", "family"),)


class NumberCheck(Base):
    """A verdict: two numbers that must agree, and their values. Rows are only added; the newest of a subject counts."""

    __tablename__ = "checks"
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    subject: Mapped[str]  # name, account, connected account, window and currency in one text
    name: Mapped[str]
    verdict: Mapped[str]
    account: Mapped[str]
    connected_account: Mapped[str | None]
    interval_start: Mapped[datetime | None]
    interval_end: Mapped[datetime | None]
    timezone: Mapped[str | None]
    window_day: Mapped[date | None]
    currency: Mapped[str]
    left_value: Mapped[Decimal | None]
    right_value: Mapped[Decimal | None]
    reason: Mapped[str | None]
    load_ids: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    rule_ids: Mapped[list[uuid.UUID]] = mapped_column(ARRAY(Uuid))
    __table_args__ = (
        Index("ix_checks_subject", "subject", "id"),
        Index("ix_checks_differs", text("id desc"), postgresql_where=text("verdict = 'differs'")),
        Index("ix_checks_loads", "load_ids", postgresql_using="gin"),
    )


class CheckNote(Base):
    """A note about a verdict: that it is known, and why."""

    __tablename__ = "check_notes"
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    check_id: Mapped[int] = mapped_column(ForeignKey("checks.id"), index=True)
    note: Mapped[str]
    actor: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Diff(Base):
    """A summary of how a revision differs from the previous one; the rows are compared again on request."""

    __tablename__ = "diffs"
    load_id: Mapped[int] = mapped_column(ForeignKey("loads.id", ondelete="CASCADE"), primary_key=True)
    against_load_id: Mapped[int] = mapped_column(BigInteger)
    against_revision: Mapped[int]
    added: Mapped[int] = mapped_column(BigInteger)
    removed: Mapped[int] = mapped_column(BigInteger)
    changed: Mapped[int] = mapped_column(BigInteger)
    columns: Mapped[Json]  # how often each column changed
    left_out: Mapped[list[str]]  # columns that only one side has
    sums: Mapped[list[Any]] = mapped_column(JSONB)
    at: Mapped[datetime] = mapped_column(server_default=func.now())


class TablesSince(Base):
    """Since when files are loaded automatically: older ones wait for `tables load`."""

    __tablename__ = "tables_since"
    at: Mapped[datetime] = mapped_column(primary_key=True, server_default=func.now())
