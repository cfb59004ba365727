"""What a process of the service imports, imported once for all that the proofs start (see `processes`)."""

from importlib import import_module

from app.observability.lighter import loading

with loading():
    for module in ("app.cli", "app.main", "app.probes", "app.serving"):
        import_module(module)
