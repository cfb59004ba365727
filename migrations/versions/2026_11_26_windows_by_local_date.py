"""The local day that a window counts as, and runs found by it: the same as `app/planning/dates.py`."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A calendar window's key is its first date; an every_update window's is an instant, with a T; a payout's its id.
    # A zone that the server does not know (older time zone data) must not keep a run from being written down: UTC then.
    op.execute("""
        create function window_day(key text, starts timestamptz, ends timestamptz, zone text) returns date
        language plpgsql immutable as $$
        declare
            moment timestamptz := case when key like '%T%' or key like 'po\\_%' or ends is null then starts
                else greatest(starts, ends - interval '1 microsecond') end;
        begin
            return (moment at time zone zone)::date;
        exception when invalid_parameter_value then
            return (moment at time zone 'UTC')::date;
        end $$
    """)
    op.execute("""
        create index ix_runs_window_day on runs (window_day(window_key, interval_start, interval_end, timezone), id)
        where rule_id is not null
    """)


def downgrade() -> None:
    op.execute("drop index ix_runs_window_day")
    op.execute("drop function window_day(text, timestamptz, timestamptz, text)")
