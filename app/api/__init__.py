"""HTTP: Stripe's webhooks in, the admin API for people and scripts, health for whoever runs it.

The way of a request: `middleware` (request id, body limit, who may pass) → a route → the core in its own transaction →
an answer, or an error that `problems` renders.
"""
