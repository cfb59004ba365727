"""The tables whose SQL is text, in the order in which data flows: mapped for Alembic alone.

No process of the service loads them: mapping them would take a fortieth of a second of its start.
"""

import uuid
from datetime import date, datetime

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    LargeBinary,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.db import table_models  # noqa: F401 - so that one import brings all tables
from app.db.models import Base, Json


class UnclaimedRun(Base):
    """A Stripe run that was unknown here when we noticed that the database was behind Stripe."""

    __tablename__ = "unclaimed_runs"
    account: Mapped[str] = mapped_column(primary_key=True)
    stripe_run_id: Mapped[str] = mapped_column(primary_key=True)
    report_type: Mapped[str]
    parameters: Mapped[Json]
    created_at: Mapped[datetime]
    noted_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    __table_args__ = (
        Index(
            "ix_unclaimed_runs_alike",
            "account",
            "report_type",
            text("(parameters ->> 'interval_end')"),
            text("(parameters ->> 'connected_account')"),
        ),
    )


class AccountHold(Base):
    """A kind of call that the account's key is refused for (401, 403): one due call is the probe."""

    __tablename__ = "account_holds"
    account: Mapped[str] = mapped_column(ForeignKey("accounts.slug"), primary_key=True)
    call_kind: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str]
    since: Mapped[datetime] = mapped_column(server_default=func.now())
    tries: Mapped[int] = mapped_column(server_default=text("0"))
    next_probe_at: Mapped[datetime]


class Reconciliation(Base):
    """When an account is due to be asked what Stripe has (app/accounts/reconciliations.py)."""

    __tablename__ = "reconciliations"
    account: Mapped[str] = mapped_column(ForeignKey("accounts.slug"), primary_key=True)
    due_at: Mapped[datetime | None] = mapped_column(index=True)  # null: not before the next round
    started_at: Mapped[datetime | None]  # while a worker asks
    finished_at: Mapped[datetime | None]  # when Stripe last answered everything


class ConnectedAccount(Base):
    """An account that is or was connected to one of ours (app/accounts/connected.py)."""

    __tablename__ = "connected_accounts"
    account: Mapped[str] = mapped_column(ForeignKey("accounts.slug"), primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    stripe_created_at: Mapped[datetime | None]  # null: Stripe has not confirmed it yet
    country: Mapped[str | None]
    name: Mapped[str | None]
    source: Mapped[str]  # how we learned of it: `list` or `event`
    first_seen_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    seen_at: Mapped[datetime | None]  # when Stripe last showed it
    left_at: Mapped[datetime | None]  # when it left
    look_at: Mapped[datetime | None]  # an event said something about it: Stripe is asked
    __table_args__ = (
        Index("ix_connected_accounts_look_at", "account", "look_at", postgresql_where=text("look_at is not null")),
        Index(
            "ix_connected_accounts_created", "account", "stripe_created_at", postgresql_where=text("left_at is null")
        ),
    )


class ConnectedList(Base):
    """How far Stripe's list of an account's connected accounts has been read."""

    __tablename__ = "connected_lists"
    account: Mapped[str] = mapped_column(ForeignKey("accounts.slug"), primary_key=True)
    recent_at: Mapped[datetime | None]  # when the newest were last read
    complete_at: Mapped[datetime | None]  # when the last complete reading began
    began_at: Mapped[datetime | None]  # when the current reading began; `page_after` is how far it has come
    page_after: Mapped[str | None]
    odd_items: Mapped[int] = mapped_column(server_default=text("0"))  # items in it that could not be read
    nameless: Mapped[bool] = mapped_column(server_default=text("false"))  # some had no id: the list is not complete
    doubted_at: Mapped[datetime | None]  # when it lacked most of the known accounts: believed if that happens again
    refusal: Mapped[str | None]  # what Stripe answered when it refused the list


class AccountKeys(Base):
    """An account that was added through the API, as ciphertext (app/keys/sealing.py)."""

    __tablename__ = "account_keys"
    account: Mapped[str] = mapped_column(ForeignKey("accounts.slug"), primary_key=True)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    sealed_with: Mapped[str]  # the name of the key
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    changed_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class KnownPayout(Base):
    """A payout of an account or of an account connected to it ("" for the account itself) (app/accounts/payouts.py)."""

    __tablename__ = "payouts"
    account: Mapped[str] = mapped_column(ForeignKey("accounts.slug"), primary_key=True)
    connected_account: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    stripe_created_at: Mapped[datetime | None]  # null: an event named it, and Stripe has not confirmed it yet
    arrives_on: Mapped[date | None]
    automatic: Mapped[bool | None]
    reconciliation: Mapped[str | None]  # completed, in_progress, not_applicable
    seen_at: Mapped[datetime | None]
    look_at: Mapped[datetime | None]
    __table_args__ = (
        Index("ix_payouts_look_at", "look_at", postgresql_where=text("look_at is not null")),
        Index("ix_payouts_created", "account", "connected_account", "stripe_created_at"),
    )


class PayoutList(Base):
    """How far the list of payouts of an account, or of an account connected to it, has been read."""

    __tablename__ = "payout_lists"
    account: Mapped[str] = mapped_column(ForeignKey("accounts.slug"), primary_key=True)
    connected_account: Mapped[str] = mapped_column(primary_key=True)
    read_from: Mapped[datetime | None]  # payouts made since then are known
    read_at: Mapped[datetime]  # or refused
    refusal: Mapped[str | None]
    whole_at: Mapped[datetime | None]  # the last whole reading before that of `read_at`


class RateLimit(Base):
    """One row per account and kind of call: the theoretical arrival time of GCRA."""

    __tablename__ = "rate_limits"
    account: Mapped[str] = mapped_column(primary_key=True)
    call_kind: Mapped[str] = mapped_column(primary_key=True)
    arrival: Mapped[datetime]


class RuleProgress(Base):
    """How far a rule is planned for a connected account, so that planning never reads the history."""

    __tablename__ = "rule_progress"
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    rule_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("rules.id", ondelete="CASCADE"))
    connected_account: Mapped[str | None]
    planned_until: Mapped[datetime | None]  # the end of the last planned window
    # Where availability must reach before there is anything to plan; null until planned once.
    next_due_at: Mapped[datetime | None]
    problem: Mapped[str | None]  # why it could not be planned when it was last due
    __table_args__ = (UniqueConstraint("rule_id", "connected_account", postgresql_nulls_not_distinct=True),)


