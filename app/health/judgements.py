"""The newest judgement, made once for all callers: `/health`, `/metrics` and the pages share it.

On a small database each call makes its own. On a large one it takes a fraction of a second, so it is kept for a few: a
scrape, a dashboard and a page that come together cost one. Doctor, which looks once, always judges for itself.
"""

import asyncio
import time
from dataclasses import dataclass, field

from app.health.judge import Judgement, judge
from app.resources import Resources

# No answer is older than this.
KEPT_SECONDS = 5.0
# A judgement made more quickly than this is not kept: somebody who has just fixed something sees it at once.
QUICK_SECONDS = 0.1


@dataclass(slots=True)
class Judgements:
    """Those of one process."""

    _of: dict[frozenset[str] | None, "_Kept"] = field(default_factory=dict)  # by the accounts that the caller sees

    async def newest(self, res: Resources) -> Judgement:
        """The judgement that is kept or being made, or else a new one.

        Raises the database's errors if it cannot be used at all; they are not kept.
        """
        return await self._of.setdefault(res.scope, _Kept()).newest(res)


@dataclass(slots=True)
class _Kept:
    _newest: Judgement | None = None
    _good_until: float = 0.0
    _making: asyncio.Task[Judgement] | None = None

    async def newest(self, res: Resources) -> Judgement:
        if self._newest is not None and time.monotonic() < self._good_until:
            return self._newest
        if self._making is None or self._making.done():
            self._making = asyncio.create_task(self._make(res))
            self._making.add_done_callback(_hear_error)
        # Shielded: one of several waiting callers may hang up.
        return await asyncio.shield(self._making)

    async def _make(self, res: Resources) -> Judgement:
        self._newest = None
        began = time.monotonic()
        made = await judge(res.sessions, res.settings)
        if time.monotonic() - began > QUICK_SECONDS:
            self._newest, self._good_until = made, began + KEPT_SECONDS
        return made


def _hear_error(task: asyncio.Task[Judgement]) -> None:
    # Otherwise asyncio complains about an error that nobody is waiting for.
    if not task.cancelled():
        task.exception()
