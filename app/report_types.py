"""An account's report type: how far its data reaches, whether it exists, and what earlier requests showed.

All SQL about the table `report_types` in the data flow is here. A type that ends in `.latest` has a row of its own
while rules name it: it reaches as far as any version of its family, and `resolves_to` is the highest one that has data.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches

import orjson
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import audit
from app.db.batch import Batch
from app.db.rows import fetch
from app.planning.planner import Availability
from app.planning.report_types import is_latest, latest_of
from app.queue.wakeups import wake
from app.stripe_api.objects import ReportTypeInfo
from app.vocabulary import Lane

log = structlog.get_logger()

# Ids at least this similar (0 to 1) are suggested for each other.
_ALIKE = 0.8


@dataclass(frozen=True, slots=True)
class KnownType:
    """What we know about a report type; it has no data while `data_available_end` is None."""

    account: str
    id: str
    data_available_start: datetime | None
    data_available_end: datetime | None
    start_offset_seconds: int
    missing_since: datetime | None  # Stripe reported that the account does not have it
    missing_reason: str | None
    next_probe_at: datetime | None
    resolves_to: str | None  # of `.latest`: the version that new windows take

    @property
    def is_there(self) -> bool:
        """Whether it has data, and Stripe has not reported since that the account does not have it."""
        return self.availability is not None and self.missing_since is None

    @property
    def availability(self) -> Availability | None:
        """The range that it has data for, as Stripe last announced."""
        if self.data_available_start is None or self.data_available_end is None:
            return None
        return Availability(self.data_available_start, self.data_available_end)

    def start_offset(self, start: datetime | None) -> int:
        """By how many seconds a run must start later than `start`.

        Only a window at the start of the type's data starts later: any other would lose its first second.
        """
        return self.start_offset_seconds if start is not None and start == self.data_available_start else 0


@dataclass(frozen=True, slots=True)
class _Listed:
    """A type that Stripe lists."""

    account: str
    id: str


@dataclass(frozen=True, slots=True)
class _Resolved:
    """What a type that ends in `.latest` resolves to, and what it did before, if that has changed just now."""

    id: str
    resolves_to: str
    changed_from: str | None


async def read(session: AsyncSession, account: str, report_type: str) -> KnownType | None:
    """What is known about one report type."""
    return (await read_all(session, {(account, report_type)})).get((account, report_type))


async def read_all(session: AsyncSession, named: Collection[tuple[str, str]]) -> Mapping[tuple[str, str], KnownType]:
    """What is known about these report types, by account and id; unknown ones are left out."""
    if not named:
        return {}
    values = {"accounts": [account for account, _ in named], "ids": [id_ for _, id_ in named]}
    found = await fetch(session, KnownType, _READ, values)
    known = {(type_.account, type_.id): type_ for type_ in found}
    unnamed = [name for name in named if is_latest(name[1]) and name not in known]
    if unnamed:  # no rule names it yet, so it has no row
        values = {"accounts": [account for account, _ in unnamed], "ids": [id_ for _, id_ in unnamed]}
        known |= {(type_.account, type_.id): type_ for type_ in await fetch(session, KnownType, _READ_FAMILIES, values)}
    return known


async def record_availability(session: AsyncSession, account: str, updates: Sequence[ReportTypeInfo]) -> list[str]:
    """Record how far these types' data reaches, if further than before; returns the types that have data.

    Events come in any order, so the end only ever moves forward.
    """
    batch, recorded = Batch(session), []
    # One statement for all types. It can touch a row only once: a type that is named again goes into another one.
    rounds: list[dict[str, ReportTypeInfo]] = []
    for info in sorted(updates, key=lambda info: info.id):
        if info.available_start >= info.available_end:
            log.info("report_type.without_data", account=account, report_type=info.id)
            continue
        free = next((one for one in rounds if info.id not in one), None)
        if free is None:
            rounds.append(free := {})
        free[info.id] = info
        recorded.append(info.id)
    if not recorded:
        return []
    for one in rounds:
        batch.add(_RECORD, {"account": account, "infos": orjson.dumps([*one.values()]).decode()})
    named = batch.add(_NAMED, {"account": account, "ids": sorted({latest_of(id_) for id_ in recorded})})
    await batch.send()
    return recorded + await _resolve(session, account, named.scalars())


async def follow_latest(session: AsyncSession, account: str, report_type: str) -> None:
    """If this type ends in `.latest`, keep what it resolves to up to date from now on: a rule names it."""
    if is_latest(report_type):
        await _resolve(session, account, [report_type])


async def _resolve(session: AsyncSession, account: str, latest: Sequence[str]) -> list[str]:
    """Keep these types, which end in `.latest`, up to date with their families; returns them."""
    if not latest:
        return []
    resolved = await fetch(session, _Resolved, _RESOLVE, {"accounts": [account] * len(latest), "ids": list(latest)})
    for one in resolved:
        if one.changed_from is not None:
            log.info("report_type.resolves_to", account=account, report_type=one.id, resolves_to=one.resolves_to)
            before, after = {"report_type": one.changed_from}, {"account": account, "report_type": one.resolves_to}
            await audit.note(
                session, actor="tallyhook", action="report_type.resolved", subject=one.id, before=before, after=after
            )
    return [one.id for one in resolved]


async def note_missing(session: AsyncSession, account: str, report_type: str, *, reason: str, seconds: float) -> None:
    """Stripe reports that the account does not have it: probe again after `seconds`; its runs wait until then."""
    values = {"account": account, "type": report_type, "reason": reason, "seconds": seconds}
    await session.execute(_NOTE_MISSING, values)


async def note_there(session: AsyncSession, account: str, report_type: str) -> None:
    """A missing type exists after all: its runs continue."""
    await session.execute(_NOTE_THERE, {"account": account, "type": report_type})
    await wake(session, Lane.REQUESTS)


async def begin_probes(session: AsyncSession, account: str, report_types: Sequence[str], *, seconds: float) -> None:
    """These types are about to be probed: no other probe for `seconds`."""
    if report_types:
        values = {"account": account, "types": list(report_types), "seconds": seconds}
        await session.execute(_BEGIN_PROBES, values)


async def remember_start_offset(session: AsyncSession, account: str, report_type: str) -> None:
    """Stripe refused the first second of the type's data and accepted the next one."""
    await session.execute(_REMEMBER_OFFSET, {"account": account, "type": report_type})


