"""What a month's pack holds: the newest stored revision of each window, what was cancelled, and what is missing."""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import Rule
from app.db.rows import fetch
from app.errors import NotFound
from app.packs.missing import OtherWindow, not_made
from app.planning.dates import LocalDates, local_dates, month_bounds
from app.resources import ClaimTerms
from app.rules.rechecks import COUNTED_FIRST
from app.vocabulary import RunState

# Of several currencies, the worst verdict is shown.
_WORST_FIRST = ("differs", "not_comparable", "agrees")


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file of the pack, and what its manifest says about it; `file_id` and `location` say where its bytes are."""

    rule: str
    report_type: str
    account: str
    connected_account: str | None
    dates: LocalDates
    filename: str
    rows: int | None
    size: int
    sha256: str
    revision: int
    stripe_run_id: str | None
    stripe_file_id: str
    stored_at: datetime
    checks: Mapping[str, str]
    file_id: uuid.UUID
    location: str | None


@dataclass(frozen=True, slots=True)
class Pack:
    """A month's files in the order of their names; `cancelled` windows are listed, `missing` ones are owed."""

    month: date
    files: Sequence[PackedFile]
    cancelled: Sequence[OtherWindow]
    missing: Sequence[OtherWindow]


@dataclass(frozen=True, slots=True)
class _Made:
    """A window of the month that has a run: its newest stored revision, or else its newest one."""

    run_id: uuid.UUID
    rule_id: uuid.UUID
    rule: str
    rule_is_there: bool
    report_type: str
    account: str
    connected_account: str | None
    interval_start: datetime
    interval_end: datetime
    timezone: str
    state: str
    revision: int
    stripe_run_id: str | None
    file_id: uuid.UUID | None
    location: str | None
    stripe_file_id: str | None
    filename: str | None
    size: int | None
    sha256: str | None
    stored_at: datetime | None
    removed_at: datetime | None
    removed_reason: str | None
    rows: int | None
    load_id: int | None

    @property
    def dates(self) -> LocalDates:
        return local_dates(self.interval_start, self.interval_end, self.timezone)


@dataclass(frozen=True, slots=True)
class _Verdict:
    load_id: int
    name: str
    verdict: str


@dataclass(slots=True)
class _Sorted:
    """The windows of a month, by what exists for them."""

    files: list[_Made] = field(default_factory=list)
    cancelled: list[OtherWindow] = field(default_factory=list)
    missing: list[OtherWindow] = field(default_factory=list)

    def take(self, one: _Made) -> None:
        """Put a window where it belongs. What a deleted rule has not stored is not owed."""
        if one.state == RunState.STORED and one.removed_at is None:
            self.files.append(one)
        elif one.state == RunState.CANCELLED:
            self.cancelled.append(_other(one, "cancelled"))
        elif one.state == RunState.STORED:
            self.missing.append(_other(one, f"its file was removed on {one.removed_at:%F}: {one.removed_reason}"))
        elif one.rule_is_there:
            self.missing.append(_other(one, one.state))


async def read_pack(session: AsyncSession, month: date, rules: Sequence[Rule], terms: ClaimTerms) -> Pack:
    """The pack of the month that holds a day: of these rules, or of all if none is named.

    Raises NotFound if the month has no window.
    """
    first, until = month_bounds(month)
    named = [rule.id for rule in rules] or None
    found = _Sorted()
    for one in await fetch(session, _Made, _MADE, {"first": first, "until": until, "rule_ids": named}):
        found.take(one)
    for rule in [rule for rule in rules if rule.enabled] if rules else await _owing(session):
        found.missing += await not_made(session, rule, first, until, terms)
    if not (found.files or found.cancelled or found.missing):
        raise NotFound(f"no rule has a window in {first:%Y-%m}")
    verdicts: dict[int | None, list[_Verdict]] = defaultdict(list)
    for verdict in await fetch(session, _Verdict, _VERDICTS, {"load_ids": [one.load_id for one in found.files]}):
        verdicts[verdict.load_id].append(verdict)
    files = [_packed(one, verdicts[one.load_id]) for one in found.files]
    files.sort(key=lambda one: one.filename)
    return Pack(first, files, sorted(found.cancelled, key=_order), sorted(found.missing, key=_order))


async def _owing(session: AsyncSession) -> Sequence[Rule]:
    """A disabled rule owes only the windows that have a run."""
    return (await session.execute(select(Rule).where(Rule.deleted_at.is_(None), Rule.enabled))).scalars().all()


def _other(one: _Made, reason: str) -> OtherWindow:
    return OtherWindow(one.rule, one.connected_account, one.dates, reason)


def _order(one: OtherWindow) -> tuple[str, date, date, str]:
    return one.rule, one.dates.first, one.dates.last, one.connected_account or ""


def _packed(one: _Made, verdicts: Iterable[_Verdict]) -> PackedFile:
    assert one.file_id is not None
    assert one.filename is not None
    assert one.size is not None
    assert one.sha256 is not None
    assert one.stripe_file_id is not None
    assert one.stored_at is not None
    return PackedFile(
        rule=one.rule, report_type=one.report_type, account=one.account, connected_account=one.connected_account,
        dates=one.dates, filename=one.filename, rows=one.rows, size=one.size, sha256=one.sha256,
        revision=one.revision, stripe_run_id=one.stripe_run_id, stripe_file_id=one.stripe_file_id,
        stored_at=one.stored_at, checks=_worst(verdicts),
        file_id=one.file_id, location=one.location,
    )  # fmt: skip


def _worst(verdicts: Iterable[_Verdict]) -> dict[str, str]:
    worst: dict[str, str] = {}
    for one in verdicts:
        known = worst.get(one.name, one.verdict)
        worst[one.name] = min(known, one.verdict, key=_WORST_FIRST.index)
    return dict(sorted(worst.items()))


_MADE = text(f"""
select run.id as run_id, run.rule_id, rules.name as rule, rules.deleted_at is null as rule_is_there, run.report_type,
    run.account, run.connected_account, run.interval_start, run.interval_end, coalesce(run.timezone, 'UTC') as timezone,
    run.state, run.revision, attempts.stripe_run_id, files.id as file_id, files.location, files.stripe_file_id,
    files.filename, files.size, files.sha256, files.stored_at, files.removed_at, files.removed_reason,
    case when loads.state = 'loaded' then loads.rows end as rows, loads.id as load_id
from (
    select distinct on (rule_id, connected_account, window_key) *
    from runs where rule_id is not null
      and window_day(window_key, interval_start, interval_end, timezone) >= :first
      and window_day(window_key, interval_start, interval_end, timezone) < :until
      and (cast(:rule_ids as uuid[]) is null or rule_id = any(:rule_ids))
    order by rule_id, connected_account, window_key, {COUNTED_FIRST}
) as run
join rules on rules.id = run.rule_id
left join attempts on attempts.run_id = run.id and attempts.number = run.attempt
left join files on files.run_id = run.id and files.stored_at is not null
left join loads on loads.run_id = run.id
""")  # noqa: S608 - of constants only
# The newest verdict of each subject.
_VERDICTS = text("""
select distinct on (load_id, subject) load_id, name, verdict
from checks cross join lateral unnest(load_ids) as load_id
where load_ids && cast(:load_ids as bigint[]) and load_id = any(cast(:load_ids as bigint[]))
order by load_id, subject, id desc
""")
