"""Who may pass: bearer tokens, known by their SHA-256, compared in constant time, wrong ones slowed down."""

import asyncio
import hashlib
import hmac
from collections import Counter
from dataclasses import dataclass

from app.settings import Settings
from app.vocabulary import Role

# A guess costs this long; a right token never waits, whatever others do.
WRONG_TOKEN_SECONDS = 0.5
# So that waiting answers are bounded in number. Beyond it they are refused at once, which helps no guess: there are
# 2^128 of them at least.
MOST_SLOWED = 500


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose token it is, and what it may do."""

    name: str
    role: Role


class Access:
    """All tokens of the settings; `refused` counts what did not pass, by reason."""

    def __init__(self, settings: Settings) -> None:
        self.refused: Counter[str] = Counter()
        self._closed = settings.admin_token is None
        self._known: list[tuple[bytes, Caller]] = [
            (bytes.fromhex(token.sha256), Caller(name, token.role)) for name, token in settings.tokens.items()
        ]
        for token, role in ((settings.admin_token, Role.ADMIN), (settings.read_token, Role.READ)):
            if token is not None:
                self._known.append((_digest(token.get_secret_value()), Caller(role.value, role)))
        self._slowed = 0

    @property
    def closed(self) -> bool:
        """No admin token is set: the admin API refuses everyone."""
        return self._closed

    def caller(self, token: str) -> Caller | None:
        """Whose token this is. Takes equally long for every token, right or wrong."""
        digest, found = _digest(token), None
        for known, caller in self._known:
            if hmac.compare_digest(known, digest):
                found = caller
        return None if self._closed else found

    async def slow_down(self) -> None:
        """Let whoever sent a wrong token wait."""
        if self._slowed >= MOST_SLOWED:
            return
        self._slowed += 1
        try:
            await asyncio.sleep(WRONG_TOKEN_SECONDS)
        finally:
            self._slowed -= 1


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
