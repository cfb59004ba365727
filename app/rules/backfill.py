"""Backfill past days of a rule: windows without a run, failed ones, and with `rerun` the stored ones too.

The first slice is planned in the caller's transaction, the rest by the rules lane, a slice at a time: a row in
`backfills` records the progress.
"""

import asyncio
import uuid
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import audit, report_types
from app.db.models import Rule
from app.db.rows import fetch_first, fetch_one
from app.errors import BadInput, Conflict, FieldError, NotFound
from app.planning.windows import Window
from app.queue.wakeups import wake
from app.report_types import KnownType
from app.rules import store, versions
from app.rules.backfill_windows import (
    MOST_RUNS,
    Days,
    Latest,
    by_start,
    calendar_windows,
    irregular_windows,
    scopes_of,
    windows_of,
)
from app.rules.rechecks import counts
from app.rules.versions import Versions
from app.runs import manual, plan
from app.runs.plan import RuleScope
from app.vocabulary import Cadence, Lane, RunState

# Windows examined in one transaction.
SLICE = 500
# Connected accounts looked at in one transaction.
SCOPES = 100


@dataclass(frozen=True, slots=True)
class Backfill(Days):
    """The windows that count as a local date of [first, until); with `rerun` stored ones are made again too."""

    rerun: bool


class BackfillCounts(NamedTuple):
    """How many runs are planned for missing windows, retried, and planned as new revisions."""

    planned: int = 0
    retried: int = 0
    rerun: int = 0


@dataclass(frozen=True, slots=True)
class _There:
    """How many windows have runs, and of how many the run that counts has failed or is stored."""

    there: int
    failed: int
    stored: int


@dataclass(frozen=True, slots=True)
class _Job:
    """A backfill and its progress: at the connected account of `progress_id`, after the window `after_key`."""

    id: int
    rule_id: uuid.UUID
    first: date
    until: date
    rerun: bool
    asked_by: str
    progress_id: int
    after_key: str

    @property
    def asked(self) -> Backfill:
        return Backfill(self.first, self.until, self.rerun)


@dataclass(frozen=True, slots=True)
class _Work:
    """What to do for one connected account, by the state of each window."""

    missing: list[Window] = field(default_factory=list)
    failed: list[uuid.UUID] = field(default_factory=list)
    stored: list[tuple[Window, Latest]] = field(default_factory=list)  # with the newest revision


@dataclass(frozen=True, slots=True)
class _Runs:
    """Builds the runs of one connected account."""

    scope: RuleScope
    type_: KnownType
    versions: Versions
    attempts: int

    def of(self, window: Window) -> plan.PlannedRun:
        """The first run of a window."""
        return self._of(self.versions.of(self.scope, window), window, 1)

    def again(self, window: Window, latest: Latest) -> plan.PlannedRun:
        """The next revision of a window, with the same report type."""
        return self._of(replace(self.scope, report_type=latest.report_type), window, latest.revision + 1)

    def _of(self, scope: RuleScope, window: Window, revision: int) -> plan.PlannedRun:
        offset = self.type_.start_offset(window.start)
        return plan.planned_run(scope, window, start_offset=offset, attempts=self.attempts, revision=revision)


async def begin(session: AsyncSession, rule: Rule, asked: Backfill, *, attempts: int, by: str) -> BackfillCounts:
    """Start a backfill of what is due, for a rule that the caller has locked; the counts include later slices.

    Raises Conflict while the report type has no data, and BadInput.
    """
    counts = await count(session, rule, asked)
    after = {"from": asked.first, "to": asked.until, "rerun": asked.rerun, "made": counts._asdict()}
    await audit.note(session, actor=by, action="rule.backfilled", subject=rule.id, after=after)
    if any(counts):
        values = {"rule_id": rule.id, **asdict(by_start(rule, asked)), "by": by}
        await _slice(session, rule, await fetch_one(session, _Job, _BEGIN, values), attempts)
    return counts


async def count(session: AsyncSession, rule: Rule, asked: Backfill) -> BackfillCounts:
    """What the backfill would do now. Raises the same errors as `begin`."""
    asked = by_start(rule, asked)
    type_ = await _type_of(session, rule)
    scopes = await scopes_of(session, rule)
    if rule.cadence in (Cadence.EVERY_UPDATE, Cadence.EVERY_PAYOUT):
        works = [_sort_out(*await irregular_windows(session, rule, asked, type_, scope)) for scope in scopes]
        missing, failed = sum(len(work.missing) for work in works), sum(len(work.failed) for work in works)
        stored = sum(len(work.stored) for work in works)
    else:
        windows = await asyncio.to_thread(lambda: list(calendar_windows(rule, asked, type_)))
        ends = [window.end for window in windows]
        owed = sum(
            len(ends) if scope.since is None else len(ends) - bisect_right(ends, scope.since) for scope in scopes
        )
        if owed > MOST_RUNS:
            raise BadInput(FieldError("/from", f"requests more than {MOST_RUNS} runs at once; use shorter ranges"))
        values = {"rule_id": rule.id, "keys": [window.key for window in windows], "retried": list(manual.RETRIED)}
        found = await fetch_one(session, _There, _COUNT, values)
        missing, failed, stored = owed - found.there, found.failed, found.stored
    return BackfillCounts(missing, failed, stored if asked.rerun else 0)


