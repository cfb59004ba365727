"""A type that ends in `.latest` has a row of its own: the version that it resolves to."""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        alter table report_types add column resolves_to text, add column resolved_since timestamptz,
            add column resolved_before text
    """)


def downgrade() -> None:
    op.execute("delete from report_types where resolves_to is not null")
    op.execute(
        "alter table report_types drop column resolves_to, drop column resolved_since, drop column resolved_before"
    )
