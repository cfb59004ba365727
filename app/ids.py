"""Our own identifiers: time-ordered UUIDs (RFC 9562, version 7), so that new rows land at the end of an index."""

import os
import time
import uuid


def uuid7() -> uuid.UUID:
    """A new UUID of version 7 (`uuid.uuid7` of Python 3.14, for older ones)."""
    milliseconds = time.time_ns() // 1_000_000
    noise = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & ((1 << 48) - 1)) << 80 | 0x7 << 76 | (noise >> 68 & 0xFFF) << 64
    return uuid.UUID(int=value | 0b10 << 62 | noise & ((1 << 62) - 1))
