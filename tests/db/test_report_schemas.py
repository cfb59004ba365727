"""The schemas that people read from: made with ours, never somebody else's, dropped only if nobody depends on them."""

import pytest
from sqlalchemy import create_engine, text

from app.db.engine import sqlalchemy_url
from app.db.migrate import downgrade, migrate
from app.errors import ForeignSchema


def run(url: str, *statements: str) -> list[str]:
    """Execute these statements; returns the texts that the last one found."""
    engine = create_engine(sqlalchemy_url(url))
    try:
        with engine.begin() as connection:
            for statement in statements:
                found = connection.execute(text(statement))
            return [str(row[0]) for row in found] if found.returns_rows else []
    finally:
        engine.dispose()


def test_migrating_makes_them_and_again_changes_nothing(empty_database_url: str) -> None:
    for _ in range(2):
        migrate(empty_database_url, reports_schema="stripe")

    listed = "select nspname from pg_namespace where obj_description(oid, 'pg_namespace') like 'tallyhook%' order by 1"
    assert run(empty_database_url, listed) == ["report_rows", "stripe", "stripe_personal"]


def test_a_schema_of_somebody_else_is_refused_in_one_line_and_nothing_has_changed(empty_database_url: str) -> None:
    run(empty_database_url, "create schema reports", "create table reports.mine (a int)")

    with pytest.raises(ForeignSchema, match="set TALLYHOOK_REPORTS_SCHEMA to another name") as refused:
        migrate(empty_database_url, reports_schema="reports")

    assert "\n" not in str(refused.value)
    assert run(empty_database_url, "select tablename from pg_tables where schemaname = 'public'") == []


def test_a_downgrade_refuses_while_views_of_others_depend_on_ours(empty_database_url: str) -> None:
    migrate(empty_database_url, reports_schema="reports")
    run(
        empty_database_url,
        "create table report_rows.a (net numeric)",
        "create view reports.a as select * from report_rows.a",
        "create view public.mine as select * from reports.a",
    )

    with pytest.raises(RuntimeError, match=r"drop them first: public\.mine"):
        downgrade(empty_database_url, "base")

    run(empty_database_url, "drop view public.mine")
    downgrade(empty_database_url, "base")
    assert run(empty_database_url, "select nspname from pg_namespace where nspname like 'report%'") == []
