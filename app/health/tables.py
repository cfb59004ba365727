"""The checks of the files' contents: do the numbers agree, and can the files be loaded?"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import text

from app.db.rows import fetch, fetch_one
from app.health.registry import View, check
from app.health.results import Check, Link, LinkKind, degraded, ok
from app.health.text import TOLD_FOR, names, span
from app.planning.dates import local_dates
from app.sentences import count
from app.tables.checks.results import difference_text
from app.tables.columns import changed_text
from app.tables.load_file import is_off

# A gigabyte takes less; a load that waits longer is stuck.
WAITING = timedelta(minutes=20)
MOST_COUNTED = 1000
_MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class Difference:
    """A verdict, without a note, that two numbers differ."""

    name: str
    day: str | None
    currency: str
    difference: Decimal | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class LoadCounts:
    """The state of loads, each number bounded."""

    failed: int
    oldest_due: datetime | None
    waiting: int  # stored files from before there were tables, among the newest
    set_aside: list[str]


@dataclass(frozen=True, slots=True)
class Outdated:
    """A window that shows an older revision than its newest stored one, which cannot be loaded."""

    rule: str
    connected_account: str | None
    interval_start: datetime | None
    interval_end: datetime | None
    timezone: str | None
    shown: int
    newest: int

    def __str__(self) -> str:
        of = [self.rule]
        if self.connected_account is not None:
            of.append(self.connected_account)
        if self.interval_start is not None and self.interval_end is not None:
            dates = local_dates(self.interval_start, self.interval_end, self.timezone or "UTC")
            of.append(str(dates.first) if dates.first == dates.last else f"{dates.first} to {dates.last}")
        return f"{' '.join(of)} shows revision {self.shown} of {self.newest}"


@dataclass(frozen=True, slots=True)
class Changed:
    """A rule whose files have had other columns since the window of `day`: the first of all accounts."""

    rule: str
    day: str | None
    added: list[str]
    removed: list[str]

    def __str__(self) -> str:
        return f"{self.rule}: {changed_text(self.added, self.removed)}" + (f" since {self.day}" if self.day else "")


@check
async def numbers(view: View) -> Check:
    """Whether all numbers that must agree do."""
    found = await fetch(view.session, Difference, _DIFFERENCES, {"limit": _MOST_NAMED})
    if not found:
        return ok("numbers", "all compared numbers agree")
    said = [_said(one) for one in found]
    advice = "see GET /v1/checks?verdict=differs and the diff of its runs; a note on a check acknowledges it"
    return degraded("numbers", names(said), advice, link=Link(LinkKind.CHECKS, {"verdict": "differs"}))


def _said(one: Difference) -> str:
    of = " ".join(part for part in (one.day, one.currency) if part)
    return difference_text(f"{one.name}{f' of {of}' if of else ''}", one.difference, one.reason)


@check
async def loads(view: View) -> Check:
    """Whether stored files become rows."""
    if view.settings.tables == "off":
        return ok("loads", "files are not loaded: TALLYHOOK_TABLES is off")
    found = await fetch_one(view.session, LoadCounts, _LOADS, {"most": MOST_COUNTED})
    outdated = await fetch(view.session, Outdated, _OUTDATED, {"most": MOST_COUNTED}) if found.failed else []
    said, advice = _trouble(found, outdated, view.now)
    changed = await _changed(view)
    if said:
        link = Link(LinkKind.LOADS, {"state": "failed"} if found.failed else {})
        return degraded("loads", "; ".join(said + changed), "; ".join(advice), link=link)
    if found.waiting:
        waiting = f"not loaded: {count(found.waiting, 'file', most=MOST_COUNTED)} from before the tables existed"
        return ok("loads", "; ".join([waiting, *changed]), advice="`tallyhook tables load`")
    return ok("loads", "; ".join(["every stored file is loaded", *changed]))


async def _changed(view: View) -> list[str]:
    """A sentence about columns that came or went recently. It does not degrade the check: nobody has to act."""
    found = await fetch(view.session, Changed, _CHANGED, {"within": TOLD_FOR, "most": MOST_COUNTED})
    return [f"columns changed: {names([str(one) for one in found])}"] if found else []


def _trouble(found: LoadCounts, outdated: Sequence[Outdated], now: datetime) -> tuple[list[str], list[str]]:
    said, advice = list[str](), list[str]()
    if found.failed:
        said.append(f"{count(found.failed, 'file', most=MOST_COUNTED)} cannot be loaded")
        advice.append("the run's `load.error` says which row; GET /v1/loads?state=failed")
    if outdated:
        said.append(f"the tables show older revisions: {names([str(one) for one in outdated])}")
    if found.oldest_due is not None and now - found.oldest_due > WAITING:
        said.append(f"the oldest file to load has been waiting for {span(now - found.oldest_due)}")
        advice.append("is a worker running?")
    if found.set_aside:
        said.append(f"unknown columns are set aside: {names(found.set_aside)}")
        advice.append("approve or ignore them: POST /v1/tables/{table}/columns/{column}")
    return said, advice


_DIFFERENCES = text("""
select name, cast(window_day as text) as day, currency, left_value - right_value as difference, reason
from checks
where verdict = 'differs'
    and not exists (select 1 from checks as later where later.subject = checks.subject and later.id > checks.id)
    and not exists (select 1 from check_notes where check_id = checks.id)
order by id desc limit :limit
""")
# Of the newest files that cannot be loaded; a window counts once, however many of its revisions cannot.
_OUTDATED = text("""
select rule, connected_account, interval_start, interval_end, timezone, shown, newest from (
    select distinct on (older.id) older.id, coalesce(rules.name, older.report_type) as rule, older.connected_account,
        older.interval_start, older.interval_end, older.timezone, older.revision as shown, failed.revision as newest
    from (select rule_id, window_key, connected_account, revision from loads where state = 'failed'
        order by id desc limit :most) as failed
    join loads as older on older.rule_id = failed.rule_id and older.is_current
        and older.window_key is not distinct from failed.window_key and older.revision < failed.revision
        and older.connected_account is not distinct from failed.connected_account
    left join rules on rules.id = older.rule_id
    order by older.id, failed.revision desc
) as outdated
order by id desc
""")
_CHANGED = text("""
select rule, cast(min(day) as text) as day, added, removed from (
    select loads.id, rules.id as rule_id, rules.name as rule, added_columns as added, removed_columns as removed,
        window_day(loads.window_key, loads.interval_start, loads.interval_end, loads.timezone) as day
    from (select * from loads where added_columns is not null and is_current order by id desc limit :most) as loads
    join rules on rules.id = loads.rule_id and rules.deleted_at is null join runs on runs.id = loads.run_id
    where runs.stored_at > clock_timestamp() - :within
) as changed
group by rule_id, rule, added, removed order by max(id) desc
""")
_LOADS = text(f"""
select
    (select count(*) from (select 1 from loads where state = 'failed' limit :most) as one) as failed,
    (select min(due_at) from loads where state = 'due') as oldest_due,
    (select count(*) from (
        select id, rule_id from runs where state = 'stored' and stored_at <= (select min(at) from tables_since)
        order by stored_at desc limit :most) as older
        where not exists (select from loads where loads.run_id = older.id)
            and exists (select from files where files.run_id = older.id and removed_at is null)
            and not {is_off("older")}) as waiting,
    array(select table_name || '.' || column_name from table_columns where state = 'set_aside'
        order by 1 limit 20) as set_aside
""")  # noqa: S608 - of constants only
