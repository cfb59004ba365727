"""A run's file as an Excel workbook: numbers as numbers, text as it stands, and a sheet that says what it is."""
