"""`tallyhook rules`: rules as YAML, reviewed like code."""
