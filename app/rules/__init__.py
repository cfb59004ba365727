"""Rules: which reports are owed. Stored and changed here, turned into planned runs, and compared with what is there."""
