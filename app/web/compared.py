"""How much was compared: the verdicts of the last months, counted by check, and the checks that lack a report."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch
from app.tables.catalogue import CONNECT_PREFIX
from app.tables.checks.registry import CHECKS
from app.tables.checks.results import Verdict


@dataclass(frozen=True, slots=True)
class Counted:
    """The newest verdicts of a check that are alike; `reason` is that of numbers that cannot be compared."""

    name: str
    verdict: str
    reason: str | None
    number: int
    through: date | None


@dataclass(frozen=True, slots=True)
class Family:
    """A report whose rows the tables show."""

    family: str


@dataclass(frozen=True, slots=True)
class NotCompared:
    """What a check could not compare, and why; `number` is None where it had nothing to compare."""

    name: str
    reason: str
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """How many numbers were compared and how that ended, since when and through which day."""

    since: date
    through: date | None
    verdicts: Mapping[str, int]
    not_compared: Sequence[NotCompared]

    @property
    def compared(self) -> int:
        """How many pairs of numbers have a verdict."""
        return self.verdicts[Verdict.AGREES] + self.verdicts[Verdict.DIFFERS]


async def summarize(session: AsyncSession, since: date) -> Summary:
    """Of the windows since a day."""
    counted = await fetch(session, Counted, _COUNTED, {"since": since})
    families = {one.family for one in await fetch(session, Family, _FAMILIES)}
    verdicts: Counter[str] = Counter()
    for one in counted:
        verdicts[one.verdict] += one.number
    through = max((one.through for one in counted if one.through is not None), default=None)
    return Summary(since, through, verdicts, [*_without_verdict(counted), *_without_reports(counted, families)])


def _without_verdict(counted: Sequence[Counted]) -> list[NotCompared]:
    numbers: dict[tuple[str, str], int] = defaultdict(int)
    for one in counted:
        if one.verdict == Verdict.NOT_COMPARABLE:
            numbers[one.name, one.reason or "no reason is known"] += one.number
    return [NotCompared(name, reason, number) for (name, reason), number in sorted(numbers.items())]


def _without_reports(counted: Sequence[Counted], families: set[str]) -> list[NotCompared]:
    """The checks that never ran, and the report that each of them lacks."""
    had = frozenset(family.removeprefix(CONNECT_PREFIX) for family in families)
    seen = {one.name for one in counted}
    found = []
    for check in CHECKS:
        lacking = [" or ".join(choice) for choice in check.needs if not had & set(choice)]
        if check.name not in seen:
            said = (
                f"no rule fetches {' and '.join(lacking)}"
                if lacking
                else "the reports exist, but none of their windows has both sides"
            )
            found.append(NotCompared(check.name, said))
    return found


# Of each subject its newest verdict counts.
_COUNTED = text("""
select name, verdict, case when verdict = 'not_comparable' then reason end as reason, count(*) as number,
    max(window_day) as through
from (
    select distinct on (subject) name, verdict, reason, window_day from checks
    where window_day >= :since order by subject, id desc
) as newest group by 1, 2, 3 order by 1, 2, 3 limit 500
""")
_FAMILIES = text("select distinct family from leaderships limit 500")
