"""A month's money by currency: what the loaded files of each report add up to, and where a balance began and ended."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch
from app.planning.dates import local_dates
from app.tables.amounts import total
from app.tables.checks.between_files import BALANCE
from app.tables.checks.inputs import ENDING, STARTING
from app.tables.facts import TOTAL_LINE
from app.web.words import days


@dataclass(frozen=True, slots=True)
class Money:
    """What one report adds up to in a currency, over the files of a month that the tables show.

    A balance has `opening`, `payouts` and `closing`, its `net` is its activity; other reports have the sums of rows.
    """

    currency: str
    account: str
    family: str
    files: int
    began: datetime
    ended: datetime
    timezone: str
    opening: Decimal | None
    gross: Decimal | None
    fee: Decimal | None
    net: Decimal | None
    payouts: Decimal | None
    closing: Decimal | None

    @property
    def dates(self) -> str:
        """The days from the first to the last of its files."""
        found = local_dates(self.began, self.ended, self.timezone)
        return days(found.first, found.last)

    @property
    def amounts(self) -> tuple[Decimal | None, ...]:
        """In the order of the table's columns."""
        return self.opening, self.gross, self.fee, self.net, self.payouts, self.closing

    @property
    def has_hole(self) -> bool:
        """Whether days between its files are missing, so that what moved does not lead from opening to closing."""
        if self.opening is None or self.closing is None:
            return False
        return total((self.opening, self.net, self.payouts)) != self.closing


async def money_of(session: AsyncSession, first: date, until: date) -> list[Money]:
    """By currency, of the windows that belong to the month of the days [first, until)."""
    return await fetch(session, Money, _MONEY, {"first": first, "until": until})


# What is not paid out yet is counted at the end of each day: its days do not add up.
_MONEY = text(f"""
with of_file as (
    select loads.account, loads.scope, loads.family, sums.currency, loads.interval_start as began,
        coalesce(loads.interval_end, loads.interval_start) as ended, coalesce(loads.timezone, 'UTC') as timezone,
        loads.family like '%{BALANCE}' as is_balance,
        sum(net) filter (where category = '{STARTING}') as starting,
        sum(net) filter (where category = '{ENDING}') as ending,
        coalesce(sum(net) filter (where category = 'activity'),
            sum(net) filter (where category in ('activity_gross', 'activity_fee'))) as activity,
        coalesce(sum(net) filter (where category = 'payouts'),
            sum(net) filter (where category in ('payouts_gross', 'payouts_fee'))) as payouts,
        sum(gross) filter (where category <> '{TOTAL_LINE}') as gross,
        sum(fee) filter (where category <> '{TOTAL_LINE}') as fee,
        sum(net) filter (where category <> '{TOTAL_LINE}') as net
    from runs join loads on loads.run_id = runs.id join load_sums as sums on sums.load_id = loads.id
    where runs.rule_id is not null
      and window_day(runs.window_key, runs.interval_start, runs.interval_end, runs.timezone) >= :first
      and window_day(runs.window_key, runs.interval_start, runs.interval_end, runs.timezone) < :until
      and loads.is_current and loads.leads and not loads.filtered and loads.loaded_at is not null
      and loads.state <> 'removed' and loads.interval_start is not null and sums.currency <> ''
      and loads.family not like '%ending_balance_reconciliation%'
    -- Each column by name: the views of a limited token have no primary key to group by.
    group by loads.id, loads.account, loads.scope, loads.family, loads.interval_start, loads.interval_end,
        loads.timezone, sums.currency
), of_account as (
    select account, family, scope, currency, is_balance, count(*) as files, min(began) as began, max(ended) as ended,
        min(timezone) as timezone, (array_agg(starting order by began))[1] as opening,
        (array_agg(ending order by ended desc))[1] as closing, sum(activity) as activity, sum(payouts) as payouts,
        sum(gross) as gross, sum(fee) as fee, sum(net) as net
    from of_file group by account, family, scope, currency, is_balance
)
select currency, account, family, cast(sum(files) as bigint) as files, min(began) as began, max(ended) as ended,
    min(timezone) as timezone, sum(opening) as opening, sum(gross) filter (where not is_balance) as gross,
    sum(fee) filter (where not is_balance) as fee, sum(case when is_balance then activity else net end) as net,
    sum(payouts) filter (where is_balance) as payouts, sum(closing) as closing
from of_account group by currency, account, family order by currency, account, family limit 500
""")  # noqa: S608 - of constants only
