"""What health has to remember: looks at the outside, refused deliveries, how late data has been, what a try met."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # One row per check and account ('' where it is about none): the newest look, not a history.
    op.execute("""
        create table kept_checks (
            name text not null, account text not null default '', status text not null, detail text not null,
            advice text, looked_by text not null, looked_at timestamptz not null default now(),
            primary key (name, account)
        )
    """)
    # Accounts are configured and reasons a closed set: nobody outside can make it grow.
    op.execute("""
        create table refused_deliveries (
            account text not null, reason text not null, number bigint not null,
            first_at timestamptz not null, last_at timestamptz not null,
            primary key (account, reason)
        )
    """)
    op.execute("""
        create table file_store_probes (
            id uuid primary key, data bytea not null, written_at timestamptz not null default now()
        )
    """)
    op.execute("alter table report_types add column longest_data_age_seconds double precision")
    op.execute("alter table runs add column last_trouble text")
    op.execute("create index ix_runs_planned_due on runs (account, due_at) where state = 'planned'")
    op.execute("""
        create index ix_runs_tried on runs (planned_at) where state in ('requested', 'ready')
            or (state = 'planned' and tries > 0)
    """)


def downgrade() -> None:
    op.execute("drop index ix_runs_tried")
    op.execute("drop index ix_runs_planned_due")
    op.execute("alter table runs drop column last_trouble")
    op.execute("alter table report_types drop column longest_data_age_seconds")
    op.execute("drop table file_store_probes")
    op.execute("drop table refused_deliveries")
    op.execute("drop table kept_checks")
