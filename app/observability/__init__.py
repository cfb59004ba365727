"""Logs, traces and metrics, with no secret in any of them."""
