"""Report types of an account and how far their data reaches; Stripe's webhooks announce when that moves."""

from dataclasses import dataclass

from app.simulator.clock import Instant, unix
from app.simulator.reports.catalogue import catalogue, template_for
from app.simulator.reports.ledger import DAY
from app.simulator.settings import Outcome
from app.simulator.state.model import Account, ReportType
from app.simulator.state.world import World
from app.simulator.webhooks.events import emit

HALF_DAY = DAY // 2
HISTORY = 400 * DAY


def add_report_type(world: World, account: Account, identifier: str) -> ReportType:
    """A type from the catalogue, with data up to the half day that Stripe would have published by now."""
    template = template_for(identifier)
    latest = latest_published(world)
    kind = ReportType(
        id=identifier,
        name=template.name,
        livemode=account.livemode,
        required=template.required,
        optional=template.optional,
        live_only=template.live_only,
        default_columns=template.default_columns if "columns" in template.optional else None,
        file_columns=template.file_columns,
        data_available_start=latest // DAY * DAY - HISTORY,
        data_available_end=latest,
        updated=world.clock.unix(),
    )
    account.report_types[identifier] = kind
    return kind


@dataclass(frozen=True, slots=True)
class TypeChanges:
    """Changes to a report type; None leaves a value alone."""

    start: Instant | None = None
    end: Instant | None = None
    required: frozenset[str] | None = None
    optional: frozenset[str] | None = None
    default_columns: tuple[str, ...] | None = None
    live_only: bool | None = None
    strict_bounds: bool | None = None
    rows_per_day: float | None = None
    bytes: int | None = None
    outcome: Outcome | None = None
    delay: float | None = None


def change_report_type(world: World, account: Account, identifier: str, changes: TypeChanges) -> ReportType:
    """Changes a type; creates it if the account has none with this id."""
    kind = account.report_types.get(identifier) or add_report_type(world, account, identifier)
    values = {name: getattr(changes, name) for name in TypeChanges.__slots__}
    start, end = values.pop("start"), values.pop("end")
    values |= {
        "data_available_start": None if start is None else unix(start),
        "data_available_end": None if end is None else unix(end),
        "file_columns": changes.default_columns,
    }
    for name, value in values.items():
        if value is not None:
            setattr(kind, name, value)
    return kind


def add_catalogue(world: World, account: Account) -> None:
    for identifier in catalogue():
        add_report_type(world, account, identifier)


def latest_published(world: World) -> int:
    """Data of a UTC half day is there twelve hours after it has ended."""
    return (world.clock.unix() - HALF_DAY) // HALF_DAY * HALF_DAY


def advance(world: World, account: Account, kind: ReportType, *, to: Instant) -> None:
    """Moves the end of the data, in either direction, and announces it, even if it did not move."""
    previous = {"data_available_end": kind.data_available_end, "updated": kind.updated}
    kind.data_available_end = unix(to)
    kind.updated = world.clock.unix()
    about = kind.rendered()
    emit(world, account, kind="reporting.report_type.updated", about=about, previous=previous)


def publish(world: World, *, until: Instant | None = None) -> int:
    """Advances every type of every account that is behind `until`; returns how many."""
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
