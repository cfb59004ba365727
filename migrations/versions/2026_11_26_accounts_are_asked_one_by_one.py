"""When each account is due to be asked what Stripe has: a row per account, so that a slow one delays no other."""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table reconciliations (
            account text not null,
            due_at timestamptz,
            started_at timestamptz,
            finished_at timestamptz,
            constraint pk_reconciliations primary key (account),
            constraint fk_reconciliations_account_accounts foreign key (account) references accounts (slug)
        )
    """)
    op.execute("create index ix_reconciliations_due_at on reconciliations (due_at)")
    # What the version before asked for, it asked for all accounts at once.
    op.execute("""
        insert into reconciliations (account, finished_at)
        select slug, (select finished_at from timetable where name = 'reconcile') from accounts
    """)


def downgrade() -> None:
    op.execute("drop table reconciliations")
