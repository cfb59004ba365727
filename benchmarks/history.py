"""Years of history in a minute: rules, runs, attempts, files and events written by SQL, as the service leaves them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import psycopg

from benchmarks.stripe import first_day, midnight

# Runs of days long gone; ids grow with time as ours do. One in a thousand failed, one in ten thousand is still planned.
_RULES = """
insert into rules (id, account, name, report_type, enabled, cadence, timezone, starts_on, settle_hours, parameters,
    connected_accounts)
select (lpad(to_hex(1500000000000 + n), 12, '0') || '7' || right(md5(n::text), 19))::uuid, 'default', 'rule ' || n,
    'bench.type_' || n %% %(types)s || '.1', true, 'daily', 'UTC', %(first)s::date, 0, '{}', '{}'
from generate_series(1, %(rules)s) as n;
"""
_PROGRESS = """
insert into rule_progress (rule_id, connected_account, planned_until, next_due_at)
select id, null, %(until)s, %(until)s::timestamptz + interval '1 day' from rules;
"""
_RUNS = """
insert into runs (id, account, rule_id, report_type, window_key, interval_start, interval_end, timezone, parameters,
    state, attempts_granted, planned_at, requested_at, ready_at, stored_at, due_at, error)
select (lpad(to_hex(epoch * 1000), 12, '0') || '7' || right(md5(r.id::text || day), 19))::uuid, 'default',
    r.id, r.report_type, to_char(day, 'YYYY-MM-DD'), day, day + interval '1 day', 'UTC',
    jsonb_build_object('interval_start', epoch, 'interval_end', epoch + 86400), state, 3, day, day, day,
    case when state = 'stored' then day end,
    case when state = 'stored' then day else now() + interval '1 year' end,
    case when state = 'failed' then '{"kind": "rejected", "message": "no", "stripe_request_id": null}'::jsonb end
from generate_series(%(first)s::timestamptz, %(until)s::timestamptz - interval '1 day', '1 day') as day, rules as r,
    lateral (select extract(epoch from day)::bigint as epoch) as instant,
    lateral (select case abs(hashtext(r.id::text || day)) %% 10000 when 0 then 'planned' when 1 then 'failed'
        when 2 then 'failed' when 3 then 'failed' when 4 then 'cancelled' else 'stored' end as state) as drawn;
"""
_ATTEMPTS = """
insert into attempts (run_id, number, account, idempotency_key, stripe_run_id, requested_at, heard_at, stripe_file_id,
    file_size, ended_at, outcome)
select id, 1, account, id::text, 'frr_' || replace(id::text, '-', ''), planned_at, planned_at,
    'file_' || replace(id::text, '-', ''), 5307, stored_at, case when state = 'stored' then 'stored' end
from runs;
"""
_FILES = """
insert into files (id, run_id, account, stripe_file_id, filename, media_type, size, sha256, line_count, started_at,
    stored_at)
select id, id, account, 'file_' || replace(id::text, '-', ''), report_type || '.csv', 'text/csv', 5307,
    repeat('0', 64), 49, stored_at, stored_at
from runs where state = 'stored';
"""
_CHUNKS = """
insert into file_chunks (file_id, raw_start, raw_size, codec, data)
select id, 0, 5307, 0, convert_to(repeat(md5(id::text), 40), 'UTF8') from files;
"""
_LOADS = """
insert into loads (run_id, file_id, rule_id, account, scope, report_type, family, table_name, window_key, revision,
    interval_start, interval_end, timezone, filtered, state, loaded_at, is_current, leads, rows)
select id, id, rule_id, account, '', report_type, 'bench', 'bench', window_key, revision, interval_start, interval_end,
    timezone, false, 'loaded', stored_at, true, true, 49
from runs where state = 'stored';
"""
# One in ten thousand differs.
_VERDICTS = """
insert into checks (subject, name, verdict, account, currency, load_ids, rule_ids)
select 'subject ' || n, 'net of activity and balance', case n %% 10000 when 0 then 'differs' else 'agrees' end,
    'default', 'usd', '{}', '{}'
from generate_series(1, %(verdicts)s) as n;
"""
_EVENTS = """
insert into events (account, stripe_event_id, type, object_id, livemode, stripe_created_at, received_at, payload,
    payload_sha256, status, handled_at)
select 'default', 'evt_history_' || n, 'reporting.report_run.succeeded', 'frr_history_' || n, false, now(),
    now() - n * interval '1 s', repeat(md5(n::text), 40), repeat('0', 64), 'handled', now()
from generate_series(1, %(events)s) as n;
"""


@dataclass(frozen=True, slots=True)
class History:
    """So many daily rules (of so many report types), and their windows of so many days up to last midnight."""

    rules: int
    days: int
    types: int = 1

    @property
    def runs(self) -> int:
        """How many runs that makes."""
        return self.rules * self.days


def write_rules(url: str, history: History) -> None:
    """The rules, planned up to last midnight; their runs are written by `write_runs`."""
    values = {"rules": history.rules, "types": history.types, "first": first_day(history.days), "until": midnight()}
    _write(
        url, "insert into accounts (slug) values ('default') on conflict do nothing", _RULES, _PROGRESS, values=values
    )


def write_runs(url: str, days: range, *, files: bool = True) -> None:
    """The runs for the windows of these days (counted back from last midnight); with `files` also where each is."""
    values = {"first": first_day(days.stop), "until": midnight() - timedelta(days=days.start)}
    _write(url, _RUNS, *([_ATTEMPTS, _FILES] if files else []), values=values)


def write_events(url: str, events: int) -> None:
    """Events that were handled long ago."""
    _write(url, _EVENTS, values={"events": events})


def write_loads(url: str, *, verdicts: int) -> None:
    """Every stored file of the history as loaded, and so many verdicts about numbers."""
    _write(url, _LOADS, _VERDICTS, values={"verdicts": verdicts})


def write_chunks(url: str) -> None:
    """The bytes of every file in the history."""
    _write(url, _CHUNKS, values={})


def _write(url: str, *statements: str, values: Mapping[str, object]) -> None:
    """Write without checking foreign keys row by row, and build the indexes once at the end."""
    with psycopg.connect(url, cursor_factory=psycopg.ClientCursor) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("set synchronous_commit = off")
        connection.execute("set maintenance_work_mem = '512MB'")
        indexes = connection.execute(_INDEXES).fetchall()
        for name, _ in indexes:
            connection.execute(f'drop index "{name}"')
        for statement in statements:
            connection.execute(statement, values)
        for _, definition in indexes:
            connection.execute(definition)
        connection.commit()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("vacuum analyze")
        connection.execute("checkpoint")


_INDEXES = """
select indexname, indexdef from pg_indexes where schemaname = 'public'
    and tablename in ('runs', 'events', 'attempts', 'files', 'loads', 'checks')
    and indexname not in (select conname from pg_constraint)
"""
