"""The server's timeline beside the mark up to which every Stripe run is known: a fail-over begins a new one."""

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table accounts add column timeline bigint, add column other_timeline_at timestamptz")
    # Of the log's present file: the control file says the timeline of the last checkpoint, which comes minutes after a
    # promotion. Null where the server has no such log, or does not let us ask.
    op.execute("""
        create function server_timeline() returns bigint language plpgsql volatile as $$
        begin
            return cast(cast('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) as bit(32)) as bigint);
        exception when others then
            return null;
        end $$
    """)


def downgrade() -> None:
    op.execute("drop function server_timeline()")
    op.execute("alter table accounts drop column timeline, drop column other_timeline_at")