async def note_recheck(session: AsyncSession, account: str, report_type: str, *, same_file: bool) -> None:
    """Stripe answered a re-check with the file that it had made before, which proves nothing; or with another one."""
    await session.execute(_NOTE_RECHECK, {"account": account, "type": report_type, "same_file": same_file})


async def ids_of(session: AsyncSession, accounts: Collection[str]) -> Mapping[str, list[str]]:
    """The ids of the types that Stripe lists for these accounts, by account."""
    found: dict[str, list[str]] = {account: [] for account in accounts}
    if found:
        for one in await fetch(session, _Listed, _IDS, {"accounts": list(found)}):
            found[one.account].append(one.id)
    return found


def nearest(report_type: str, known: Collection[str]) -> str | None:
    """The known type that was probably meant; None if none is similar."""
    return next(iter(get_close_matches(report_type, sorted(known, reverse=True), n=1, cutoff=_ALIKE)), None)


# Whether Stripe lists any type for the account of `rules`: what it does not list then is not there.
LISTED = """exists (select from report_types as other
    where other.account = rules.account and other.data_available_end is not null)"""
# Whether people are told that the type of one of `rules` is missing; `type` is its row, if there is one. Until the rule
# is an hour old, Stripe may not have been asked yet what the account can run.
MISSING = f"""(type.missing_since is not null or type.data_available_end is null
    and ({LISTED} or rules.created_at < clock_timestamp() - interval '1 hour' and not exists (
        select from account_holds where account = rules.account and call_kind = 'read')))"""
