"""Whether a PostgreSQL accepts connections, asked on its socket.

libpq can ask too, but holds the GIL while it waits: a server that hangs would stop every webhook.
"""

import re
import socket
import struct
from enum import Enum, auto
from pathlib import Path

# A running server answers within milliseconds.
ANSWER_SECONDS = 2.0
_PROTOCOL_3 = 196_608
_STARTUP = b"user\0postgres\0database\0postgres\0\0"
_CANNOT_CONNECT_NOW = "57P03"


class Answer(Enum):
    """What a server says to a connection."""

    READY = auto()
    NOT_YET = auto()  # it is starting, recovering or stopping
    NONE = auto()  # nothing listens, or no answer arrives


def ping(path: Path) -> Answer:
    """Begin a connection at the socket with this path, and see how it is answered."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(ANSWER_SECONDS)
        try:
            client.connect(str(path))
            client.sendall(struct.pack("!ii", 8 + len(_STARTUP), _PROTOCOL_3) + _STARTUP)
            said = client.recv(4096)
            if said[:1] == b"R":
                client.sendall(struct.pack("!ci", b"X", 4))  # the server logs no connection that was cut
        except OSError:
            return Answer.NONE
    if not said:
        return Answer.NONE
    state = re.search(rb"\0C(.{5})\0", said) if said[:1] == b"E" else None
    return Answer.NOT_YET if state is not None and state[1].decode() == _CANNOT_CONNECT_NOW else Answer.READY
