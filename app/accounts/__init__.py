"""The accounts whose keys we hold: whose they are, whether Stripe accepts them, and what was missed in a gap."""
