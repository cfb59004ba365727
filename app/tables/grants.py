"""Who may read the views, and how a table is removed for good. Statements with names in them, built by hand."""

from psycopg import sql
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import audit
from app.db.engine import raw_connection
from app.db.report_schemas import personal_schema
from app.errors import Conflict, NotFound
from app.tables.ddl import ROWS_SCHEMA


async def grant(session: AsyncSession, role: str, schema: str, *, by: str) -> None:
    """Let a database role read every view of a schema, future ones too. Raises NotFound."""
    if (await session.execute(_ROLE, {"role": role})).first() is None:
        raise NotFound(f"the database has no role {role!r}: create it first, CREATE ROLE {role} LOGIN PASSWORD …")
    names = {"role": sql.Identifier(role), "schema": sql.Identifier(schema)}
    async with raw_connection(session) as raw, raw.cursor() as cursor:
        for statement in _GRANTS:
            await cursor.execute(sql.SQL(statement).format(**names))
    await audit.note(session, actor=by, action="tables.granted", subject=role, after={"schema": schema})


async def drop(session: AsyncSession, table: str, reports_schema: str, *, by: str) -> None:
    """Remove a table, its views and rows; the files stay and can be loaded again. Raises NotFound, Conflict."""
    if (await session.execute(_DROPPED, {"table": table})).first() is None:
        raise NotFound(f"there is no table {table!r}")
    if (await session.execute(_DEPENDENT, {"table": table})).first() is not None:
        raise Conflict(f"views of yours depend on {table}: drop them first")
    views = [(reports_schema, table), (reports_schema, f"{table}_all"), (personal_schema(reports_schema), table)]
    async with raw_connection(session) as raw, raw.cursor() as cursor:
        for view in views:
            await cursor.execute(sql.SQL("drop view if exists {}").format(sql.Identifier(*view)))
        await cursor.execute(sql.SQL("drop table if exists {}").format(sql.Identifier(ROWS_SCHEMA, table)))
    await session.execute(_FORGET, {"table": table})
    await audit.note(session, actor=by, action="table.dropped", subject=table)


_GRANTS = (
    "grant usage on schema {schema} to {role}",
    "grant select on all tables in schema {schema} to {role}",
    "alter default privileges in schema {schema} grant select on tables to {role}",
)
_ROLE = text("select 1 from pg_roles where rolname = :role")
_DROPPED = text("""
update loads set state = 'removed', fence = fence + 1, lease_until = null, leased_by = null, loaded_columns = '{}',
    object_due = true
where table_name = :table returning id
""")
_FORGET = text("delete from table_columns where table_name = :table and state not in ('approved', 'ignored')")
# Views of others that read one of ours of this table.
_DEPENDENT = text("""
select 1 from pg_depend join pg_rewrite on pg_rewrite.oid = pg_depend.objid
    and pg_depend.classid = 'pg_rewrite'::regclass
join pg_class as theirs on theirs.oid = pg_rewrite.ev_class
join pg_namespace as their_schema on their_schema.oid = theirs.relnamespace
join pg_class as ours on ours.oid = pg_depend.refobjid and pg_depend.refclassid = 'pg_class'::regclass
join pg_namespace as our_schema on our_schema.oid = ours.relnamespace
where obj_description(our_schema.oid, 'pg_namespace') like 'tallyhook%' and ours.relname in (:table, :table || '_all')
    and coalesce(obj_description(their_schema.oid, 'pg_namespace'), '') not like 'tallyhook%'
limit 1
""")
