"""A month as one ZIP: the newest stored file of each of its windows, and a manifest of what they are."""
