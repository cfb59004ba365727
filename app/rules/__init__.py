"""Rules say which reports are owed: storing and changing them, planning their runs, comparing them with what exists."""
