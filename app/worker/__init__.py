"""The worker: which lane of work runs which step, and the loops that run them."""
