"""Whom we tell that something happened: targets, the messages to them, and every attempt to deliver one."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "targets",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("url", sa.Text),
        sa.Column("recipients", ARRAY(sa.Text), nullable=False),
        sa.Column("message_types", ARRAY(sa.Text), nullable=False),
        sa.Column("rule_ids", ARRAY(sa.Uuid)),
        sa.Column("accounts", ARRAY(sa.Text)),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("secret_version", sa.Integer, server_default="1", nullable=False),
        sa.Column("previous_until", _TIME),
        sa.Column("failing_since", _TIME),
        sa.Column("disabled_reason", sa.Text),
        sa.Column("version", sa.Integer, server_default="1", nullable=False),
        sa.Column("created_at", _TIME, server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", _TIME, server_default=sa.func.now(), nullable=False),
        sa.Column("deleted_at", _TIME),
        sa.PrimaryKeyConstraint("id", name="pk_targets"),
    )
    op.create_index("uq_targets_name", "targets", ["name"], unique=True, postgresql_where=sa.text("deleted_at is null"))
    op.create_table(
        "messages",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("account", sa.Text),
        sa.Column("rule_id", sa.Uuid),
        sa.Column("subject", sa.Text),
        sa.Column("data", JSONB, nullable=False),
        sa.Column("dedupe_key", sa.Text, nullable=False),
        sa.Column("created_at", _TIME, server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_messages"),
        sa.UniqueConstraint("dedupe_key", name="uq_messages_dedupe_key"),
    )
    op.create_index("ix_messages_created_at", "messages", ["created_at"])
    op.create_table(
        "deliveries",
        sa.Column("message_id", sa.Uuid, nullable=False),
        sa.Column("target_id", sa.Uuid, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("tries", sa.Integer, server_default="0", nullable=False),
        sa.Column("due_at", _TIME, server_default=sa.func.now(), nullable=False),
        sa.Column("lease_until", _TIME),
        sa.Column("leased_by", sa.Uuid),
        sa.Column("fence", sa.BigInteger, server_default="0", nullable=False),
        sa.Column("delivered_at", _TIME),
        sa.Column("last_status", sa.Integer),
        sa.Column("last_error", sa.Text),
        sa.PrimaryKeyConstraint("message_id", "target_id", name="pk_deliveries"),
        sa.ForeignKeyConstraint(
            ["message_id"], ["messages.id"], name="fk_deliveries_message_id_messages", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["target_id"], ["targets.id"], name="fk_deliveries_target_id_targets"),
    )
    op.create_index(
        "ix_deliveries_due", "deliveries", ["target_id", "due_at"], postgresql_where=sa.text("state = 'pending'")
    )
    op.create_index("ix_deliveries_target", "deliveries", ["target_id", sa.text("message_id desc")])
    op.create_index(
        "ix_deliveries_undelivered",
        "deliveries",
        ["state", sa.text("message_id desc")],
        postgresql_where=sa.text("state <> 'delivered'"),
    )
    op.create_table(
        "delivery_attempts",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("message_id", sa.Uuid, nullable=False),
        sa.Column("target_id", sa.Uuid, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("at", _TIME, server_default=sa.func.clock_timestamp(), nullable=False),
        sa.Column("milliseconds", sa.Integer, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("error", sa.Text),
        sa.Column("answer", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_delivery_attempts"),
        sa.ForeignKeyConstraint(
            ["message_id", "target_id"],
            ["deliveries.message_id", "deliveries.target_id"],
            name="fk_delivery_attempts_message_id_target_id_deliveries",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_delivery_attempts_message_id_target_id", "delivery_attempts", ["message_id", "target_id", "id"])
    # States that last (a late rule, a held account): told once when they begin, once when they end.
    op.create_table(
        "notices",
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("since", _TIME, server_default=sa.func.now(), nullable=False),
        sa.Column("data", JSONB, nullable=False),
        sa.PrimaryKeyConstraint("type", "subject", name="pk_notices"),
    )


def downgrade() -> None:
    for table in ("notices", "delivery_attempts", "deliveries", "messages", "targets"):
        op.drop_table(table)
