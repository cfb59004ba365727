"""The deliveries that somebody has under way, found without reading all that wait for their target."""

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create index ix_deliveries_under_way on deliveries (target_id)
        where state = 'pending' and lease_until is not null
    """)


def downgrade() -> None:
    op.execute("drop index ix_deliveries_under_way")
