"""The first schema: every table in `app/db/models.py`."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("stripe_account_id", sa.Text(), nullable=True),
        sa.Column("livemode", sa.Boolean(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("slug", name=op.f("pk_accounts")),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("before", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("after", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_subject"), "audit", ["subject"], unique=False)
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("stripe_event_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Text(), nullable=True),
        sa.Column("livemode", sa.Boolean(), nullable=True),
        sa.Column("stripe_created_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("payload", sa.Text(), nullable=True),
        sa.Column("payload_sha256", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("handled_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sa.UniqueConstraint("account", "stripe_event_id", name=op.f("uq_events_account_stripe_event_id")),
    )
    op.create_index(
        "ix_events_inbox", "events", ["due_at", "id"], unique=False, postgresql_where=sa.text("status = 'pending'")
    )
    op.create_index(
        "ix_events_object",
        "events",
        ["account", "object_id"],
        unique=False,
        postgresql_where=sa.text("object_id is not null"),
    )
    op.create_index("ix_events_received_at", "events", ["received_at"], unique=False)
    op.create_index("ix_events_failed", "events", ["id"], unique=False, postgresql_where=sa.text("status = 'failed'"))
    op.create_table(
        "rate_limits",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("call_kind", sa.Text(), nullable=False),
        sa.Column("arrival", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("account", "call_kind", name=op.f("pk_rate_limits")),
    )
    op.create_table(
        "timetable",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_timetable")),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    op.create_table(
        "account_holds",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("call_kind", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_probe_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["accounts.slug"], name=op.f("fk_account_holds_account_accounts")),
        sa.PrimaryKeyConstraint("account", "call_kind", name=op.f("pk_account_holds")),
    )
    op.create_table(
        "report_types",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=True),
        sa.Column("livemode", sa.Boolean(), nullable=True),
        sa.Column("data_available_start", sa.DateTime(timezone=True), nullable=True),
        sa.Column("data_available_end", sa.DateTime(timezone=True), nullable=True),
        sa.Column("default_columns", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("stripe_updated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("start_offset_seconds", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("missing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("missing_reason", sa.Text(), nullable=True),
        sa.Column("next_probe_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("refreshed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["accounts.slug"], name=op.f("fk_report_types_account_accounts")),
        sa.PrimaryKeyConstraint("account", "id", name=op.f("pk_report_types")),
    )
    op.create_table(
        "rules",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("report_type", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("cadence", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("starts_on", sa.Date(), nullable=False),
        sa.Column("settle_hours", sa.Double(), nullable=False),
        sa.Column("parameters", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("connected_accounts", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("retention_days", sa.Integer(), nullable=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["account"], ["accounts.slug"], name=op.f("fk_rules_account_accounts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rules")),
    )
    op.create_index(
        "ix_rules_report_type",
        "rules",
        ["account", "report_type"],
        unique=False,
        postgresql_where=sa.text("deleted_at is null"),
    )
    op.create_index("uq_rules_name", "rules", ["name"], unique=True, postgresql_where=sa.text("deleted_at is null"))
    op.create_table(
        "rule_progress",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("rule_id", sa.Uuid(), nullable=False),
        sa.Column("connected_account", sa.Text(), nullable=True),
        sa.Column("planned_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_due_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["rule_id"], ["rules.id"], name=op.f("fk_rule_progress_rule_id_rules"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rule_progress")),
        sa.UniqueConstraint(
            "rule_id",
            "connected_account",
            name=op.f("uq_rule_progress_rule_id_connected_account"),
            postgresql_nulls_not_distinct=True,
        ),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("rule_id", sa.Uuid(), nullable=True),
        sa.Column("report_type", sa.Text(), nullable=False),
        sa.Column("connected_account", sa.Text(), nullable=True),
        sa.Column("window_key", sa.Text(), nullable=True),
        sa.Column("revision", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("partial", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("interval_start", sa.DateTime(timezone=True), nullable=True),
        sa.Column("interval_end", sa.DateTime(timezone=True), nullable=True),
        sa.Column("timezone", sa.Text(), nullable=True),
        sa.Column("parameters", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("attempts_granted", sa.Integer(), nullable=False),
        sa.Column("error", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("planned_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ready_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stored_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("crashes", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("refused_at_availability", sa.DateTime(timezone=True), nullable=True),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("leased_by", sa.Uuid(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(["account"], ["accounts.slug"], name=op.f("fk_runs_account_accounts")),
        sa.ForeignKeyConstraint(["rule_id"], ["rules.id"], name=op.f("fk_runs_rule_id_rules")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
    )
    op.create_index("ix_runs_account", "runs", ["account", sa.literal_column("id desc")], unique=False)
    op.create_index(
        "ix_runs_asked",
        "runs",
        ["account"],
        unique=False,
        postgresql_where=sa.text("state = 'planned' and asked_at is not null"),
    )
    op.create_index(
        "ix_runs_connected_account", "runs", ["connected_account", sa.literal_column("id desc")], unique=False
    )
    op.create_index(
        "ix_runs_planned",
        "runs",
        ["account", "rule_id", sa.literal_column("interval_end desc"), "due_at"],
        unique=False,
        postgresql_where=sa.text("state = 'planned'"),
    )
    op.create_index("ix_runs_ready", "runs", ["due_at"], unique=False, postgresql_where=sa.text("state = 'ready'"))
    op.create_index("ix_runs_report_type", "runs", ["report_type", sa.literal_column("id desc")], unique=False)
    op.create_index(
        "ix_runs_requested",
        "runs",
        ["account", "due_at"],
        unique=False,
        postgresql_where=sa.text("state = 'requested'"),
    )
    op.create_index("ix_runs_rule", "runs", ["rule_id", sa.literal_column("id desc")], unique=False)
    op.create_index("ix_runs_state", "runs", ["state", sa.literal_column("id desc")], unique=False)
    op.create_index(
        "uq_runs_identity",
        "runs",
        ["rule_id", "connected_account", "window_key", "revision"],
        unique=True,
        postgresql_nulls_not_distinct=True,
        postgresql_where=sa.text("rule_id is not null"),
    )
    op.create_index(
        "uq_runs_request_key",
        "runs",
        ["window_key"],
        unique=True,
        postgresql_where=sa.text("rule_id is null and window_key is not null"),
    )
    op.create_table(
        "attempts",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("key_drawn_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("stripe_run_id", sa.Text(), nullable=True),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("heard_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stripe_file_id", sa.Text(), nullable=True),
        sa.Column("file_url", sa.Text(), nullable=True),
        sa.Column("file_size", sa.BigInteger(), nullable=True),
        sa.Column("file_name", sa.Text(), nullable=True),
        sa.Column("file_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("mismatches", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("error", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_attempts_run_id_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "number", name=op.f("pk_attempts")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_attempts_idempotency_key")),
    )
    op.create_index(
        "ix_attempts_stripe_run",
        "attempts",
        ["account", "stripe_run_id"],
        unique=False,
        postgresql_where=sa.text("stripe_run_id is not null"),
    )
    op.create_table(
        "files",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("stripe_file_id", sa.Text(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("line_count", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("stored_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("removed_reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_files_run_id_runs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_files")),
        sa.UniqueConstraint("run_id", name=op.f("uq_files_run_id")),
    )
    op.create_table(
        "run_moves",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("from_state", sa.Text(), nullable=True),
        sa.Column("to_state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_moves_run_id_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run_moves")),
    )
    op.create_index(op.f("ix_run_moves_run_id"), "run_moves", ["run_id"], unique=False)
    op.create_table(
        "file_chunks",
        sa.Column("file_id", sa.Uuid(), nullable=False),
        sa.Column("raw_start", sa.BigInteger(), nullable=False),
        sa.Column("raw_size", sa.Integer(), nullable=False),
        sa.Column("codec", sa.SmallInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["file_id"], ["files.id"], name=op.f("fk_file_chunks_file_id_files"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("file_id", "raw_start", name=op.f("pk_file_chunks")),
    )
    # Chunks are compressed by us: PostgreSQL's own compression would only cost time (measured: 5 times slower).
    op.execute("alter table file_chunks alter column data set storage external")
    # Queues in tables: vacuum by count, not by share, so that the inbox stays small beside a long history.
    for table in ("events", "runs", "attempts", "files"):
        op.execute(
            f"alter table {table} set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500)"
        )


def downgrade() -> None:
    op.drop_table("file_chunks")
    op.drop_index(op.f("ix_run_moves_run_id"), table_name="run_moves")
    op.drop_table("run_moves")
    op.drop_table("files")
    op.drop_index(
        "ix_attempts_stripe_run", table_name="attempts", postgresql_where=sa.text("stripe_run_id is not null")
    )
    op.drop_table("attempts")
    op.drop_index(
        "uq_runs_request_key", table_name="runs", postgresql_where=sa.text("rule_id is null and window_key is not null")
    )
    op.drop_index(
        "uq_runs_identity",
        table_name="runs",
        postgresql_nulls_not_distinct=True,
        postgresql_where=sa.text("rule_id is not null"),
    )
    op.drop_index("ix_runs_state", table_name="runs")
    op.drop_index("ix_runs_rule", table_name="runs")
    op.drop_index("ix_runs_requested", table_name="runs", postgresql_where=sa.text("state = 'requested'"))
    op.drop_index("ix_runs_report_type", table_name="runs")
    op.drop_index("ix_runs_ready", table_name="runs", postgresql_where=sa.text("state = 'ready'"))
    op.drop_index("ix_runs_planned", table_name="runs", postgresql_where=sa.text("state = 'planned'"))
    op.drop_index("ix_runs_connected_account", table_name="runs")
    op.drop_index(
        "ix_runs_asked", table_name="runs", postgresql_where=sa.text("state = 'planned' and asked_at is not null")
    )
    op.drop_index("ix_runs_account", table_name="runs")
    op.drop_table("runs")
    op.drop_table("rule_progress")
    op.drop_index("uq_rules_name", table_name="rules", postgresql_where=sa.text("deleted_at is null"))
    op.drop_index("ix_rules_report_type", table_name="rules", postgresql_where=sa.text("deleted_at is null"))
    op.drop_table("rules")
    op.drop_table("report_types")
    op.drop_table("account_holds")
    op.drop_table("workers")
    op.drop_table("timetable")
    op.drop_table("rate_limits")
    op.drop_index("ix_events_failed", table_name="events", postgresql_where=sa.text("status = 'failed'"))
    op.drop_index("ix_events_received_at", table_name="events")
    op.drop_index("ix_events_object", table_name="events", postgresql_where=sa.text("object_id is not null"))
    op.drop_index("ix_events_inbox", table_name="events", postgresql_where=sa.text("status = 'pending'"))
    op.drop_table("events")
    op.drop_index(op.f("ix_audit_subject"), table_name="audit")
    op.drop_table("audit")
    op.drop_table("accounts")