async def resume(session: AsyncSession, *, attempts: int) -> int:
    """Work the next slice of any backfill; 0 if there is none, or other workers have them."""
    job = await fetch_first(session, _Job, _NEXT)
    if job is None:
        return 0
    try:
        rule = await store.get(session, job.rule_id, lock=True)
    except NotFound:  # deleted meanwhile: nothing is owed any more
        await session.execute(_DONE, {"id": job.id})
    else:
        await _slice(session, rule, job, attempts)
    return 1


async def _slice(session: AsyncSession, rule: Rule, job: _Job, attempts: int) -> None:
    """Work through the next windows of a job, one connected account after the other, and record its progress."""
    type_ = await _type_of(session, rule)
    left = SLICE
    scopes = await scopes_of(session, rule, first=job.progress_id, limit=SCOPES)
    for scope in scopes:
        after_key = job.after_key if scope.progress_id == job.progress_id else ""
        windows, latest = await windows_of(session, rule, job.asked, type_, scope, after_key=after_key, limit=left)
        types = await versions.read(session, scope, type_.resolves_to, windows)
        await _carry_out(session, _sort_out(windows, latest), _Runs(scope, type_, types, attempts), job)
        left -= len(windows)
        if left <= 0:
            values = {"id": job.id, "progress_id": scope.progress_id, "after_key": windows[-1].key}
            await session.execute(_NOTE, values)
            await wake(session, Lane.RULES, Lane.REQUESTS)
            return
    if len(scopes) == SCOPES:
        await session.execute(_NOTE, {"id": job.id, "progress_id": scopes[-1].progress_id + 1, "after_key": ""})
        await wake(session, Lane.RULES)
    else:
        await session.execute(_DONE, {"id": job.id})
    await wake(session, Lane.REQUESTS)


async def _carry_out(session: AsyncSession, work: _Work, runs: _Runs, job: _Job) -> None:
    await plan.write(session, [runs.of(window) for window in work.missing], reason=f"backfilled by {job.asked_by}")
    if job.rerun:
        again = [runs.again(window, latest) for window, latest in work.stored]
        await plan.write(session, again, reason=f"made again by {job.asked_by}")
    await manual.retry_all(session, work.failed, attempts=runs.attempts, by=job.asked_by)


def _sort_out(windows: Sequence[Window], latest: Mapping[str, Latest]) -> _Work:
    work = _Work()
    for window in windows:
        run = latest.get(window.key)
        if run is None:
            work.missing.append(window)
        elif run.state in manual.RETRIED:
            work.failed.append(run.id)
        elif run.state == RunState.STORED:
            work.stored.append((window, run))
    return work


async def _type_of(session: AsyncSession, rule: Rule) -> KnownType:
    type_ = await report_types.read(session, rule.account, rule.report_type)
    if type_ is None or type_.availability is None:
        raise Conflict(f"Stripe is not known to have data for {rule.report_type} yet: there is nothing to backfill")
    return type_


_BEGIN = text("""
insert into backfills (rule_id, first, until, rerun, asked_by) values (:rule_id, :first, :until, :rerun, :by)
returning id, rule_id, first, until, rerun, asked_by, progress_id, after_key
""")
_NEXT = text("""
select id, rule_id, first, until, rerun, asked_by, progress_id, after_key from backfills
order by id limit 1 for no key update skip locked
""")
_NOTE = text("update backfills set progress_id = :progress_id, after_key = :after_key where id = :id")
_DONE = text("delete from backfills where id = :id")
_COUNT = text(f"""
select count(*) as there, count(*) filter (where state = any(:retried)) as failed,
    count(*) filter (where state = 'stored') as stored
from (
    select distinct on (runs.connected_account, window_key) state from runs
    join rule_progress as p on p.rule_id = runs.rule_id
        and p.connected_account is not distinct from runs.connected_account
    where runs.rule_id = :rule_id and window_key = any(:keys)
    order by runs.connected_account, window_key, {counts("runs")} desc, revision desc
) as latest
""")  # noqa: S608 - of constants only
