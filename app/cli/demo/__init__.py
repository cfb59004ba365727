"""`tallyhook demo`: the whole flow on this machine, without a Stripe account."""
