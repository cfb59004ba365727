"""When Stripe was done with a run that had been cancelled here: until then it holds a slot."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempts", sa.Column("stripe_ended_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_attempts_left_pending",
        "attempts",
        ["account"],
        postgresql_where=sa.text(
            "outcome = 'cancelled' and stripe_run_id is not null and stripe_file_id is null and stripe_ended_at is null"
        ),
    )


def downgrade() -> None:
    op.drop_index("ix_attempts_left_pending", table_name="attempts")
    op.drop_column("attempts", "stripe_ended_at")
