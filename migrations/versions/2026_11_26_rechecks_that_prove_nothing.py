"""A report type says since when Stripe answers its re-checks with the earlier file, which proves nothing."""

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table report_types add column same_file_since timestamptz")


def downgrade() -> None:
    op.execute("alter table report_types drop column same_file_since")
