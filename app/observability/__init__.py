"""What can be seen of the service: log lines, spans and counters, with no secret in any of them."""
