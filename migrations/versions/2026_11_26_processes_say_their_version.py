"""A process says which version it runs; one that only serves says so too. Without a word from it: 330d95e."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("version", sa.Text(), nullable=True))
    op.add_column("workers", sa.Column("words", sa.Integer(), server_default=sa.text("1"), nullable=False))
    op.add_column("workers", sa.Column("works_queue", sa.Boolean(), server_default=sa.text("true"), nullable=False))


def downgrade() -> None:
    op.drop_column("workers", "works_queue")
    op.drop_column("workers", "words")
    op.drop_column("workers", "version")
