"""What a receiver answered, in one shape for all kinds of target."""

from dataclasses import dataclass

import httpx

from app.errors import AddressRefused


@dataclass(frozen=True, slots=True)
class Answer:
    """`status` as HTTP has it (a mail server's or store's success is 200); `error` is a word where none came.

    `retry_after` is in seconds, where the receiver asked for a pause; `text` the beginning of the answer.
    """

    status: int | None = None
    error: str | None = None
    text: str | None = None
    retry_after: float | None = None


def no_answer(error: Exception) -> Answer:
    """Why there was no answer: a word that can be filtered by, and what was said."""
    match error:
        case AddressRefused():
            word = "address_refused"
        case httpx.ConnectTimeout() | httpx.ReadTimeout() | httpx.WriteTimeout() | httpx.PoolTimeout() | TimeoutError():
            word = "timed_out"
        case httpx.ConnectError() if "resolved" in str(error):
            word = "name_not_resolved"
        case httpx.ConnectError() if "certificate" in str(error).lower() or "ssl" in str(error).lower():
            word = "tls_failed"
        case httpx.ConnectError():
            word = "connection_refused"
        case httpx.RemoteProtocolError() | httpx.ReadError() | httpx.WriteError():
            word = "connection_broken"
        case _:
            word = type(error).__name__
    return Answer(error=word, text=str(error) or None)
