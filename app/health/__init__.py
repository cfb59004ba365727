"""Health: what is judged about the service, once, for `/health`, `/metrics` and the doctor."""
