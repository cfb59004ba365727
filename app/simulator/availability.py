"""Report types of an account and how far their data reaches; moving that is what Stripe's webhooks tell about."""

from app.simulator.reports.catalogue import CATALOGUE, template_for
from app.simulator.reports.families import family_of
from app.simulator.reports.ledger import DAY
from app.simulator.state.clock import Instant, unix
from app.simulator.state.model import Account, ReportType
from app.simulator.state.world import World
from app.simulator.webhooks.events import emit

HALF_DAY = DAY // 2
HISTORY = 400 * DAY


def add_report_type(world: World, account: Account, identifier: str) -> ReportType:
    """A type as the catalogue has it, with data up to the half day that Stripe would have published by now."""
    template = template_for(identifier)
    latest = latest_published(world)
    kind = ReportType(
        id=identifier,
        name=template.name,
        livemode=account.livemode,
        required=template.required,
        optional=template.optional,
        live_only=template.live_only,
        default_columns=family_of(identifier).default_columns if "columns" in template.optional else None,
        data_available_start=latest // DAY * DAY - HISTORY,
        data_available_end=latest,
        updated=world.clock.unix(),
    )
    account.report_types[identifier] = kind
    return kind


def add_catalogue(world: World, account: Account) -> None:
    for identifier in CATALOGUE:
        add_report_type(world, account, identifier)


def latest_published(world: World) -> int:
    """Data of a UTC half day is there twelve hours after it has ended."""
    return (world.clock.unix() - HALF_DAY) // HALF_DAY * HALF_DAY


def advance(world: World, account: Account, kind: ReportType, *, to: Instant) -> None:
    """Moves the end of the data, in either direction, and tells it; to where it is already: tells it again."""
    previous = {"data_available_end": kind.data_available_end, "updated": kind.updated}
    kind.data_available_end = unix(to)
    kind.updated = world.clock.unix()
    about = kind.rendered()
    emit(world, account, kind="reporting.report_type.updated", about=about, previous=previous)


def publish(world: World, *, until: Instant | None = None) -> int:
    """Advances every type of every account that is behind `until`; answers how many."""
    end = latest_published(world) if until is None else unix(until)
    behind = [
        (account, kind)
        for account in world.accounts.values()
        for kind in account.report_types.values()
        if kind.data_available_end < end and (account.livemode or not kind.live_only)
    ]
    for account, kind in behind:
        advance(world, account, kind, to=end)
    return len(behind)