_READ = text("""
select type.account, type.id, data_available_start, data_available_end, start_offset_seconds, missing_since,
    missing_reason, next_probe_at, resolves_to
from report_types as type join (
    select distinct * from unnest(cast(:accounts as text[]), cast(:ids as text[]))
) as named(account, id) on named.account = type.account and named.id = type.id
""")
# For each named family: the highest version that has data, and how far any of its versions reaches.
_FAMILIES = """
unnest(cast(:accounts as text[]), cast(:ids as text[])) as named(account, id) cross join lateral (
    select type.*, max(type.data_available_end) over () as reaches from report_types as type
    where type.account = named.account and type.data_available_end is not null and type.id ~ '\\.[0-9]+$'
      and regexp_replace(type.id, '[0-9]+$', 'latest') = named.id
    order by cast(substring(type.id from '[0-9]+$') as numeric) desc limit 1
) as newest
"""
_READ_FAMILIES = text(f"""
select named.account, named.id, newest.data_available_start, newest.reaches as data_available_end,
    cast(0 as smallint) as start_offset_seconds, cast(null as timestamptz) as missing_since,
    cast(null as text) as missing_reason, cast(null as timestamptz) as next_probe_at, newest.id as resolves_to
from {_FAMILIES}
""")  # noqa: S608 - of constants only
_NAMED = text("""
select distinct report_type from rules
where account = :account and report_type = any(:ids) and deleted_at is null order by report_type
""")
_RESOLVE = text(f"""
insert into report_types as t (account, id, name, version, livemode, data_available_start, data_available_end,
    default_columns, longest_data_age_seconds, resolves_to, resolved_since)
select named.account, named.id, newest.name, newest.version, newest.livemode, newest.data_available_start,
    newest.reaches, newest.default_columns, newest.longest_data_age_seconds, newest.id, now()
from {_FAMILIES} order by named.id
on conflict (account, id) do update set name = excluded.name, version = excluded.version,
    livemode = excluded.livemode, data_available_start = excluded.data_available_start,
    data_available_end = greatest(t.data_available_end, excluded.data_available_end),
    default_columns = excluded.default_columns, longest_data_age_seconds = excluded.longest_data_age_seconds,
    resolves_to = excluded.resolves_to, refreshed_at = now(),
    resolved_before = case when t.resolves_to = excluded.resolves_to then t.resolved_before else t.resolves_to end,
    resolved_since = case when t.resolves_to = excluded.resolves_to then t.resolved_since else now() end
returning id, resolves_to, case when resolved_since = now() then resolved_before end as changed_from
""")  # noqa: S608 - of constants only
_RECORD = text("""
insert into report_types as t (account, id, name, version, livemode, data_available_start, data_available_end,
    default_columns, stripe_updated_at)
select :account, id, name, version, livemode, available_start, available_end, default_columns, updated_at
from jsonb_to_recordset(cast(:infos as jsonb)) as info(id text, name text, version int, livemode bool,
    available_start timestamptz, available_end timestamptz, default_columns text[], updated_at timestamptz)
order by id
on conflict (account, id) do update set
    name = coalesce(excluded.name, t.name), version = coalesce(excluded.version, t.version),
    livemode = coalesce(excluded.livemode, t.livemode),
    data_available_start = case when t.data_available_end > excluded.data_available_end
        then t.data_available_start else excluded.data_available_start end,
    data_available_end = greatest(t.data_available_end, excluded.data_available_end),
    default_columns = coalesce(excluded.default_columns, t.default_columns),
    stripe_updated_at = greatest(t.stripe_updated_at, excluded.stripe_updated_at),
    -- How old the data was just before it advanced; what was seen long ago fades.
    longest_data_age_seconds = case when excluded.data_available_end > t.data_available_end
        then greatest(0.9 * t.longest_data_age_seconds,
            extract(epoch from excluded.stripe_updated_at - t.data_available_end))
        else t.longest_data_age_seconds end,
    missing_since = null, missing_reason = null, next_probe_at = null, refreshed_at = now()
""")
_NOTE_MISSING = text("""
insert into report_types (account, id, missing_since, missing_reason, next_probe_at)
values (:account, :type, now(), :reason, clock_timestamp() + make_interval(secs => :seconds))
on conflict (account, id) do update set missing_since = coalesce(report_types.missing_since, now()),
    missing_reason = excluded.missing_reason, next_probe_at = excluded.next_probe_at
""")
_NOTE_THERE = text("""
update report_types set missing_since = null, missing_reason = null, next_probe_at = null
where account = :account and id = :type
""")
_BEGIN_PROBES = text("""
update report_types set next_probe_at = clock_timestamp() + make_interval(secs => :seconds)
where account = :account and id = any(:types)
""")
_REMEMBER_OFFSET = text("update report_types set start_offset_seconds = 1 where account = :account and id = :type")
_NOTE_RECHECK = text("""
update report_types set same_file_since = case when :same_file then now() end
where account = :account and id = :type and (same_file_since is not null) <> :same_file
""")
_IDS = text("""
select account, id from report_types
where account = any(:accounts) and data_available_end is not null and resolves_to is null order by id
""")
