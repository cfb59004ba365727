"""Keeps libraries from loading what the service never uses."""

import sys
from importlib import import_module

# Three print colours that ours never show, and Stripe's SDK would use requests if it had no other client.
_NEVER_USED = ("rich", "pygments", "requests")
_THEIR_USERS = ("structlog.dev", "httpx", "mako.exceptions", "stripe")


def import_lightly() -> None:
    """Import those libraries without their optional dependencies, which take 16 MiB in every process."""
    hidden = [name for name in _NEVER_USED if name not in sys.modules]
    # The import system's way to say that there is none.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        for name in _THEIR_USERS:
            import_module(name)
    finally:
        for name in hidden:
            del sys.modules[name]
