"""A month: can it be closed? Shows how much of each rule is there, whether the numbers agree, and the pack."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import text
from starlette.requests import Request
from starlette.responses import Response

from app.api import packs
from app.api.schemas.tables import Amount
from app.db.rows import fetch
from app.errors import NotFound
from app.packs.contents import OtherWindow, Pack, PackedFile, read_pack
from app.planning.dates import month_bounds
from app.tables.checks.results import Verdict
from app.vocabulary import WaitReason
from app.web.visit import Visit, get, page_of
from app.web.words import days as in_words
from app.web.words import sentence

RULES_SHOWN = 100
MISSING_SHOWN = 20
MONTHS_BACK = 24


@dataclass(frozen=True, slots=True)
class RuleMonth:
    """A rule's month: how many of the owed windows are stored."""

    name: str
    stored: int
    cancelled: int
    missing: Sequence[OtherWindow]
    rows: int | None
    restated: int  # files that replaced earlier ones of their windows

    @property
    def owed(self) -> int:
        """The windows that must be there before the month can be closed."""
        return self.stored + len(self.missing)


@dataclass(frozen=True, slots=True)
class Gap:
    """Windows of a rule that are missing for the same reason, and the days from the first to the last of them."""

    rule: str
    connected_account: str | None
    reason: str
    number: int
    dates: str


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
    async with visit.res.sessions() as session:
        try:
            pack = await read_pack(session, month, (), visit.res.claim_terms)
        except NotFound:
            pack = Pack(month, (), (), ())
        ties = await fetch(session, TieOut, _TIES, {"first": first, "until": until})
    rules = sorted(_by_rule(pack), key=lambda rule: (not rule.missing, rule.name))
    gaps = _gaps(pack.missing)
    page = page_of(visit)
    return visit.show(
        "month.html",
        month=month,
        before=first - timedelta(days=1),
        last=until - timedelta(days=1),
        after=until if until <= datetime.now(UTC).date() else None,
        rules=rules[(page - 1) * RULES_SHOWN : page * RULES_SHOWN],
        page=page,
        pages=max(1, -(-len(rules) // RULES_SHOWN)),
        total=len(rules),
        stored=len(pack.files),
        missing=len(pack.missing),
        gaps=gaps[:MISSING_SHOWN],
        more_gaps=max(0, len(gaps) - MISSING_SHOWN),
        size=sum(file.size for file in pack.files),
        ties=_grouped(ties),
        is_over=until <= datetime.now(UTC).date(),
        reason=_reason,
    )


async def download(visit: Visit) -> Response:
    """The pack, by the function that the API's route has."""
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
        return date.fromisoformat(f"{request.path_params['month']}-01")
    except ValueError:
        raise NotFound("write the month like 2026-10") from None


def _gaps(missing: Sequence[OtherWindow]) -> list[Gap]:
    """What is missing: adjacent windows of one rule with one reason share a line."""
    found: dict[tuple[str, str | None, str], list[OtherWindow]] = defaultdict(list)
    for one in missing:
        found[one.rule, one.connected_account, one.reason].append(one)
    return [
        Gap(rule, account, reason, len(windows), in_words(windows[0].dates.first, windows[-1].dates.last))
        for (rule, account, reason), windows in found.items()
    ]


def _reason(reason: str) -> str:
    """The pack's reason in the pages' words."""
    for word, said in _REASONS.items():
        reason = reason.replace(f"waits ({word}", f"it waits ({said}")
    return sentence(reason)


_REASONS = {
    WaitReason.AVAILABILITY: "for Stripe's data",
    WaitReason.REPORT_TYPE_MISSING: "Stripe does not have the report type",
    WaitReason.ACCOUNT_HELD: "Stripe refuses the account's key",
    WaitReason.BACKOFF: "it is tried again",
    WaitReason.SLOT: "for its turn",
    WaitReason.RATE: "for its turn",
}


def _by_rule(pack: Pack) -> list[RuleMonth]:
    files: dict[str, list[PackedFile]] = defaultdict(list)
    missing: dict[str, list[OtherWindow]] = defaultdict(list)
    cancelled = Counter(one.rule for one in pack.cancelled)
    for file in pack.files:
        files[file.rule].append(file)
    for window in pack.missing:
        missing[window.rule].append(window)
    return [_of_rule(name, files[name], cancelled[name], missing[name]) for name in {*files, *missing, *cancelled}]


def _of_rule(name: str, files: Sequence[PackedFile], cancelled: int, missing: Sequence[OtherWindow]) -> RuleMonth:
    rows = [file.rows for file in files if file.rows is not None]
    restated = sum(file.revision > 1 for file in files)
    return RuleMonth(name, len(files), cancelled, missing, sum(rows) if len(rows) == len(files) else None, restated)


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
