"""Files know their rule, so that retention finds what is due by an index; and when their bytes were gone."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("files", sa.Column("rule_id", sa.Uuid(), nullable=True))
    op.add_column("files", sa.Column("purged_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("update files set rule_id = runs.rule_id from runs where runs.id = files.run_id")
    op.create_index(
        "ix_files_kept",
        "files",
        ["rule_id", "stored_at"],
        unique=False,
        postgresql_where=sa.text("stored_at is not null and removed_at is null"),
    )
    op.create_index(
        "ix_files_leaving",
        "files",
        ["removed_at"],
        unique=False,
        postgresql_where=sa.text("removed_at is not null and purged_at is null"),
    )
    # Removed bytes are used again before the table grows: vacuum by count here too (docs/decisions/0009).
    op.execute("""
        alter table file_chunks set (
            autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500,
            toast.autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_threshold = 20000)
    """)


def downgrade() -> None:
    op.execute("""
        alter table file_chunks reset (
            autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold,
            toast.autovacuum_vacuum_scale_factor, toast.autovacuum_vacuum_threshold)
    """)
    op.drop_index("ix_files_leaving", table_name="files")
    op.drop_index("ix_files_kept", table_name="files")
    op.drop_column("files", "purged_at")
    op.drop_column("files", "rule_id")
