"""The JSON that the admin API takes and gives."""
