"""The one list of checks: `@check` puts a function on it, `judge` runs them all.

To add a check, write one function in the module of this folder that it belongs to:

    @check
    async def failed_runs(view: View) -> Check:
        found = await rows.failed_runs(view.session)
        ...
        return degraded("failed_runs", detail, advice, link=Link(LinkKind.RUNS, {"state": "failed"}))

The function has its check's name. It reads the rows that it needs through `view.session`, bounded, by a
function in `rows.py` (or in the package that owns those rows) that ends in a frozen dataclass; what several checks
need is read once with `view.once`. `/health`, `/metrics` (`tallyhook_check_status`) and `tallyhook doctor` show it at
once; it then needs its line in docs/howto/watching.md, and an alert if it should wake somebody. A new module of checks
is also imported in `judge.py`. Checks that ask somebody outside are in `outside.py`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar, cast

from sqlalchemy.ext.asyncio import AsyncSession

from app.health.results import Check
from app.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class View:
    """What a check may look at: rows, settings, and the time as the database has it. No check changes anything."""

    session: AsyncSession
    settings: Settings
    now: datetime
    _seen: dict[Any, Any] = field(default_factory=dict)

    async def once(self, read: Callable[["View"], Awaitable[T]]) -> T:
        """What `read` finds, read once, by the first check that asks."""
        if read not in self._seen:
            self._seen[read] = await read(self)
        return cast(T, self._seen[read])

    def seen(self, read: Callable[["View"], Awaitable[T]]) -> T | None:
        """What was read by `once`, if it was."""
        return cast(T | None, self._seen.get(read))


CheckFunction = Callable[[View], Awaitable[Check]]
CHECKS: dict[str, CheckFunction] = {}  # by name


def check(function: CheckFunction) -> CheckFunction:
    """Register this check. Two with one name are an error."""
    name = function.__name__
    if name in CHECKS:
        raise ValueError(f"there are two checks called {name}")
    CHECKS[name] = function
    return function
