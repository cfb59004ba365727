"""Which windows a rule owes, and how long to wait before trying again. Pure: no clock, no database, no network."""
