"""Which accounts are connected to ours, how far that list has been read, and the accounts that rules leave out."""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table connected_accounts (
            account text not null constraint fk_connected_accounts_account_accounts references accounts (slug),
            id text not null,
            stripe_created_at timestamptz, country text, name text, source text not null,
            first_seen_at timestamptz not null default clock_timestamp(), seen_at timestamptz, left_at timestamptz,
            look_at timestamptz,
            constraint pk_connected_accounts primary key (account, id)
        )
    """)
    op.execute("""
        create index ix_connected_accounts_look_at on connected_accounts (account, look_at) where look_at is not null
    """)
    op.execute("""
        create index ix_connected_accounts_created on connected_accounts (account, stripe_created_at)
        where left_at is null
    """)
    op.execute("""
        create table connected_lists (
            account text not null constraint fk_connected_lists_account_accounts references accounts (slug),
            recent_at timestamptz, complete_at timestamptz, began_at timestamptz, page_after text,
            odd_items integer not null default 0, nameless boolean not null default false,
            doubted_at timestamptz, refusal text,
            constraint pk_connected_lists primary key (account)
        )
    """)
    op.execute("alter table rules add column excepted text[] not null default '{}'")


def downgrade() -> None:
    op.execute("alter table rules drop column excepted")
    op.execute("drop table connected_lists")
    op.execute("drop table connected_accounts")