class Withdrawal(Base):
    """A rule no longer owes some of its planned runs: until they are cancelled, nothing is requested for it."""

    __tablename__ = "withdrawals"
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    rule_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("rules.id", ondelete="CASCADE"), index=True)
    connected_accounts: Mapped[list[str] | None] = mapped_column(ARRAY(Text))  # null: all; "" is the account itself
    reason: Mapped[str]
    marked_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    # How far it has come: from the newest window backwards; among windows that end together, by run id.
    interval_end: Mapped[datetime | None]
    run_id: Mapped[uuid.UUID | None]


class BackfillJob(Base):
    """A backfill under way: carried out in slices, starting after (`progress_id`, `after_key`)."""

    __tablename__ = "backfills"
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    rule_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("rules.id", ondelete="CASCADE"))
    first: Mapped[date]
    until: Mapped[date]
    rerun: Mapped[bool]
    asked_by: Mapped[str]
    asked_at: Mapped[datetime] = mapped_column(server_default=func.now())
    progress_id: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    after_key: Mapped[str] = mapped_column(server_default=text("''"))


class FileChunk(Base):
    """A piece of a file: `raw_size` bytes from `raw_start`, encoded as `codec` says (app/files/chunker.py)."""

    __tablename__ = "file_chunks"
    file_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    raw_start: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    raw_size: Mapped[int]
    codec: Mapped[int] = mapped_column(SmallInteger)
    data: Mapped[bytes] = mapped_column(LargeBinary)
    __table_args__ = (ForeignKeyConstraint(["file_id"], ["files.id"], ondelete="CASCADE"),)


class DroppedObject(Base):
    """An object of an abandoned file: deleted at once, and again later in case its writer was only slow."""

    __tablename__ = "dropped_objects"
    location: Mapped[str] = mapped_column(primary_key=True)
    dropped_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deleted_at: Mapped[datetime | None]


class Notice(Base):
    """A lasting state (a late rule, a held account) that was announced; its row is deleted when its end is
    announced."""

    __tablename__ = "notices"
    type: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)
    since: Mapped[datetime] = mapped_column(server_default=func.now())
    data: Mapped[Json]  # the text of its end


class TimetableEntry(Base):
    """When a recurring piece of work is due next; one process at a time claims it."""

    __tablename__ = "timetable"
    name: Mapped[str] = mapped_column(primary_key=True)
    due_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Worker(Base):
    """A process of the service, which version it runs, and when it last reported (app/queue/processes.py)."""

    __tablename__ = "workers"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    version: Mapped[str | None]  # null: version 330d95e, which did not report it
    words: Mapped[int] = mapped_column(server_default=text("1"))  # the words of rules that it can read
    works_queue: Mapped[bool] = mapped_column(server_default=text("true"))  # false: it only serves HTTP


class KeptCheck(Base):
    """The newest result of a check of something outside (app/health/outside.py); account '' if it concerns none."""

    __tablename__ = "kept_checks"
    name: Mapped[str] = mapped_column(primary_key=True)
    account: Mapped[str] = mapped_column(primary_key=True, server_default="")
    status: Mapped[str]
    detail: Mapped[str]
    advice: Mapped[str | None]
    looked_by: Mapped[str]
    looked_at: Mapped[datetime] = mapped_column(server_default=func.now())


class RefusedDeliveries(Base):
    """How many deliveries to an account were rejected, by reason; both are closed sets (app/inbox/intake.py)."""

    __tablename__ = "refused_deliveries"
    account: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]


class UnreadableItems(Base):
    """Items of one of Stripe's lists that could not be read when it was last listed (app/accounts/unreadable.py)."""

    __tablename__ = "unreadable_items"
    account: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int]
    example: Mapped[str]
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]


class FileStoreProbe(Base):
    """A few bytes that are written, read and deleted to check whether files can be kept in the database."""

    __tablename__ = "file_store_probes"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)
    written_at: Mapped[datetime] = mapped_column(server_default=func.now())


class WebSession(Base):
    """Somebody who is logged in to the pages (app/web/sessions.py)."""

    __tablename__ = "web_sessions"
    id_sha256: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    role: Mapped[str]
    accounts: Mapped[list[str] | None]  # null: all
    origin: Mapped[str]  # its token; once that is removed from the settings, the session is over
    began_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime] = mapped_column(index=True)


class LoginLink(Base):
    """A link that logs in once; it is deleted when it is used."""

    __tablename__ = "login_links"
    id_sha256: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    role: Mapped[str]
    accounts: Mapped[list[str] | None]
    origin: Mapped[str]
    made_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime] = mapped_column(index=True)
