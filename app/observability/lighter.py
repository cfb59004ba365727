"""How a process of the service loads its code: quickly, and without what it never uses."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Libraries would load them if installed: some only to print colours that ours never show, and Stripe's SDK would use
# requests if it had no other client.
_NEVER_USED = ("rich", "pygments", "requests")


@contextmanager
def loading() -> Iterator[None]:
    """Around the imports of a process that stays: lightly, and with the garbage collector at rest.

    What is imported stays, and scanning it again and again would take a quarter of the time.
    """
    gc.disable()
    try:
        with lightly():
            yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def lightly() -> Iterator[None]:
    """Around imports: without optional dependencies of libraries, which take 16 MiB in every process."""
    hidden = [name for name in _NEVER_USED if name not in sys.modules]
    # The import system's way to say that a module does not exist.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
