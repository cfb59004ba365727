"""A run's file in other forms: the lines of one connected account, Parquet, a workbook."""
