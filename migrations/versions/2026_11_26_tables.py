"""Tables: bookkeeping of loads, sums, checks and diffs; the schema of the rows; what rules say about them."""

from alembic import op
from sqlalchemy import text

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_TABLES = ("check_notes", "checks", "diffs", "load_sums", "loads", "leaderships", "table_columns", "tables_since")


def upgrade() -> None:
    _add_columns()
    _create_tables()
    op.execute("insert into tables_since default values")
    op.execute("create schema report_rows")
    op.execute("comment on schema report_rows is 'tallyhook: rows of report files'")
    op.execute("""
        create function verdicts_are_append_only() returns trigger language plpgsql as $$
        begin raise exception 'verdicts and notes are neither changed nor removed'; end $$
    """)
    for table in ("checks", "check_notes"):
        op.execute(f"""
            create trigger append_only before update or delete or truncate on {table}
            for each statement execute function verdicts_are_append_only()
        """)


def _add_columns() -> None:
    op.execute("""
        alter table rules add column connected text, add column recheck_days integer[] not null default '{}',
            add column "table" jsonb not null default '{"state": "auto", "personal": []}'
    """)
    op.execute("alter table runs add column recheck boolean not null default false")


def _create_tables() -> None:
    op.execute("""
        create table checks (
            id bigint generated always as identity,
            at timestamptz default clock_timestamp() not null,
            subject text not null,
            name text not null,
            verdict text not null,
            account text not null,
            connected_account text,
            interval_start timestamptz,
            interval_end timestamptz,
            timezone text,
            window_day date,
            currency text not null,
            left_value numeric,
            right_value numeric,
            reason text,
            load_ids bigint[] not null,
            rule_ids uuid[] not null,
            constraint pk_checks primary key (id)
        )
    """)
    op.execute("create index ix_checks_loads on checks using gin (load_ids)")
    op.execute("create index ix_checks_subject on checks (subject, id)")
    op.execute("""
        create table table_columns (
            table_name text not null,
            column_name text not null,
            state text not null,
            kind text not null,
            personal boolean not null,
            filled bigint default 0 not null,
            longest integer default 0 not null,
            first_run_id uuid,
            first_seen_at timestamptz default now() not null,
            constraint pk_table_columns primary key (table_name, column_name)
        )
    """)
    op.execute("""
        create table tables_since (
            at timestamptz default now() not null,
            constraint pk_tables_since primary key (at)
        )
    """)
    op.execute("""
        create table check_notes (
            id bigint generated always as identity,
            check_id bigint not null,
            note text not null,
            actor text not null,
            at timestamptz default clock_timestamp() not null,
            constraint pk_check_notes primary key (id),
            constraint fk_check_notes_check_id_checks foreign key(check_id) references checks (id)
        )
    """)
    op.execute("create index ix_check_notes_check_id on check_notes (check_id)")
    op.execute("""
        create table leaderships (
            id bigint generated always as identity,
            account text not null,
            family text not null,
            scope text not null,
            rule_id uuid not null,
            starts_at timestamptz not null,
            ends_at timestamptz,
            constraint pk_leaderships primary key (id),
            constraint fk_leaderships_rule_id_rules foreign key(rule_id) references rules (id) on delete cascade
        )
    """)
    op.execute("create index ix_leaderships_family on leaderships (account, family)")
    op.execute("""
        create table loads (
            id bigint generated always as identity,
            run_id uuid not null,
            file_id uuid not null,
            rule_id uuid,
            account text not null,
            connected_account text,
            scope text not null,
            report_type text not null,
            family text not null,
            table_name text not null,
            window_key text,
            revision integer not null,
            interval_start timestamptz,
            interval_end timestamptz,
            timezone text,
            filtered boolean not null,
            state text not null,
            due_at timestamptz default now() not null,
            tries integer default 0 not null,
            crashes integer default 0 not null,
            lease_until timestamptz,
            leased_by uuid,
            fence bigint default 0 not null,
            loader integer default 0 not null,
            loaded_at timestamptz,
            is_current boolean default false not null,
            leads boolean default false not null,
            rows bigint,
            header text[],
            header_sha256 text,
            loaded_columns text[],
            set_aside text[],
            first_created text,
            last_created text,
            key_repeats bigint,
            net_breaks bigint,
            error jsonb,
            checks_due boolean default false not null,
            object_due boolean default false not null,
            object_location text,
            constraint pk_loads primary key (id),
            constraint uq_loads_run_id unique (run_id),
            constraint fk_loads_run_id_runs foreign key(run_id) references runs (id) on delete cascade
        )
    """)
    op.execute("create index ix_loads_checks_due on loads (id) where checks_due")
    op.execute("create index ix_loads_object_due on loads (id) where object_due")
    op.execute("create index ix_loads_due on loads (due_at) where state = 'due'")
    op.execute("create index ix_loads_identity on loads (rule_id, connected_account, window_key, revision)")
    op.execute("create index ix_loads_state on loads (state, id desc)")
    op.execute("create index ix_loads_table on loads (table_name, account, interval_start)")
    op.execute("create index ix_loads_table_end on loads (table_name, account, interval_end)")
    op.execute("""
        create table diffs (
            load_id bigint not null,
            against_load_id bigint not null,
            against_revision integer not null,
            added bigint not null,
            removed bigint not null,
            changed bigint not null,
            columns jsonb not null,
            left_out text[] not null,
            sums jsonb not null,
            at timestamptz default now() not null,
            constraint pk_diffs primary key (load_id),
            constraint fk_diffs_load_id_loads foreign key(load_id) references loads (id) on delete cascade
        )
    """)
    op.execute("""
        create table load_sums (
            load_id bigint not null,
            category text not null,
            currency text not null,
            rows bigint not null,
            count numeric,
            gross numeric,
            fee numeric,
            net numeric,
            net_breaks bigint,
            plus_breaks bigint,
            constraint pk_load_sums primary key (load_id, category, currency),
            constraint fk_load_sums_load_id_loads foreign key(load_id) references loads (id) on delete cascade
        )
    """)


