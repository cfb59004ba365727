"""Health remembers which items of Stripe's lists could not be read, and why a rule could not be planned."""

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Accounts are configured and kinds a closed set: nobody outside can make it grow.
    op.execute("""
        create table unreadable_items (
            account text not null, kind text not null, number integer not null, example text not null,
            first_at timestamptz not null, last_at timestamptz not null,
            primary key (account, kind)
        )
    """)
    op.execute("alter table rule_progress add column problem text")


def downgrade() -> None:
    op.execute("alter table rule_progress drop column problem")
    op.execute("drop table unreadable_items")
