"""The PostgreSQL that comes along for machines without one: binaries, cluster, locks and lifetime."""
