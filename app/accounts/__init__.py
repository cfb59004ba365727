"""Configured accounts: which account a key belongs to, whether Stripe accepts it, and catching up after a gap."""
