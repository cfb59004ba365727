"""Accounts may be kept in rows: what the API was given of them, as ciphertext only."""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table account_keys (
            account text not null,
            sealed bytea not null,
            sealed_with text not null,
            created_at timestamptz not null default now(),
            changed_at timestamptz not null default clock_timestamp(),
            constraint pk_account_keys primary key (account),
            constraint fk_account_keys_account_accounts foreign key (account) references accounts (slug)
        )
    """)


def downgrade() -> None:
    op.execute("drop table account_keys")
