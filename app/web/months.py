"""A month: can it be closed? Shows how much of each rule is there, whether the numbers agree, and the pack."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby

from sqlalchemy import text
from starlette.requests import Request
from starlette.responses import Response

from app.api import packs
from app.api.schemas.tables import Amount
from app.db.rows import fetch
from app.errors import NotFound
from app.planning.dates import month_bounds
from app.planning.windows import FIRST_DAY, LAST_DAY
from app.tables.checks.results import Verdict
from app.web.month_counts import count_month, is_over, with_rows
from app.web.month_money import money_of
from app.web.visit import Visit, get, page_of

RULES_SHOWN = 100
MISSING_SHOWN = 20


@dataclass(frozen=True, slots=True)
class TieOut:
    """The verdicts of a check in a currency: how many agree, differ, or cannot be compared."""

    name: str
    currency: str
    agrees: int
    differs: int
    not_comparable: int
    difference: Amount | None


async def show_newest(visit: Visit) -> Response:
    """Redirect to the month that is being closed: the last whole one."""
    last = datetime.now(UTC).date().replace(day=1) - timedelta(days=1)
    return visit.go(f"/months/{last:%Y-%m}")


async def show(visit: Visit) -> Response:
    """One month."""
    month = _month(visit.request)
    first, until = month_bounds(month)
    now = datetime.now(UTC)
    page = page_of(visit)
    async with visit.res.sessions.begin() as session:
        rules = await count_month(session, first, until, now)
        shown = rules[(page - 1) * RULES_SHOWN : page * RULES_SHOWN]
        shown = await with_rows(session, shown, first, until)
        ties = await fetch(session, TieOut, _TIES, {"first": first, "until": until})
        money = await money_of(session, first, until)
    gaps = [gap for rule in rules for gap in rule.gaps]
    return visit.show(
        "month.html",
        month=month,
        before=first - timedelta(days=1),
        last=until - timedelta(days=1),
        after=until if until <= now.date() else None,
        rules=shown,
        page=page,
        pages=max(1, -(-len(rules) // RULES_SHOWN)),
        total=len(rules),
        stored=sum(rule.stored for rule in rules),
        missing=sum(rule.missing for rule in rules),
        overdue=sum(rule.overdue for rule in rules),
        not_due=sum(rule.not_due for rule in rules),
        not_covered=sum(bool(rule.not_covered) for rule in rules),
        gaps=gaps[:MISSING_SHOWN],
        more_gaps=max(0, len(gaps) - MISSING_SHOWN),
        ties=_grouped(ties),
        money=[(currency, list(of_it)) for currency, of_it in groupby(money, key=lambda one: one.currency)],
        is_over=is_over(rules, until, now),
    )


async def download(visit: Visit) -> Response:
    """The pack, by the function of the API's route."""
    incomplete = visit.query["incomplete"] == "true"
    return await packs.answer_with_pack(visit.res, _month(visit.request), (), visit.request, incomplete=incomplete)


@dataclass(frozen=True, slots=True)
class TieOuts:
    """A check's verdicts in the currencies that have the same one: one line of the page."""

    name: str
    verdict: Verdict
    currencies: Sequence[TieOut]

    @property
    def agrees(self) -> int:
        """How often it was compared and agreed, over its currencies."""
        return sum(one.agrees for one in self.currencies)

    @property
    def differs(self) -> int:
        """How often it differs."""
        return sum(one.differs for one in self.currencies)


def _grouped(ties: Sequence[TieOut]) -> list[TieOuts]:
    """What differs first, a line for each currency; what agrees or cannot be compared, a line for all currencies."""
    found: dict[tuple[str, Verdict, str], list[TieOut]] = defaultdict(list)
    for one in ties:
        verdict = Verdict.DIFFERS if one.differs else Verdict.AGREES if one.agrees else Verdict.NOT_COMPARABLE
        found[one.name, verdict, one.currency if one.differs else ""].append(one)
    order = (Verdict.DIFFERS, Verdict.AGREES, Verdict.NOT_COMPARABLE)
    lines = [TieOuts(name, verdict, alike) for (name, verdict, _), alike in found.items()]
    return sorted(lines, key=lambda line: order.index(line.verdict))


def _month(request: Request) -> date:
    try:
        month = date.fromisoformat(f"{request.path_params['month']}-01")
    except ValueError:
        raise NotFound("write the month like 2026-10") from None
    if not FIRST_DAY <= month <= LAST_DAY:
        raise NotFound(f"a month is between {FIRST_DAY:%Y-%m} and {LAST_DAY:%Y-%m}")
    return month


# Of each subject its newest verdict counts.
_TIES = text("""
select name, currency, count(*) filter (where verdict = 'agrees') as agrees,
    count(*) filter (where verdict = 'differs') as differs,
    count(*) filter (where verdict = 'not_comparable') as not_comparable,
    sum(left_value - right_value) filter (where verdict = 'differs') as difference
from (
    select distinct on (subject) name, currency, verdict, left_value, right_value from checks
    where window_day >= :first and window_day < :until order by subject, id desc
) as newest group by name, currency order by name, currency limit 500
""")
ROUTES = (
    get("/months", show_newest),
    get("/months/{month}", show),
    get("/months/{month}/pack.zip", download),
)
