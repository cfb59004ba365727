"""A run that Stripe had made before a restore says when it was listed: what is first asked for later adopts it."""

from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table unclaimed_runs add column noted_at timestamptz not null default clock_timestamp()")


def downgrade() -> None:
    op.execute("alter table unclaimed_runs drop column noted_at")
