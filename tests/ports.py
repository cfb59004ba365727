"""Ports of loopback that a process of a test is told to listen on."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_port() -> Iterator[int]:
    """A port that the system gives to nobody else meanwhile: it is bound, and nothing listens on it until told to.

    A port that is looked up and released may belong to another test by the time it is used.
    """
    with socket.socket() as held:
        # Servers set the same option: with it on both sides, they may listen beside us.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
