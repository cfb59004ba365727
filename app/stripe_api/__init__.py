"""The only client of Stripe's API: calls, their answers, signatures and the rate limit."""
