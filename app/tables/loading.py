"""The lane of loads: claim, have the child load, record how it ended, and check what can be checked now."""

import asyncio
import time
import uuid
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from app.errors import ChildEnded, ChildSilent, NotNow
from app.observability import log_lines
from app.queue.claims import Lease
from app.resources import Resources
from app.tables import checking, leadership, loads, removal
from app.tables.child_process import Child
from app.tables.loads import LoadClaim

# How often to look for files that a process of the previous version stored, and for work that a crash left undone.
LOOK_SECONDS = 60.0
MISSING_AT_ONCE = 500

# Keyed by an event: resources are compared by value.
_children: WeakKeyDictionary[asyncio.Event, Child] = WeakKeyDictionary()


async def claim_loads(res: Resources, limit: int) -> list[LoadClaim]:
    """Take up to `limit` due loads; when there are none, what was loaded is checked."""
    if res.settings.tables == "off":
        return []
    lease = Lease(res.worker_id, res.settings.stalled_after_seconds)
    async with res.sessions.begin() as session:
        claims = await loads.claim(session, lease, limit)
    if not claims:
        # While files wait, checks can wait too: checking together costs less.
        await checking.check_due(res)
    return claims


async def load(res: Resources, claim: LoadClaim) -> None:
    """Have the child load a file, and record how it ended. Cancelling this ends the child."""
    began = time.monotonic()
    if not claim.has_leader:
        await _make_sure_somebody_leads(res, claim)
    try:
        answer = await child_of(res).load(claim.id, claim.fence)
    except ChildSilent as error:
        answer = {"outcome": "not_yet", "message": str(error)}
    except ChildEnded as error:
        answer = {"outcome": "crashed", "message": str(error)}
    await _record(res, claim, answer)
    log_lines.annotate(outcome=answer["outcome"], rows=answer.get("rows"))
    if answer["outcome"] == "loaded":
        res.metrics.loaded_rows.labels(claim.table_name).inc(answer["rows"])
        res.metrics.load_seconds.observe(time.monotonic() - began)


async def _record(res: Resources, claim: LoadClaim, answer: Mapping[str, Any]) -> None:
    if answer["outcome"] in ("loaded", "overtaken"):
        return  # the child recorded it in the load's own transaction, or there is nothing to record
    async with res.sessions.begin() as session:
        match answer["outcome"]:
            case "failed":
                await loads.fail(session, claim, answer["error"])
            case "not_yet":
                await loads.back_off(session, claim, res.backoff.seconds(claim.tries))
            case "gone" | "crashed":
                await loads.crashed(session, claim, answer["message"], res.settings.retry_base_seconds)
    if answer["outcome"] in ("not_yet", "gone", "crashed"):
        log_lines.annotate(about=answer["message"])


async def crashed(res: Resources, claim: LoadClaim, error: Exception) -> None:
    """An error of our own on this side of the child: counted against the load."""
    async with res.sessions.begin() as session:
        await loads.crashed(session, claim, type(error).__name__, res.settings.retry_base_seconds)


async def _make_sure_somebody_leads(res: Resources, claim: LoadClaim) -> None:
    """Decide who leads the table of a rule that is older than this version, or was made by an older process."""
    async with res.sessions.begin() as session:
        await leadership.settle(session, *leadership.table_of(claim))


async def look_for_loads(res: Resources) -> bool:
    """Create loads for files that an older process stored, retry what an older loader could not read, check the rest.

    A load that is made while its rule goes `off` cannot be seen by that change, and an older process loads some files
    of such a rule: they are removed here.
    """
    if res.settings.tables == "off":
        return False
    async with res.sessions.begin() as session:
        await removal.remove_of_rules_off(session)
        await loads.retry_failed_of_older_loaders(session)
        found = await loads.owe_missing(session, limit=MISSING_AT_ONCE)
    return found == MISSING_AT_ONCE or await checking.check_due(res) == checking.LOADS_AT_ONCE


async def have_same_rows(res: Resources, one: uuid.UUID, other: uuid.UUID, size: int) -> bool:
    """Whether a stored file has the rows of one of `size` bytes that is complete, but not visible yet.

    Raises NotNow if that cannot be found out now.
    """
    try:
        answer = await child_of(res).same_rows(one, other, size)
    except ChildEnded as error:
        raise NotNow(str(error)) from error
    if answer["outcome"] != "compared":
        raise NotNow(f"the file could not be compared with the previous one: {answer.get('message', 'unreadable')}")
    return bool(answer["same"])


def child_of(res: Resources) -> Child:
    """The process's one child, running or not."""
    if res.stopping not in _children:
        _children[res.stopping] = Child(res)
    return _children[res.stopping]


async def end_child(res: Resources) -> None:
    """End the child at the end of the process."""
    if (child := _children.pop(res.stopping, None)) is not None:
        await child.end()
