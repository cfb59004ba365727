"""PostgreSQL: the engine, every table, migrations, and the embedded server."""
