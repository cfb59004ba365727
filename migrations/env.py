"""Alembic's entry: runs inside the transaction and the lock that `app.db.migrate` holds.

From the command line (`alembic revision --autogenerate`, `alembic check`) it connects to DATABASE_URL itself.
"""

import os

from alembic import context
from sqlalchemy import Connection, create_engine

from app.db import alembic_models  # noqa: F401 - its tables belong to the schema too
from app.db.engine import sqlalchemy_url
from app.db.models import Base


def run(connection: Connection) -> None:
    """Run the asked-for steps on this connection, inside its transaction."""
    context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=True)
    with context.begin_transaction():
        context.run_migrations()


held: Connection | None = context.config.attributes.get("connection")
if held is not None:
    run(held)
else:
    with create_engine(sqlalchemy_url(os.environ["DATABASE_URL"])).begin() as own:
        run(own)
