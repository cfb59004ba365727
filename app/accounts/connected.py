"""All SQL about the accounts that are connected to ours: what Stripe's list says, and what events say about it.

Stripe's list is the authority: `upkeep/connected_accounts` reads it. An event only says where to look.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch, fetch_one
from app.stripe_api.client import ConnectedPage
from app.stripe_api.objects import ConnectedAccount

# The timetable's name for reading the list.
TIMETABLE_ENTRY = "connected_accounts"
# A list that lacks more than half of at least this many accounts is believed only the second time.
FEW = 10

_ID = re.compile(r"acct_[A-Za-z0-9]{1,250}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reading:
    """What is due to be read of an account's list.

    `recent`: its newest accounts; `complete`: all of it. `page_after` is how far the complete reading that `began_at`
    has come. `newest` is when the newest known account was made. Nothing is read before `asked_at`, on the
    database's clock.
    """

    account: str
    asked_at: datetime
    recent: bool
    complete: bool
    began_at: datetime | None
    page_after: str | None
    newest: datetime | None


@dataclass(frozen=True, slots=True)
class KnownAccount:
    """What is known of a connected account."""

    account: str
    id: str
    name: str | None
    country: str | None
    stripe_created_at: datetime | None
    first_seen_at: datetime
    seen_at: datetime | None
    left_at: datetime | None
    source: str


@dataclass(frozen=True, slots=True)
class ConnectedFilters:
    """Selects connected accounts; None matches every value."""

    account: str | None = None
    left: bool | None = None
    id: str | None = None


async def look_soon(
    session: AsyncSession, account: str, named: Sequence[object], *, known_too: Sequence[object]
) -> bool:
    """Have these connected accounts looked up at Stripe; of those already connected, only the ones in `known_too`.

    Returns whether there are any: the timetable's entry must be hastened.
    """
    ids = sorted({id_ for id_ in named if isinstance(id_, str) and _ID.fullmatch(id_)})
    values = {"account": account, "ids": ids, "known_too": [id_ for id_ in ids if id_ in known_too]}
    return (await session.execute(_LOOK, values)).first() is not None


async def readings(session: AsyncSession, accounts: Sequence[str], *, recent: float, complete: float) -> list[Reading]:
    """What is due to be read of these accounts' lists, if anything needs them; the periods are in seconds.

    Rules that run for connected accounts need them, and so does every known connected account.
    """
    return await fetch(
        session, Reading, _READINGS, {"accounts": list(accounts), "recent": recent, "complete": complete}
    )


async def to_look_at(session: AsyncSession, account: str, *, limit: int) -> list[str]:
    """The ids that events have named, those named longest ago first."""
    rows = await session.execute(_TO_LOOK_AT, {"account": account, "limit": limit})
    return list(rows.scalars())


async def note_shown(
    session: AsyncSession, account: str, found: Sequence[ConnectedAccount], *, source: str, asked_at: datetime
) -> int:
    """Record what Stripe, asked after `asked_at`, shows of connected accounts; returns how many are new, or back.

    One that an event has named since then is still to be looked at: the answer may be older.
    """
    values = {
        "account": account,
        "source": source,
        "asked_at": asked_at,
        "ids": [one.id for one in found],
        "created": [one.created_at for one in found],
        "countries": [one.country for one in found],
        "names": [one.name for one in found],
    }
    return int((await session.execute(_SHOWN, values)).scalar_one())


async def note_left(session: AsyncSession, account: str, ids: Sequence[str], *, asked_at: datetime) -> int:
    """Record that, according to Stripe, these are not (or no longer) connected; returns how many were."""
    return len((await session.execute(_LEFT, {"account": account, "ids": list(ids), "asked_at": asked_at})).all())


async def forget_hint(session: AsyncSession, account: str, id_: str, *, asked_at: datetime) -> None:
    """Stripe, asked after `asked_at`, did not say whether this account, which an event had named, is connected."""
    await session.execute(_NOT_LOOKED_AT, {"account": account, "ids": [id_], "asked_at": asked_at})


async def note_recent(session: AsyncSession, account: str) -> None:
    """The newest ones of the list were read."""
    await session.execute(_RECENT, {"account": account})


async def begin_reading(session: AsyncSession, account: str) -> datetime:
    """Begin to read the whole list; returns when that was."""
    began: datetime = (await session.execute(_BEGIN, {"account": account})).scalar_one()
    return began


async def note_page(
    session: AsyncSession, account: str, page: ConnectedPage, *, began_at: datetime, after: str | None
) -> bool:
    """The reading that began then is past this page, which starts after `after`.

    False if another process was faster, and continues.
    """
    nameless = page.nameless or (page.more and not page.shown)
    values = {"began_at": began_at, "after": after, "last": page.shown[-1] if page.shown else after}
    moved = await session.execute(_PAGE, {"account": account, **values, "odd": page.odd, "nameless": nameless})
    if moved.first() is None:
        return False
    await session.execute(_SEEN, {"account": account, "ids": page.shown})
    return True


async def forget_reading(session: AsyncSession, account: str) -> None:
    """Abandon the current reading: it cannot be continued, so it says nothing about who has left."""
    await session.execute(_FORGET, {"account": account})


async def end_reading(session: AsyncSession, account: str, *, began_at: datetime) -> int | None:
    """The list was read to its end: accounts that were not in it have left; returns how many.

    None if it does not say that: it has items without an id, or lacks most of the known accounts for the first time,
    and is read again before that is believed.
    """
    missing = await fetch_one(session, _Missing, _MISSING, {"account": account, "began_at": began_at})
    if missing.gone > FEW and missing.gone * 2 > missing.known and missing.doubted_at is None:
        await session.execute(_DOUBT, {"account": account})
        return None
    await session.execute(_COMPLETE, {"account": account, "began_at": began_at})
    if missing.nameless:
        return None
    return len((await session.execute(_LEAVE, {"account": account, "began_at": began_at})).all())


async def note_refused(session: AsyncSession, account: str, reason: str | None) -> None:
    """Stripe refuses the list to the account's key, for example because of a missing permission; None: no longer."""
    await session.execute(_REFUSED, {"account": account, "reason": reason})


