"""Which connected accounts a rule runs for: those that it names or, with `each`, those that the platform has.

Each has a row in `rule_progress`, kept up to date here: new ones are planned from the day on which they were created,
and what is planned for those that have left is cancelled.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import Rule
from app.db.rows import fetch
from app.planning.windows import day_start
from app.queue.wakeups import wake
from app.rules import withdrawals
from app.rules.rule import NewRule
from app.vocabulary import Lane


@dataclass(frozen=True, slots=True)
class Member:
    """A connected account of a rule ("" for the account itself); `created_at` is set where `each` found it."""

    connected_account: str
    created_at: datetime | None
    planned_until: datetime | None

    def since(self, timezone: str) -> datetime | None:
        """When its windows begin; None: with the rule."""
        return None if self.created_at is None else first_moment(self.created_at, timezone)


@dataclass(frozen=True, slots=True)
class Group:
    """Connected accounts that are planned equally far; `created_at` is when the first of them was created."""

    planned_until: datetime | None
    created_at: datetime | None
    number: int


def first_moment(created_at: datetime, timezone: str) -> datetime:
    """The beginning of the local day on which an account was created: there is nothing to report before."""
    zone = ZoneInfo(timezone)
    return day_start(created_at.astimezone(zone).date(), zone)


async def keep_progress(session: AsyncSession, rule: Rule) -> list[str]:
    """Keep one progress row per connected account of a locked rule, or one for the account itself.

    Returns the accounts that were removed ("" for none named).
    """
    wanted: list[str | None] = [*rule.connected_accounts] or [None]
    values = {"rule_id": rule.id, "accounts": wanted}
    dropped = (await session.execute(_DROP_OTHER_PROGRESS, values)).scalars().all()
    await session.execute(_ADD_PROGRESS, values)
    return list(dropped)


async def follow(session: AsyncSession, account: str) -> None:
    """The account's connected accounts may have changed: keep the rules for `each` of them up to date."""
    changed = (await session.execute(_TO_FOLLOW, {"account": account})).scalars().all()
    # Locked in a statement of its own, so that the reads see what the last holders committed; and all before any run.
    await session.execute(_LOCK, {"rule_ids": changed})
    for rule_id in changed:
        rule = await session.get(Rule, rule_id, populate_existing=True)
        if rule is None or rule.deleted_at is not None:
            continue
        left = await keep_progress(session, rule)
        if left:
            reason = "its connected account has left the platform"
            await withdrawals.withdraw(session, rule, left, reason=reason)
    if changed:
        await wake(session, Lane.RULES)


async def of_rule(
    session: AsyncSession,
    rule_id: UUID,
    *,
    after: str = "",
    before: datetime | None = None,
    only: str | None = None,
    limit: int | None,
) -> list[Member]:
    """Up to `limit` connected accounts of a rule by id, after `after`; with `before` only those made before then, with
    `only` that one."""
    values = {"rule_id": rule_id, "after": after, "before": before, "only": only, "limit": limit}
    return await fetch(session, Member, _OF_RULE, values)


async def found_for(session: AsyncSession, new: NewRule, *, saved: UUID | None, limit: int) -> list[Member]:
    """Up to `limit` connected accounts of this rule for `each`, saved or not, by id, and how far each is planned."""
    return await fetch(session, Member, _FOUND, {**_about(new, saved), "limit": limit})


async def groups_for(session: AsyncSession, new: NewRule, *, saved: UUID | None) -> list[Group]:
    """All of them, by how far they are planned and when they were made."""
    return await fetch(session, Group, _GROUPS, {**_about(new, saved), "starts_on": new.starts_on})


def _about(new: NewRule, saved: UUID | None) -> dict[str, object]:
    return {"account": new.account, "excepted": new.excepted, "saved": saved}


_LOCK = text("select 1 from rules where id = any(:rule_ids) order by id for no key update")
_PRESENT = "left_at is null and stripe_created_at is not null"
_WANTED = f"""
wanted(account) as (
    select account from unnest(cast(:accounts as text[])) as named(account)
    where (select connected is distinct from 'each' from rules where id = :rule_id)
    union all
    select one.id from rules join connected_accounts as one on one.account = rules.account
    where rules.id = :rule_id and rules.connected = 'each' and {_PRESENT} and one.id <> all(rules.excepted)
)
"""  # noqa: S608 - of constants only
# A connected account that is added back continues where its last window ended: a window with the same start is
# the same window, even if it would end later now.
_ADD_PROGRESS = text(f"""
with {_WANTED}
insert into rule_progress (rule_id, connected_account, planned_until)
select :rule_id, account, (
    select max(interval_end) from runs join rules on rules.id = runs.rule_id
    where runs.rule_id = :rule_id and rules.cadence = 'every_update'
      and runs.connected_account is not distinct from wanted.account)
from wanted
on conflict (rule_id, connected_account) do nothing
""")  # noqa: S608 - of constants only
_DROP_OTHER_PROGRESS = text(f"""
with {_WANTED}
delete from rule_progress where rule_id = :rule_id
  and coalesce(connected_account, '') not in (select coalesce(account, '') from wanted)
returning coalesce(connected_account, '')
""")  # noqa: S608
# Rules that lack an account, or have one too many.
_TO_FOLLOW = text(f"""
select rules.id from rules
where account = :account and connected = 'each' and deleted_at is null and (
    exists (select from connected_accounts as one where one.account = rules.account and {_PRESENT}
        and one.id <> all(rules.excepted)
        and not exists (select from rule_progress where rule_id = rules.id and connected_account = one.id))
    or exists (select from rule_progress as p where p.rule_id = rules.id
        and not exists (select from connected_accounts as one where one.account = rules.account
            and one.id = p.connected_account and {_PRESENT} and one.id <> all(rules.excepted))))
order by rules.id
""")  # noqa: S608
# SQL that joins to `rules` and their progress `p` the connected account `one` that `each` found.
CREATED = """
left join connected_accounts as one on rules.connected = 'each' and one.account = rules.account
    and one.id = p.connected_account
"""
_OF_RULE = text(f"""
select coalesce(p.connected_account, '') as connected_account, one.stripe_created_at as created_at, p.planned_until
from rule_progress as p join rules on rules.id = p.rule_id {CREATED}
where p.rule_id = :rule_id and (cast(:after as text) = '' or p.connected_account > :after)
  and (cast(:only as text) is null or p.connected_account = :only)
  and (cast(:before as timestamptz) is null or one.stripe_created_at is null or one.stripe_created_at < :before)
order by p.connected_account limit :limit
""")  # noqa: S608
_FOUND_ACCOUNTS = f"""
from connected_accounts as one left join rule_progress as p
    on p.rule_id = cast(:saved as uuid) and p.connected_account = one.id
where one.account = :account and {_PRESENT} and one.id <> all(cast(:excepted as text[]))
"""
_FOUND = text(f"""
select one.id as connected_account, stripe_created_at as created_at, p.planned_until {_FOUND_ACCOUNTS}
order by one.id limit :limit
""")
# Local days of all zones begin at a quarter of an hour, and accounts made long before the rule's start are alike.
_GROUPS = text(f"""
select p.planned_until, min(stripe_created_at) as created_at, count(*) as number {_FOUND_ACCOUNTS}
group by p.planned_until, date_bin(interval '15 minutes',
    greatest(stripe_created_at, cast(:starts_on as date) - interval '2 days'), timestamptz 'epoch')
""")
