"""PostgreSQL: the engine, every table, the schema's migrations, and the server that comes along."""
