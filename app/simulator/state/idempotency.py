"""Idempotency keys: the first answer to a key is kept for a day and repeated, whatever it was."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import TypeAlias

from app.simulator.clock import Clock
from app.simulator.errors import key_in_use, key_reused

KEPT_SECONDS = 24 * 3600


@dataclass(slots=True)
class SavedAnswer:
    """The request a key was first used with, and its answer once there is one."""

    request: tuple[object, ...]
    at: float
    status: int | None = None
    body: bytes = b""


Slot: TypeAlias = tuple[str, str]
"""Account name and key."""


class IdempotencyStore:
    """Keys by account. A key is *in use* from `begin` until `save` or `forget`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._answers: OrderedDict[Slot, SavedAnswer] = OrderedDict()

    def begin(self, slot: Slot, request: tuple[object, ...]) -> SavedAnswer | None:
        """The answer to repeat, or None: this request is the first one and must be saved or forgotten.

        Raises an API error for another request under the same key, or while the first one is still being answered."""
        self._drop_expired()
        saved = self._answers.get(slot)
        if saved is None:
            self._answers[slot] = SavedAnswer(request, self._clock.now())
            return None
        if saved.request != request:
            raise key_reused(slot[1])
        if saved.status is None:
            raise key_in_use(slot[1])
        return saved

    def save(self, slot: Slot, *, status: int, body: bytes) -> None:
        saved = self._answers.get(slot)
        if saved is not None:
            saved.status, saved.body = status, body

    def forget(self, slot: Slot) -> None:
        self._answers.pop(slot, None)

    def clear(self) -> None:
        self._answers.clear()

    def _drop_expired(self) -> None:
        """Entries are in the order in which they were made, so the old ones come first."""
        while self._answers:
            oldest = next(iter(self._answers.values()))
            if self._clock.now() - oldest.at < KEPT_SECONDS:
                return
            self._answers.popitem(last=False)
