"""What runs by the clock: asking Stripe what no webhook told us, and removing what is no longer kept."""
