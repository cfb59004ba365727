"""All SQL about payouts as Stripe lists them: which exist, and which of them can be itemized.

The rules for `every_payout` are planned from these rows. Stripe's lists are the authority (`upkeep/payouts` reads
them); an event only says which payout to read.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch
from app.queue.wakeups import wake
from app.stripe_api.objects import Payout
from app.vocabulary import Lane

# The timetable's name for reading the lists.
TIMETABLE_ENTRY = "payouts"
# A payout still not reconciled this long after it was created is given up: lists are then read from a later time.
LONGEST_RECONCILIATION_DAYS = 60

_ID = re.compile(r"po_[A-Za-z0-9]{1,250}", re.ASCII)
_ACCOUNT_ID = re.compile(r"(acct_[A-Za-z0-9]{1,250})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class DueList:
    """A list to read: the payouts of an account, or of an account connected to it, made since `since`."""

    account: str
    connected_account: str
    since: datetime


@dataclass(frozen=True, slots=True)
class LackingLists:
    """How many payout lists of an account Stripe refuses, and why it refuses one of them ("" for the account's own), or
    of how many an item cannot be read (`refusal` is None)."""

    account: str
    number: int
    connected_account: str
    refusal: str | None


@dataclass(frozen=True, slots=True)
class NamedPayout:
    """A payout that an event has named."""

    account: str
    connected_account: str
    id: str


async def look_soon(session: AsyncSession, account: str, named: Sequence[tuple[object, object]]) -> bool:
    """Have these payouts looked up at Stripe, each with its connected account ("" for the account's own).

    Those that no rule needs are left alone. Returns whether there are others: the timetable's entry must be hastened.
    """
    known = sorted(
        {
            (whose, id_)
            for whose, id_ in named
            if isinstance(whose, str) and isinstance(id_, str) and _ACCOUNT_ID.fullmatch(whose) and _ID.fullmatch(id_)
        }
    )
    values = {"account": account, "whose": [whose for whose, _ in known], "ids": [id_ for _, id_ in known]}
    return (await session.execute(_LOOK, values)).first() is not None


async def to_look_at(session: AsyncSession, accounts: Sequence[str], *, limit: int) -> list[NamedPayout]:
    """Payouts of these accounts that events have named, longest waiting first."""
    return await fetch(session, NamedPayout, _TO_LOOK_AT, {"accounts": list(accounts), "limit": limit})


async def lists_due(
    session: AsyncSession, accounts: Sequence[str], *, own_seconds: float, connected_seconds: float, limit: int
) -> list[DueList]:
    """Lists that enabled rules for `every_payout` need and that have not been read for this long, oldest first.

    The account's own is read no more often than the others while an item of it cannot be read: each time all of it.
    """
    values = {"accounts": list(accounts), "own": own_seconds, "connected": connected_seconds, "limit": limit}
    return await fetch(session, DueList, _LISTS_DUE, {**values, "days": LONGEST_RECONCILIATION_DAYS})


async def note_seen(session: AsyncSession, account: str, connected_account: str, found: Sequence[Payout]) -> None:
    """Record what Stripe shows of payouts, and have rules planned if one of theirs can be itemized now.

    One that an event has named is looked at unless it is shown as completed: a list may be older than the event.
    """
    values = {
        "account": account,
        "whose": connected_account,
        "ids": [one.id for one in found],
        "created": [one.created_at for one in found],
        "arrivals": [one.arrives_on for one in found],
        "automatic": [one.automatic for one in found],
        "reconciliations": [one.reconciliation for one in found],
    }
    if (await session.execute(_SEEN, values)).scalar_one():
        await session.execute(_PLAN_AGAIN, {"account": account, "whose": connected_account})
        await wake(session, Lane.RULES)


async def note_looked_at(session: AsyncSession, named: NamedPayout, shown: Payout) -> None:
    """Record what Stripe shows of a payout that an event named."""
    await note_seen(session, named.account, named.connected_account, [shown])
    await _forget_hint(session, named)


async def note_gone(session: AsyncSession, named: NamedPayout) -> None:
    """Stripe does not have, or does not show, a payout that an event named."""
    await _forget_hint(session, named)
    await session.execute(_GONE, {"account": named.account, "whose": named.connected_account, "id": named.id})


async def _forget_hint(session: AsyncSession, named: NamedPayout) -> None:
    values = {"account": named.account, "whose": named.connected_account, "id": named.id}
    await session.execute(_NOT_LOOKED_AT, values)


async def lacking_lists(session: AsyncSession) -> list[LackingLists]:
    """For each account, as far as rules for `every_payout` need them."""
    return await fetch(session, LackingLists, _LACKING)


async def note_read(session: AsyncSession, due: DueList, *, whole: bool = True, refusal: str | None = None) -> None:
    """The list was read to its end, or refused.

    If refused, or not `whole` because an item of it could not be read, it is read from the rule's start when it is next
    due.
    """
    values = {"account": due.account, "whose": due.connected_account, "since": due.since, "refusal": refusal}
    await session.execute(_READ, {**values, "whole": whole})


# SQL for whether the last reading of `list` came to its end and showed every item, and for when one last did.
_IS_WHOLE = "list.refusal is null and list.read_from is not null"
LAST_WHOLE = f"case when {_IS_WHOLE} then list.read_at else list.whole_at end"
_NEEDED = """
rules.cadence = 'every_payout' and rules.enabled and rules.deleted_at is null
"""
_LOOK = text(f"""
insert into payouts (account, connected_account, id, look_at)
select :account, whose, id, clock_timestamp()
from unnest(cast(:whose as text[]), cast(:ids as text[])) as named(whose, id)
where exists (select from rules join rule_progress as p on p.rule_id = rules.id
    where rules.account = :account and {_NEEDED} and coalesce(p.connected_account, '') = whose)
order by whose, id
on conflict (account, connected_account, id) do update set look_at = coalesce(payouts.look_at, clock_timestamp())
where payouts.reconciliation is distinct from 'completed'
returning 1
""")  # noqa: S608 - of constants only
_TO_LOOK_AT = text("""
select account, connected_account, id from payouts
where look_at is not null and account = any(cast(:accounts as text[])) order by look_at limit :limit
""")
# Events and lists that broke off show payouts newer than others that nothing has shown yet: a reading begins before the
# last one that came to its end. A refusal overwrites when that was.
_LISTS_DUE = text(f"""
select needed.account, needed.connected_account,
    case when list.read_from is null or list.read_from > needed.starts_at or list.refusal is not null
        then needed.starts_at
        else least(seen.newest, seen.oldest_open, list.read_at) - interval '1 day' end as since
from (
    select rules.account, coalesce(p.connected_account, '') as connected_account,
        cast(min(rules.starts_on) - 2 as timestamptz) as starts_at
    from rules join rule_progress as p on p.rule_id = rules.id
    where rules.account = any(cast(:accounts as text[])) and {_NEEDED} group by 1, 2
) as needed
left join payout_lists as list on list.account = needed.account
    and list.connected_account = needed.connected_account
left join lateral (
    select newest.at as newest, min(stripe_created_at) filter (
        where automatic and reconciliation is distinct from 'completed'
            and stripe_created_at > newest.at - make_interval(days => :days)) as oldest_open
    from payouts cross join (
        select max(stripe_created_at) as at from payouts as one
        where one.account = needed.account and one.connected_account = needed.connected_account
    ) as newest
    where payouts.account = needed.account and payouts.connected_account = needed.connected_account
    group by newest.at
) as seen on true
where list.read_at is null or list.read_from > needed.starts_at
    or list.read_at < clock_timestamp() - make_interval(secs =>
        case when needed.connected_account = '' and (list.read_from is not null or list.refusal is not null)
            then :own else :connected end)
order by list.read_at nulls first, needed.account, needed.connected_account limit :limit
""")  # noqa: S608
_SEEN = text("""
with shown as (
    select * from unnest(cast(:ids as text[]), cast(:created as timestamptz[]), cast(:arrivals as date[]),
        cast(:automatic as bool[]), cast(:reconciliations as text[]))
        as one(id, created, arrival, automatic, reconciliation)
), completed as (
    select count(*) as number from shown left join payouts as known
        on known.account = :account and known.connected_account = :whose and known.id = shown.id
    where shown.automatic and shown.reconciliation = 'completed'
      and known.reconciliation is distinct from 'completed'
), kept as (
    insert into payouts (account, connected_account, id, stripe_created_at, arrives_on, automatic, reconciliation,
        seen_at)
    select :account, :whose, id, created, arrival, automatic, reconciliation, clock_timestamp() from shown order by id
    on conflict (account, connected_account, id) do update set stripe_created_at = excluded.stripe_created_at,
        arrives_on = excluded.arrives_on, automatic = excluded.automatic,
        reconciliation = excluded.reconciliation, seen_at = excluded.seen_at,
        look_at = case when excluded.reconciliation is distinct from 'completed' then payouts.look_at end
)
select number from completed
""")
_PLAN_AGAIN = text(f"""
update rule_progress set next_due_at = null where id in (
    select p.id from rules join rule_progress as p on p.rule_id = rules.id
    where rules.account = :account and {_NEEDED} and coalesce(p.connected_account, '') = :whose
    order by p.id for no key update of p)
""")  # noqa: S608
_NOT_LOOKED_AT = text("""
update payouts set look_at = null where account = :account and connected_account = :whose and id = :id
""")
_GONE = text("""
delete from payouts where account = :account and connected_account = :whose and id = :id
    and stripe_created_at is null
""")
_READ = text(f"""
insert into payout_lists as list (account, connected_account, read_from, read_at, refusal)
values (:account, :whose, case when :whole and cast(:refusal as text) is null then cast(:since as timestamptz) end,
    clock_timestamp(), cast(:refusal as text))
on conflict (account, connected_account) do update set
    read_from = case when :whole then least(list.read_from, excluded.read_from) end, refusal = excluded.refusal,
    read_at = excluded.read_at, whole_at = {LAST_WHOLE}
""")  # noqa: S608 - of constants only
_LACKING = text(f"""
select account, count(*) as number, min(connected_account) as connected_account,
    (array_agg(refusal order by connected_account))[1] as refusal
from payout_lists as list where not ({_IS_WHOLE}) and exists (
    select from rules join rule_progress as p on p.rule_id = rules.id
    where rules.account = list.account and {_NEEDED} and coalesce(p.connected_account, '') = list.connected_account)
group by account, refusal is null order by account, refusal is null
""")  # noqa: S608 - of constants only
