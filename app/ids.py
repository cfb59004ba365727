"""Our own identifiers: time-ordered UUIDs (RFC 9562, version 7), so that new rows go to the end of an index."""

import os
import threading
import time
import uuid

# The range of a bigint column.
LARGEST_NUMBER = 2**63 - 1

_lock = threading.Lock()
_last = 0


def uuid7() -> uuid.UUID:
    """A new UUID of version 7; those of one process sort in the order in which they were made.

    48 bits of milliseconds, 12 bits that count within one (RFC 9562 §6.2, method 1; running over into the next
    millisecond if they do not suffice), 62 random ones.
    """
    global _last  # noqa: PLW0603 - the order is a promise of the whole process
    with _lock:
        _last = max(_last + 1, time.time_ns() // 1_000_000 << 12)
        moment = _last
    noise = int.from_bytes(os.urandom(8), "big") >> 2
    return uuid.UUID(int=moment >> 12 << 80 | 0x7 << 76 | (moment & 0xFFF) << 64 | 0b10 << 62 | noise)
