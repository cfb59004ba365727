"""Every target under a second name: what is announced is announced to all, whichever accounts its caller sees."""

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create view every_target as
        select id, kind, message_types, rule_ids, accounts, enabled, created_at, deleted_at from targets
    """)


def downgrade() -> None:
    op.execute("drop view every_target")
