"""Payouts that Stripe has listed; a run of one does not wait until its type's data reaches the day it arrives on.

An older process beside it reads none of this, and no rule that needs it is written while one is alive.
"""

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

_VIEW = """
create or replace view run_readiness as
select *, not (leased or withdrawn or type_missing or beyond_availability or refused or held) as workable from (
    select runs.id as run_id, runs.account, runs.rule_id, runs.report_type, runs.state, runs.interval_end, runs.due_at,
        runs.asked_at, runs.refusals, runs.last_trouble, kind.of_call as call_kind,
        greatest(runs.due_at, runs.lease_until) as free_at,
        coalesce(runs.lease_until > clock_timestamp(), false) as leased,
        runs.state = 'planned' and exists (select from withdrawals where withdrawals.rule_id = runs.rule_id)
            as withdrawn,
        runs.state = 'planned' and type.missing_since is not null as type_missing,
        type.next_probe_at as type_probe_at,
        runs.state = 'planned' and coalesce(runs.interval_end > type.data_available_end, false){payouts}
            as beyond_availability,
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
    op.execute("""
        create table payouts (
            account text not null constraint fk_payouts_account_accounts references accounts (slug),
            connected_account text not null, id text not null,
            stripe_created_at timestamptz, arrives_on date, automatic boolean, reconciliation text,
            seen_at timestamptz, look_at timestamptz,
            constraint pk_payouts primary key (account, connected_account, id)
        )
    """)
    op.execute("create index ix_payouts_look_at on payouts (look_at) where look_at is not null")
    op.execute("create index ix_payouts_created on payouts (account, connected_account, stripe_created_at)")
    op.execute("""
        create table payout_lists (
            account text not null constraint fk_payout_lists_account_accounts references accounts (slug),
            connected_account text not null, read_from timestamptz, read_at timestamptz not null, refusal text,
            constraint pk_payout_lists primary key (account, connected_account)
        )
    """)
    op.execute(
        _VIEW.format(payouts=" and not (runs.rule_id is not null and coalesce(runs.window_key like 'po\\_%', false))")
    )


def downgrade() -> None:
    op.execute(_VIEW.format(payouts=""))
    op.execute("drop table payout_lists")
    op.execute("drop table payouts")
