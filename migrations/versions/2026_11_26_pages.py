"""Sessions and login links of the pages, and what their lists and calendars are found by."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_NOW = sa.text("now()")


def upgrade() -> None:
    op.create_table(
        "web_sessions",
        sa.Column("id_sha256", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("accounts", ARRAY(sa.Text), nullable=True),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id_sha256", name="pk_web_sessions"),
    )
    op.create_index("ix_web_sessions_expires_at", "web_sessions", ["expires_at"])
    op.create_table(
        "login_links",
        sa.Column("id_sha256", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("accounts", ARRAY(sa.Text), nullable=True),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), server_default=_NOW, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id_sha256", name="pk_login_links"),
    )
    op.create_index("ix_login_links_expires_at", "login_links", ["expires_at"])
    # A rule's days, for its calendar and for the overview of a hundred rules.
    op.execute("""
        create index ix_runs_rule_day
        on runs (rule_id, window_day(window_key, interval_start, interval_end, timezone)) where rule_id is not null
    """)


def downgrade() -> None:
    op.drop_index("ix_runs_rule_day", table_name="runs")
    op.drop_table("login_links")
    op.drop_table("web_sessions")
