"""What keeps a run from its next step, in one view; and what a run needs to back off alone.

An older process runs beside it: it reads neither the view nor the columns, and leaves them as they are.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

# `workable`: nothing but its time, a slot or the rate limit is in the way.
_VIEW = """
create view run_readiness as
select *, not (leased or withdrawn or type_missing or beyond_availability or refused or held) as workable from (
    select runs.id as run_id, runs.account, runs.rule_id, runs.report_type, runs.state, runs.interval_end, runs.due_at,
        runs.asked_at, runs.refusals, runs.last_trouble, kind.of_call as call_kind,
        greatest(runs.due_at, runs.lease_until) as free_at,
        coalesce(runs.lease_until > clock_timestamp(), false) as leased,
        runs.state = 'planned' and exists (select from withdrawals where withdrawals.rule_id = runs.rule_id)
            as withdrawn,
        runs.state = 'planned' and type.missing_since is not null as type_missing,
        type.next_probe_at as type_probe_at,
        runs.state = 'planned' and coalesce(runs.interval_end > type.data_available_end, false) as beyond_availability,
        runs.state = 'planned' and runs.refused_at_availability is not null
            and not coalesce(type.data_available_end > runs.refused_at_availability, false) as refused,
        hold.account is not null as held,
        nullif(hold.next_probe_at, 'infinity') as hold_probe_at  -- never: only the right key ends it
    from runs
    cross join lateral (
        select case runs.state when 'planned' then 'create' when 'requested' then 'read' when 'ready' then 'files' end
            as of_call
    ) as kind
    left join report_types as type on type.account = runs.account and type.id = runs.report_type
    left join account_holds as hold on hold.account = runs.account and hold.call_kind = kind.of_call
) as run
"""


def upgrade() -> None:
    op.add_column("runs", sa.Column("refusals", sa.Integer, server_default=sa.text("0"), nullable=False))
    op.add_column("runs", sa.Column("refused_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_runs_refused", "runs", ["account", "state"], postgresql_where=sa.text("refused_at is not null"))
    op.drop_index("ix_runs_ready", table_name="runs")
    op.create_index("ix_runs_ready", "runs", ["account", "due_at"], postgresql_where=sa.text("state = 'ready'"))
    op.create_index(
        "ix_unclaimed_runs_alike",
        "unclaimed_runs",
        [
            "account",
            "report_type",
            sa.text("(parameters ->> 'interval_end')"),
            sa.text("(parameters ->> 'connected_account')"),
        ],
    )
    op.execute(_VIEW)


def downgrade() -> None:
    op.execute("drop view run_readiness")
    op.drop_index("ix_unclaimed_runs_alike", table_name="unclaimed_runs")
    op.drop_index("ix_runs_ready", table_name="runs")
    op.create_index("ix_runs_ready", "runs", ["due_at"], postgresql_where=sa.text("state = 'ready'"))
    op.drop_index("ix_runs_refused", table_name="runs")
    op.drop_column("runs", "refused_at")
    op.drop_column("runs", "refusals")
