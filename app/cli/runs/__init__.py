"""`tallyhook runs`: list, show, download, retry and cancel runs."""
