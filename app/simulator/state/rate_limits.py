"""Stripe's real request limits: a number of calls within any second, per account and per endpoint."""

import time
from collections import deque

from app.simulator.errors import ApiError, rate_limited
from app.simulator.state.model import Account

PER_ENDPOINT = 25
PER_FILE_ENDPOINT = 20
PER_ACCOUNT = {True: 100, False: 25}


class RateLimiter:
    """Remembers the calls of the last second. It follows real time, not the simulator's clock."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, str], deque[float]] = {}

    def check(self, account: Account, *, route: str) -> ApiError | None:
        """The refusal if this call is one too many; a refused call does not count against the limit."""
        now = time.monotonic()
        endpoint = self._recent(account.name, route, now)
        together = self._recent(account.name, "*", now)
        if len(endpoint) >= (PER_FILE_ENDPOINT if "file" in route else PER_ENDPOINT):
            return rate_limited("endpoint-rate")
        if len(together) >= PER_ACCOUNT[account.livemode]:
            return rate_limited("global-rate")
        endpoint.append(now)
        together.append(now)
        return None

    def clear(self) -> None:
        self._calls.clear()

    def _recent(self, account: str, route: str, now: float) -> deque[float]:
        calls = self._calls.setdefault((account, route), deque())
        while calls and calls[0] <= now - 1.0:
            calls.popleft()
        return calls
