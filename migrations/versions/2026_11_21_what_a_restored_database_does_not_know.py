"""Up to when a database knows every Stripe run, and those that it found it did not know."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("accounts", sa.Column("known_until", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "unclaimed_runs",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("stripe_run_id", sa.Text(), nullable=False),
        sa.Column("report_type", sa.Text(), nullable=False),
        sa.Column("parameters", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("account", "stripe_run_id", name=op.f("pk_unclaimed_runs")),
    )


def downgrade() -> None:
    op.drop_table("unclaimed_runs")
    op.drop_column("accounts", "known_until")
