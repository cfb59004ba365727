"""`tallyhook tables` and `tallyhook checks`: what is inside the files."""
