"""Files may lie in an object store; what is left there of files that were dropped is written down until it is gone."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("files", sa.Column("location", sa.Text(), nullable=True))
    op.create_table(
        "dropped_objects",
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("dropped_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("location", name=op.f("pk_dropped_objects")),
    )


def downgrade() -> None:
    op.drop_table("dropped_objects")
    op.drop_column("files", "location")