def downgrade() -> None:
    _refuse_while_others_depend()
    for name in _our_schemas():
        op.execute(f'drop schema "{name}" cascade')
    for table in _TABLES:
        op.execute(f"drop table {table}")
    op.execute("drop function verdicts_are_append_only()")
    op.execute("alter table runs drop column recheck")
    op.execute("""
        alter table rules drop column connected, drop column "table", drop column recheck_days
    """)


def _our_schemas() -> list[str]:
    """Those whose comment says that they are ours, the ones that are read (the views) first."""
    found = op.get_bind().execute(
        text(
            "select nspname from pg_namespace where obj_description(oid, 'pg_namespace') like 'tallyhook:%'"
            " order by nspname = 'report_rows', nspname"
        )
    )
    return [row[0] for row in found]


def _refuse_while_others_depend() -> None:
    found = op.get_bind().execute(
        text("""
        select distinct format('%I.%I', dependent_schema.nspname, dependent.relname)
        from pg_depend join pg_rewrite on pg_rewrite.oid = pg_depend.objid and classid = 'pg_rewrite'::regclass
        join pg_class as dependent on dependent.oid = pg_rewrite.ev_class
        join pg_namespace as dependent_schema on dependent_schema.oid = dependent.relnamespace
        join pg_class as ours on ours.oid = pg_depend.refobjid and refclassid = 'pg_class'::regclass
        join pg_namespace as our_schema on our_schema.oid = ours.relnamespace
        where obj_description(our_schema.oid, 'pg_namespace') like 'tallyhook:%'
            and coalesce(obj_description(dependent_schema.oid, 'pg_namespace'), '') not like 'tallyhook:%'
    """)
    )
    if names := [row[0] for row in found]:
        raise RuntimeError(f"views of yours depend on Tallyhook's tables, drop them first: {', '.join(sorted(names))}")
