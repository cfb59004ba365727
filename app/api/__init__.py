"""HTTP: Stripe's webhooks, the admin API for people and scripts, health for operators.

The path of a request: `middleware` (request id, body limit, who may pass) → a route → the core in its own transaction →
an answer, or an error that `problems` renders.
"""
