"""What `GET /health` asks of the rows: a few statements that indexes answer, all in one short transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from app.resources import Resources

# A database that is overloaded answers with the check that fails, not with silence.
STATEMENT_SECONDS = 3
MOST_WORKERS = 100
# Rules times connected accounts; those whose data is due first are looked at first.
MOST_RULES = 2000
# How far back the last webhook of an account, and of a signing secret, is looked for.
NEWEST_EVENTS = 1000
# Failed runs whose time is looked up.
NEWEST_FAILED = 1000


@dataclass(frozen=True, slots=True)
class Facts:
    """The rows of each statement; `now` is the database's clock."""

    queue: Any
    workers: Sequence[Any]
    lanes: Sequence[Any]
    accounts: Sequence[Any]
    heard: Sequence[Any]
    untold: Sequence[Any]
    missing: Sequence[Any]
    rules: Sequence[Any]


async def read_facts(res: Resources) -> Facts:
    """Everything at one moment. Raises what the database raises."""
    values = {
        "stalled": res.settings.stalled_after_seconds,
        "configured": sorted(res.settings.accounts),
        "told": sorted(account.slug for account in res.settings.accounts.values() if account.webhook_secrets),
        "newest_failed": NEWEST_FAILED,
        "most_workers": MOST_WORKERS,
        "newest_events": NEWEST_EVENTS,
        "most_rules": MOST_RULES,
    }
    async with res.sessions.begin() as session:
        await session.execute(text(f"set local statement_timeout = '{STATEMENT_SECONDS}s'"))
        found: dict[str, Any] = {name: (await session.execute(query, values)).all() for name, query in _QUERIES.items()}
    return Facts(**{**found, "queue": found["queue"][0]})


_QUERIES = {
    "queue": text("""
select clock_timestamp() as now,
    (select min(received_at) from events where status = 'pending') as oldest_event,
    (select count(*) from events where status = 'pending') as inbox,
    (select count(*) from events where status = 'failed') as failed_events,
    (select count(*) from runs where state = 'failed') as failed_runs,
    (select count(*) from (select id from runs where state = 'failed' order by id desc limit :newest_failed) as failed
        where (select max(at) from run_moves where run_id = failed.id) > now() - interval '1 day') as failed_lately,
    (select finished_at from timetable where name = 'reconcile') as reconciled_at,
    (select min(created_at) from accounts) as first_seen_at
"""),
    "workers": text("""
select host || '/' || pid as name, seen_at, seen_at > clock_timestamp() - :stalled * interval '1 s' as alive
from workers order by seen_at desc limit :most_workers
"""),
    # A planned run that waits for data, for the account's key, or behind other runs of its account could not have been
    # worked on: only where nothing of the account is under way does it stand still.
    "lanes": text("""
select lane, count(*) as runs, min(due_at) as oldest from (
    select 'to be requested' as lane, runs.due_at
    from runs left join report_types as type on type.account = runs.account and type.id = runs.report_type
    where runs.state = 'planned' and (lease_until is null or lease_until < clock_timestamp())
      and runs.account = any(cast(:configured as text[]))
      and type.missing_since is null and coalesce(interval_end <= type.data_available_end, true)
      and coalesce(refused_at_availability < type.data_available_end, true)
      and not exists (select from account_holds where account = runs.account and call_kind = 'create')
      and not exists (select from runs as other where other.account = runs.account and other.state = 'requested')
    union all
    select 'to be looked up', due_at from runs
    where state = 'requested' and (lease_until is null or lease_until < clock_timestamp())
      and not exists (select from account_holds where account = runs.account and call_kind = 'read')
    union all
    select 'to be downloaded', due_at from runs
    where state = 'ready' and (lease_until is null or lease_until < clock_timestamp())
      and not exists (select from account_holds where account = runs.account and call_kind = 'files')
) as due where due_at < clock_timestamp() group by lane order by lane
"""),
    "accounts": text("""
select slug as account, holds.held
from unnest(cast(:configured as text[])) as slug
left join lateral (
    select json_agg(json_build_object('call_kind', call_kind, 'reason', reason, 'since', since) order by call_kind)
        as held
    from account_holds where account = slug
) as holds on true
order by slug
"""),
    "heard": text("""
select account, signed_with, max(received_at) as last_at, min(min(received_at)) over () as looked_back_to
from (
    select account, signed_with, received_at from events order by received_at desc limit :newest_events
) as newest group by account, signed_with
"""),
    # Stripe sends an event for every advance: an hour later it has come, if it comes at all.
    "untold": text("""
select type.account, min(type.id) as example, count(*) as types, max(type.stripe_updated_at) as moved_at
from report_types as type join accounts on accounts.slug = type.account
where type.account = any(cast(:told as text[]))
  and exists (select from rules where account = type.account and report_type = type.id and enabled
              and deleted_at is null)
  and type.stripe_updated_at > accounts.created_at and type.stripe_updated_at < clock_timestamp() - interval '1 hour'
  and not exists (
    select from events where events.account = type.account and events.object_id = type.id
      and events.type = 'reporting.report_type.updated'
      and events.received_at > type.stripe_updated_at - interval '5 minutes')
group by type.account order by type.account
"""),
    "missing": text("""
select rules.account, rules.report_type, min(rules.name) as rule, type.missing_reason as reason
from rules left join report_types as type on type.account = rules.account and type.id = rules.report_type
where rules.enabled and rules.deleted_at is null
  and (type.missing_since is not null
    or type.data_available_end is null and rules.created_at < now() - interval '1 hour')
group by rules.account, rules.report_type, type.missing_reason order by rules.account, rules.report_type limit 100
"""),
    # Two look-ups, because an index finds a null only where it is asked for by name.
    "rules": text("""
select rules.id, rules.name, rules.account, rules.report_type, rules.created_at, p.connected_account, p.next_due_at,
    type.data_available_end,
    coalesce(own.state, connected.state) as state, coalesce(own.interval_end, connected.interval_end) as window_end,
    coalesce(own.planned_at, connected.planned_at) as planned_at
from (
    select p.* from rule_progress as p join rules on rules.id = p.rule_id
    where rules.enabled and rules.deleted_at is null order by p.next_due_at nulls first, p.id limit :most_rules
) as p join rules on rules.id = p.rule_id
left join report_types as type on type.account = rules.account and type.id = rules.report_type
left join lateral (
    select state, interval_end, planned_at from runs
    where runs.rule_id = p.rule_id and runs.connected_account is null and p.connected_account is null
    order by window_key desc, revision desc limit 1
) as own on true
left join lateral (
    select state, interval_end, planned_at from runs
    where runs.rule_id = p.rule_id and runs.connected_account = p.connected_account
    order by window_key desc, revision desc limit 1
) as connected on true
order by p.next_due_at nulls first, p.id
"""),
}
