"""The JSON of the admin API."""
