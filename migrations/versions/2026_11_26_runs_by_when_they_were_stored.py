"""Stored runs in the order in which they were stored: for programs that ask what is new since a time."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("create index ix_runs_stored on runs (stored_at, id) where state = 'stored'")


def downgrade() -> None:
    op.execute("drop index ix_runs_stored")
