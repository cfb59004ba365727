"""A receiver's answer, in one form for all kinds of target."""

from dataclasses import dataclass

import httpx

from app.errors import AddressRefused


@dataclass(frozen=True, slots=True)
class Answer:
    """`status` is HTTP's (a mail server's or store's success counts as 200); `error` is a word if there was no
    answer. `retry_after` is in seconds, if the receiver requested a pause; `text` is the beginning of the answer."""

    status: int | None = None
    error: str | None = None
    text: str | None = None
    retry_after: float | None = None


def no_answer(error: Exception) -> Answer:
    """Why there was no answer: a word to filter by, and the error's text."""
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
    advice = "; SSL_CERT_FILE can name your own authority" if word == "tls_failed" else ""
    return Answer(error=word, text=f"{error}{advice}" or None)