async def list_known(
    session: AsyncSession, filters: ConnectedFilters, *, after: tuple[str, str] | None, limit: int
) -> list[KnownAccount]:
    """Up to `limit` connected accounts that Stripe has confirmed, by account and id, after a place in that order."""
    place = after or ("", "")
    values = {"account": filters.account, "left": filters.left, "id": filters.id}
    return await fetch(
        session, KnownAccount, _KNOWN, {**values, "after": place[0], "after_id": place[1], "limit": limit}
    )


@dataclass(frozen=True, slots=True)
class _Missing:
    """Of the known accounts, how many the list did not have, and whether that was doubted before."""

    known: int
    gone: int
    doubted_at: datetime | None
    nameless: bool  # an item had no id


@dataclass(frozen=True, slots=True)
class ListState:
    """What is known of an account's list: how many are connected, when it was read, and what could not be read."""

    account: str
    connected: int
    odd_items: int
    doubted: bool
    refusal: str | None


async def list_states(session: AsyncSession) -> list[ListState]:
    """Of every account whose list is read."""
    return await fetch(session, ListState, _STATES)


_LOOK = text("""
insert into connected_accounts (account, id, source, look_at)
select :account, id, 'event', clock_timestamp() from unnest(cast(:ids as text[])) as named(id) order by id
on conflict (account, id) do update set look_at = clock_timestamp()
where connected_accounts.id = any(cast(:known_too as text[])) or connected_accounts.left_at is not null
    or connected_accounts.stripe_created_at is null
returning 1
""")
# Rules that run for connected accounts need the list, and accounts that have some are asked for new ones.
_READINGS = text("""
select slug as account, clock_timestamp() as asked_at,
    coalesce(list.recent_at < clock_timestamp() - make_interval(secs => :recent), true) as recent,
    coalesce(list.complete_at < clock_timestamp() - make_interval(secs => :complete), true) as complete,
    list.began_at, list.page_after,
    (select max(stripe_created_at) from connected_accounts
     where account = slug and left_at is null) as newest
from accounts left join connected_lists as list on list.account = slug
where slug = any(cast(:accounts as text[])) and (
    exists (select from connected_accounts where account = slug)
    or exists (select from rules where rules.account = slug and deleted_at is null
        and (connected in ('each', 'together')
            or connected is null and report_type like 'connected\\_account\\_%' and connected_accounts = '{}')))
order by slug
""")
_TO_LOOK_AT = text("""
select id from connected_accounts where account = :account and look_at is not null order by look_at, id limit :limit
""")
_SHOWN = text("""
with shown as (
    select * from unnest(cast(:ids as text[]), cast(:created as timestamptz[]), cast(:countries as text[]),
        cast(:names as text[])) as one(id, created, country, name)
), fresh as (
    select count(*) as number from shown left join connected_accounts as known
        on known.account = :account and known.id = shown.id
    where known.id is null or known.left_at is not null or known.stripe_created_at is null
), kept as (
    insert into connected_accounts (account, id, stripe_created_at, country, name, source, seen_at)
    select :account, id, created, country, name, :source, clock_timestamp() from shown order by id
    on conflict (account, id) do update set stripe_created_at = excluded.stripe_created_at,
        country = excluded.country, name = excluded.name, seen_at = excluded.seen_at, left_at = null,
        look_at = case when connected_accounts.look_at > :asked_at then connected_accounts.look_at end
)
select number from fresh
""")
# An account that was never connected is forgotten: an event merely named it.
_STRANGERS = """
with strangers as (
    delete from connected_accounts where account = :account and id = any(cast(:ids as text[]))
        and stripe_created_at is null and coalesce(look_at <= :asked_at, true)
)
"""
_LEFT = text(f"""
{_STRANGERS}
update connected_accounts set left_at = coalesce(left_at, clock_timestamp()),
    look_at = case when look_at > :asked_at then look_at end
where account = :account and id = any(cast(:ids as text[])) and stripe_created_at is not null
returning 1
""")  # noqa: S608 - of constants only
_NOT_LOOKED_AT = text(f"""
{_STRANGERS}
update connected_accounts set look_at = case when look_at > :asked_at then look_at end
where account = :account and id = any(cast(:ids as text[])) and stripe_created_at is not null
""")  # noqa: S608
_RECENT = text("""
insert into connected_lists (account, recent_at) values (:account, clock_timestamp())
on conflict (account) do update set recent_at = excluded.recent_at, refusal = null
""")
_BEGIN = text("""
insert into connected_lists (account, began_at) values (:account, clock_timestamp())
on conflict (account) do update set began_at = excluded.began_at, page_after = null, odd_items = 0,
    nameless = false
returning began_at
""")
_PAGE = text("""
update connected_lists set page_after = :last, odd_items = odd_items + :odd,
    nameless = nameless or :nameless, refusal = null
where account = :account and began_at = :began_at and page_after is not distinct from cast(:after as text)
returning 1
""")
# Also those whose item cannot be read, as long as it has an id.
_SEEN = text("""
update connected_accounts set seen_at = clock_timestamp()
where account = :account and id = any(cast(:ids as text[])) and left_at is null
""")
_FORGET = text("update connected_lists set began_at = null, page_after = null where account = :account")
_MISSING = text("""
select count(*) as known, count(*) filter (where coalesce(seen_at, '-infinity') < :began_at) as gone,
    (select doubted_at from connected_lists where account = :account) as doubted_at,
    coalesce((select nameless from connected_lists where account = :account), false) as nameless
from connected_accounts where account = :account and left_at is null and stripe_created_at is not null
""")
_DOUBT = text("""
update connected_lists set doubted_at = clock_timestamp(), began_at = null, page_after = null where account = :account
""")
_LEAVE = text("""
update connected_accounts set left_at = clock_timestamp(), look_at = case when look_at > :began_at then look_at end
where account = :account and left_at is null and stripe_created_at is not null
  and coalesce(seen_at, '-infinity') < :began_at
returning 1
""")
_COMPLETE = text("""
update connected_lists set complete_at = :began_at, recent_at = :began_at, began_at = null, page_after = null,
    doubted_at = null, refusal = null
where account = :account
""")
_REFUSED = text("""
insert into connected_lists (account, refusal, recent_at) values (:account, cast(:reason as text), clock_timestamp())
on conflict (account) do update set refusal = excluded.refusal, recent_at = excluded.recent_at
""")
_KNOWN = text("""
select account, id, name, country, stripe_created_at, first_seen_at, seen_at, left_at, source from connected_accounts
where stripe_created_at is not null and (account, id) > (:after, :after_id)
  and account = coalesce(cast(:account as text), account) and id = coalesce(cast(:id as text), id)
  and (cast(:left as boolean) is null or (left_at is not null) = cast(:left as boolean))
order by account, id limit :limit
""")
_STATES = text("""
select account, (select count(*) from connected_accounts as one
        where one.account = list.account and left_at is null and stripe_created_at is not null) as connected,
    odd_items, doubted_at is not null as doubted, refusal
from connected_lists as list order by account
""")
