"""Is it set up right? Accounts and what Stripe says about them, checks, settings, and which report to choose."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import SecretStr
from sqlalchemy import select, text
from starlette.responses import Response

from app.api import report_types
from app.api.http.dependencies import for_every_account
from app.api.report_types import ReportTypeOut
from app.db.models import ReportType
from app.db.rows import fetch
from app.health import rows
from app.settings import DEFAULT_ACCOUNT, Settings, setting_name
from app.tables.guide import guide
from app.web.forms import checked
from app.web.today import link_path
from app.web.visit import Visit, get


@dataclass(frozen=True, slots=True)
class AccountLine:
    """A configured account: what its key belongs to, and what exists for it."""

    slug: str
    stripe_account_id: str | None
    livemode: bool | None
    rules: int
    report_types: int
    data_until: datetime | None


async def show_accounts(visit: Visit) -> Response:
    """Every account that has a key or a secret."""
    configured = sorted(visit.res.settings.accounts)
    async with visit.res.sessions.begin() as session:
        known = {line.slug: line for line in await fetch(session, AccountLine, _ACCOUNTS)}
        holds = await rows.holds(session, configured=configured)
        refused = await rows.refused_deliveries(session, configured=configured)
        heard = await rows.heard(session)
    none = (None, None, 0, 0, None)
    return visit.show(
        "accounts.html",
        accounts=[known.get(slug, AccountLine(slug, *none)) for slug in configured],
        settings=visit.res.settings.accounts,
        holds=holds,
        refused=refused,
        heard={one.account: max(other.last_at for other in heard if other.account == one.account) for one in heard},
    )


async def show_setup(visit: Visit) -> Response:
    """Every check, and every setting without its secrets."""
    for_every_account(visit.res)
    judgement = await visit.judgement()
    return visit.show(
        "setup.html", checks=judgement.checks, settings=settings_shown(visit.res.settings), link=link_path
    )


@dataclass(frozen=True, slots=True)
class Family:
    """The versions of a report that an account has, newest first."""

    name: str
    newest: ReportTypeOut
    older: Sequence[ReportTypeOut]


async def show_report_types(visit: Visit) -> Response:
    """Which report to choose, and which ones the accounts have."""
    async with visit.res.sessions.begin() as session:
        first = min(visit.res.settings.accounts, default=DEFAULT_ACCOUNT)
        asked = checked(report_types.ReportTypesIn, {"limit": 100, "account": first, **visit.query})
        page = await report_types.list_report_types(session, asked)
        account = asked.account or first
        known = select(ReportType.id).where(ReportType.account == account, ReportType.missing_since.is_(None))
        tasks = guide((await session.execute(known)).scalars().all())
    return visit.show(
        "report_types.html",
        families=_families(page.data),
        next_cursor=page.next_cursor,
        guide=tasks,
        account=account,
        accounts=sorted(visit.res.settings.accounts),
    )


def _families(types: Sequence[ReportTypeOut]) -> list[Family]:
    found: dict[str, list[ReportTypeOut]] = {}
    for one in types:
        found.setdefault(one.id.rpartition(".")[0], []).append(one)
    families = []
    for name, versions in found.items():
        versions.sort(key=lambda one: (one.missing_since is None, one.version or 0), reverse=True)
        families.append(Family(name, versions[0], versions[1:]))
    return families


def settings_shown(settings: Settings) -> list[tuple[str, str, bool]]:
    """Each setting by its written name, its value, and whether it differs from the default; of secrets only whether
    they are set. A value with a secret inside is not shown."""
    defaults = Settings.model_validate({})
    shown = []
    for name in Settings.model_fields:
        if name == "warnings":
            continue
        value, default = getattr(settings, name), getattr(defaults, name)
        shown.append((setting_name(name), _shown(value), value != default))
    return shown


def _shown(value: object) -> str:
    if value is None or value in ((), {}):
        return "–"
    if _is_secret(value):
        return "set"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value)


def _is_secret(value: object) -> bool:
    if isinstance(value, tuple):
        return any(_is_secret(one) for one in value)
    return isinstance(value, SecretStr | Mapping)


_ACCOUNTS = text("""
select accounts.slug, stripe_account_id, livemode,
    (select count(*) from rules where account = accounts.slug and deleted_at is null) as rules,
    (select count(*) from report_types
        where account = accounts.slug and resolves_to is null and data_available_end is not null)
        as report_types,
    (select max(data_available_end) from report_types where account = accounts.slug) as data_until
from accounts order by slug limit 1000
""")
ROUTES = (get("/accounts", show_accounts), get("/setup", show_setup), get("/report-types", show_report_types))
