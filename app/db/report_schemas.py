"""The schemas that people read report rows from: `reports` (or as set), and the one with personal columns."""

from sqlalchemy import Connection, text

from app.errors import ForeignSchema

_OURS = "tallyhook: "


def personal_schema(reports_schema: str) -> str:
    """The schema of the views with personal columns."""
    return f"{reports_schema}_personal"


def ensure_schemas(connection: Connection, reports_schema: str) -> None:
    """Create the two schemas that people read from, unless they exist. Raises ForeignSchema."""
    for name, about in (
        (reports_schema, "rows of report files, for reading"),
        (personal_schema(reports_schema), "rows of report files with the personal columns that rules name"),
    ):
        found = connection.execute(_COMMENT, {"name": name}).scalar_one_or_none()
        if found is None:
            connection.exec_driver_sql(f'create schema "{name}"')
            connection.exec_driver_sql(f"comment on schema \"{name}\" is '{_OURS}{about}'")
        elif not found.startswith(_OURS):
            raise ForeignSchema(
                f"the database has a schema {name!r} that is not Tallyhook's: "
                "set TALLYHOOK_REPORTS_SCHEMA to another name"
            )


_COMMENT = text("select coalesce(obj_description(oid, 'pg_namespace'), '') from pg_namespace where nspname = :name")
