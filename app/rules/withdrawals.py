"""Cancels runs that a rule no longer owes, a batch at a time, behind a marker row.

The rule was deleted, or a connected account was removed from it. While the marker exists nothing is requested for
the rule, so that even a hundred thousand planned runs are out of the way as soon as the change is answered.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import Rule
from app.db.rows import fetch, fetch_first, fetch_one
from app.queue.wakeups import wake
from app.runs import moves
from app.runs.moves import Move
from app.vocabulary import AttemptOutcome, Lane, RunState

# Runs cancelled per transaction.
BATCH = 1000


@dataclass(frozen=True, slots=True)
class _Mark:
    """Whose planned runs are cancelled, and why; None means all connected accounts, "" the account itself.

    Those before (`interval_end`, `run_id`) already are, newest windows first; None: none so far.
    """

    id: int
    rule_id: uuid.UUID
    connected_accounts: list[str] | None
    reason: str
    interval_end: datetime | None = None
    run_id: uuid.UUID | None = None


@dataclass(frozen=True, slots=True)
class _Planned:
    """A run to cancel."""

    id: uuid.UUID
    attempt: int
    interval_end: datetime


async def withdraw(session: AsyncSession, rule: Rule, connected_accounts: Sequence[str] | None, *, reason: str) -> int:
    """Cancel the planned runs of a locked rule, all or those of these connected accounts; returns their total.

    The first batch is cancelled in this transaction, the rest later.
    """
    about = {"rule_id": rule.id, "accounts": None if connected_accounts is None else list(connected_accounts)}
    found = int((await session.execute(_COUNT, about)).scalar_one())
    if found:
        mark = await fetch_one(session, _Mark, _MARK, {**about, "reason": reason})
        if await _cancel_batch(session, mark) == BATCH:
            await wake(session, Lane.RULES)
    return found


async def resume(session: AsyncSession) -> int:
    """Cancel the next batch of any withdrawal; returns how many runs. 0: there is none, or other workers have them."""
    mark = await fetch_first(session, _Mark, _NEXT)
    return 0 if mark is None else max(1, await _cancel_batch(session, mark))


async def _cancel_batch(session: AsyncSession, mark: _Mark) -> int:
    about = {"mark": mark.id, "rule_id": mark.rule_id, "accounts": mark.connected_accounts}
    reached = {"interval_end": mark.interval_end, "run_id": mark.run_id}
    found = await fetch(session, _Planned, _PLANNED, {**about, **reached, "limit": BATCH})
    going = [Move(row.id, mark.reason) for row in found]
    if going:
        moved = await moves.move_all(session, going, to=RunState.CANCELLED, sources=(RunState.PLANNED,))
        ended = [(row.id, row.attempt) for row in found if row.id in moved]
        await moves.end_attempts(session, ended, outcome=AttemptOutcome.CANCELLED)
    if len(found) < BATCH:
        await session.execute(_DONE, {"mark": mark.id})
        await wake(session, Lane.REQUESTS)
    else:
        await session.execute(_NOTE, {"mark": mark.id, "interval_end": found[-1].interval_end, "run_id": found[-1].id})
    return len(found)


_OF_MARK = """
rule_id = :rule_id and account = (select account from rules where id = :rule_id) and state = 'planned'
and (cast(:accounts as text[]) is null or coalesce(connected_account, '') = any(cast(:accounts as text[])))
"""
_COUNT = text(f"select count(*) from runs where {_OF_MARK}")  # noqa: S608 - of constants only
_MARK = text("""
insert into withdrawals (rule_id, connected_accounts, reason)
values (:rule_id, cast(:accounts as text[]), :reason) returning id, rule_id, connected_accounts, reason
""")
_NEXT = text("""
select id, rule_id, connected_accounts, reason, interval_end, run_id from withdrawals
order by id limit 1 for no key update skip locked
""")
# Except those that were retried manually since. In the order of an index, and from where the last batch ended: what was
# cancelled before stays in that index until no transaction can see it any more.
_REACHED = "coalesce(cast(:interval_end as timestamptz), 'infinity')"
_PLANNED = text(f"""
select id, attempt, interval_end from runs where {_OF_MARK}
  and interval_end <= {_REACHED} and (interval_end < {_REACHED} or id > cast(:run_id as uuid))
  and not exists (select from run_moves join withdrawals on withdrawals.id = :mark
      where run_moves.run_id = runs.id and run_moves.to_state = 'planned' and run_moves.at > withdrawals.marked_at)
order by interval_end desc, id limit :limit
""")  # noqa: S608 - of constants only
_NOTE = text("update withdrawals set interval_end = :interval_end, run_id = :run_id where id = :mark")
_DONE = text("delete from withdrawals where id = :mark")
