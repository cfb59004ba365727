"""Authentication: bearer tokens, known by their SHA-256 and compared in constant time; wrong ones are slowed down."""

import asyncio
import hashlib
import hmac
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from app.settings import Settings
from app.vocabulary import Role

# Each wrong guess is delayed by this long; a valid token never waits, whatever others do.
WRONG_TOKEN_SECONDS = 0.5
# Bounds the number of delayed answers. Beyond it wrong tokens are refused at once, which does not help guessing: there
# are
# 2^128 of them at least.
MOST_SLOWED = 500


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose token it is, and what it may do."""

    name: str
    role: Role
    accounts: frozenset[str] | None = None  # the only accounts that it sees; None: all
    origin: str = ""  # names the token in its sessions (app/web/sessions.py), and never contains it


class Access:
    """All configured tokens; `refused` counts refusals by reason."""

    def __init__(self, settings: Settings) -> None:
        self.refused: Counter[str] = Counter()
        self._closed = settings.admin_token is None
        self._known: list[tuple[bytes, Caller]] = [
            _known(bytes.fromhex(token.sha256), name, token.role, token.accounts)
            for name, token in settings.tokens.items()
        ]
        for token, role in ((settings.admin_token, Role.ADMIN), (settings.read_token, Role.READ)):
            if token is not None:
                self._known.append(_known(_digest(token.get_secret_value()), role.value, role))
        self._slowed = 0

    @property
    def closed(self) -> bool:
        """No admin token is set: the admin API refuses everyone."""
        return self._closed

    def caller(self, token: str) -> Caller | None:
        """The caller with this token, or None. Takes equally long for every token, right or wrong."""
        digest, found = _digest(token), None
        for known, caller in self._known:
            if hmac.compare_digest(known, digest):
                found = caller
        return None if self._closed else found

    def by_origin(self, origin: str) -> Caller | None:
        """The caller whose token has this origin, if the settings still have it."""
        found = next((caller for _, caller in self._known if caller.origin == origin), None)
        return None if self._closed else found

    async def slow_down(self) -> None:
        """Delay the answer to a wrong token."""
        if self._slowed >= MOST_SLOWED:
            return
        self._slowed += 1
        try:
            await asyncio.sleep(WRONG_TOKEN_SECONDS)
        finally:
            self._slowed -= 1


def _known(digest: bytes, name: str, role: Role, accounts: Iterable[str] | None = None) -> tuple[bytes, Caller]:
    # A digest of the digest: reading it in a row reveals nothing that would be accepted as a token.
    limits = None if accounts is None else frozenset(accounts)
    return digest, Caller(name, role, limits, f"token:{hashlib.sha256(digest).hexdigest()}")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
