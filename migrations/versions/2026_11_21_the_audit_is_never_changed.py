"""Entries of the audit can be added, and neither changed nor removed, not even by a superuser's statement."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create function audit_is_append_only() returns trigger language plpgsql as $$
        begin raise exception 'entries of the audit are neither changed nor removed'; end $$
    """)
    op.execute("""
        create trigger append_only before update or delete or truncate on audit
        for each statement execute function audit_is_append_only()
    """)


def downgrade() -> None:
    op.execute("drop trigger append_only on audit")
    op.execute("drop function audit_is_append_only()")
