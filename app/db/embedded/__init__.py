"""The embedded PostgreSQL, for machines without one: binaries, cluster, locks and lifetime."""
