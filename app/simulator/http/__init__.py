"""The simulator's HTTP side: routes, authentication, idempotency, lists, file streams and its control API."""
