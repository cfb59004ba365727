"""Health checks, defined once for `/health`, `/metrics` and the doctor."""
