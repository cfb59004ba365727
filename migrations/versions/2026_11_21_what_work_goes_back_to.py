"""Which event or request a run goes back to, its trace, and which secret signed an event."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("events", sa.Column("signed_with", sa.Text(), nullable=True))
    op.add_column("events", sa.Column("traceparent", sa.Text(), nullable=True))
    op.add_column("runs", sa.Column("caused_by", sa.Text(), nullable=True))
    op.add_column("runs", sa.Column("traceparent", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("runs", "traceparent")
    op.drop_column("runs", "caused_by")
    op.drop_column("events", "traceparent")
    op.drop_column("events", "signed_with")
