"""The type of a result file at Stripe: a ZIP is not a CSV. An older process neither writes nor reads it."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempts", sa.Column("file_type", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("attempts", "file_type")
