"""A withdrawal knows how far it is; verdicts that differ are found by index."""

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table withdrawals add column interval_end timestamptz, add column run_id uuid")
    op.execute("create index ix_checks_differs on checks (id desc) where verdict = 'differs'")


def downgrade() -> None:
    op.execute("drop index ix_checks_differs")
    op.execute("alter table withdrawals drop column interval_end, drop column run_id")
