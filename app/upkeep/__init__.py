"""Recurring work: asking Stripe what no webhook reported, and removing what is no longer kept."""
