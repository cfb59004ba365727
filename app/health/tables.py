"""The checks of what is inside the files: do the numbers agree, and can the files be loaded?"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import text

from app.db.rows import fetch, fetch_one
from app.health.registry import View, check
from app.health.results import Check, Link, LinkKind, degraded, ok
from app.health.text import count, names, span
from app.tables.checks.results import difference_text

# A gigabyte takes less; what waits for longer is stuck.
WAITING = timedelta(minutes=20)
MOST_COUNTED = 1000
_MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class Difference:
    """A verdict that says that two numbers are different, without a note."""

    name: str
    day: str | None
    currency: str
    difference: Decimal | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class LoadCounts:
    """The state of loads, each number bounded."""

    failed: int
    outdated: int  # windows whose newest stored revision is not the one that is shown
    oldest_due: datetime | None
    waiting: int  # stored files from before there were tables: of the newest of them
    set_aside: list[str]


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
    said, advice = _trouble(found, view.now)
    if said:
        link = Link(LinkKind.LOADS, {"state": "failed"} if found.failed else {})
        return degraded("loads", "; ".join(said), "; ".join(advice), link=link)
    if found.waiting:
        waiting = count(found.waiting, "file", most=MOST_COUNTED)
        return ok("loads", f"{waiting} from before there were tables are not loaded", advice="`tallyhook tables load`")
    return ok("loads", "every stored file is loaded")


def _trouble(found: LoadCounts, now: datetime) -> tuple[list[str], list[str]]:
    said, advice = list[str](), list[str]()
    if found.failed:
        said.append(f"{count(found.failed, 'file', most=MOST_COUNTED)} cannot be loaded")
        advice.append("`load.error` of the run says which row; GET /v1/loads?state=failed")
    if found.outdated:
        said.append(f"{found.outdated} windows show an older revision than the newest stored one")
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
_LOADS = text("""
select
    (select count(*) from (select 1 from loads where state = 'failed' limit :most) as one) as failed,
    (select count(*) from (
        select 1 from loads where state = 'failed' and exists (
            select 1 from loads as older where older.rule_id = loads.rule_id and older.is_current
                and older.window_key is not distinct from loads.window_key and older.revision < loads.revision
                and older.connected_account is not distinct from loads.connected_account) limit :most) as one
    ) as outdated,
    (select min(due_at) from loads where state = 'due') as oldest_due,
    (select count(*) from (
        select id from runs where state = 'stored' and stored_at <= (select min(at) from tables_since)
        order by stored_at desc limit :most) as older
        where not exists (select from loads where loads.run_id = older.id)
            and exists (select from files where files.run_id = older.id and removed_at is null)) as waiting,
    array(select table_name || '.' || column_name from table_columns where state = 'set_aside'
        order by 1 limit 20) as set_aside
""")
