"""Rules say which reports are owed: storing and changing them, planning their runs, and comparing with what exists."""
