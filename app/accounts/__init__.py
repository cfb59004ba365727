"""Configured accounts: whose a key is, whether Stripe accepts it, and catching up after a gap."""
