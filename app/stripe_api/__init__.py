"""The only client of Stripe's API: calls, what they answer, signatures and the rate limit."""
