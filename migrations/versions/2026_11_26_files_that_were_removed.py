"""Removed files by run: few of many, so that a month's page need not look at the others."""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("create index ix_files_removed on files (run_id) where removed_at is not null")


def downgrade() -> None:
    op.execute("drop index ix_files_removed")
