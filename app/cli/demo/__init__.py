"""`tallyhook demo`: the whole flow on this machine, with no account anywhere."""
