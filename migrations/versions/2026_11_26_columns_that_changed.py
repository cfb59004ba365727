"""Which columns came and went with a file, beside the file before it."""

from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Null: the same columns as before, or nothing to compare with. Nothing is said about files that are loaded already.
    op.execute("alter table loads add column added_columns text[], add column removed_columns text[]")
    op.execute("create index ix_loads_columns_changed on loads (id desc) where added_columns is not null")


def downgrade() -> None:
    op.execute("drop index ix_loads_columns_changed")
    op.execute("alter table loads drop column added_columns, drop column removed_columns")
