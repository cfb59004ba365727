"""When a list of payouts was read whole: a later reading that is refused, or not whole, takes nothing back."""

from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Null: before the last reading there was none, or only by processes of the version before.
    op.execute("alter table payout_lists add column whole_at timestamptz")


def downgrade() -> None:
    op.execute("alter table payout_lists drop column whole_at")
