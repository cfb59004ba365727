"""How a process of the service loads its program: quickly, and without what it never uses."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Libraries would load them if they are there: three print colours that ours never show, and Stripe's SDK would use
# requests if it had no other client.
_NEVER_USED = ("rich", "pygments", "requests")


@contextmanager
def loading() -> Iterator[None]:
    """Around the imports of a process that stays: lightly, and with the garbage collector at rest.

    What is imported stays, and looking through it again and again would be a quarter of the time.
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
    # The import system's way to say that there is none.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
