"""The life of a run: created, pending, then succeeded with a file or failed with a reason, each announced by an
event."""

from dataclasses import dataclass, replace
from typing import Any

from app.simulator.faults import REPORT_FAULTS, RUN_FAULTS, Fault, Subject
from app.simulator.ids import new_id
from app.simulator.recipes import recipe_for
from app.simulator.reports.csv_files import content_of, smallest_size
from app.simulator.reports.ledger import DAY
from app.simulator.reports.recipe import Flaw, Layout, Recipe
from app.simulator.settings import Outcome
from app.simulator.state.model import Account, ReportFile, ReportType, Run
from app.simulator.state.world import World
from app.simulator.webhooks.events import Carrying, emit

FILE_LIFE = 365 * DAY
FAILURE = "An error occurred while generating the report. Please try again."


@dataclass(frozen=True, slots=True)
class Plan:
    """The future of a run, decided when it is created. `delay` in seconds of the simulator's clock."""

    outcome: Outcome
    delay: float
    error: str = FAILURE
    instant: bool = False
    early: bool = False
    url: str | None = ""
    """The location in the file object; empty means the true one."""
    earlier_file: bool = False
    """The result is the file of the last run with the same parameters."""


def plan_for(world: World, account: Account, kind: ReportType) -> Plan:
    faults = world.faults.strike(RUN_FAULTS, Subject(report_type=kind.id, account=account.name))
    outcome = kind.outcome or world.settings.outcome
    error = FAILURE
    if "run_fails" in faults:
        outcome, error = "fail", faults["run_fails"].message or FAILURE
    if "run_hangs" in faults:
        outcome = "hang"
    url: str | None = ""
    if "url_elsewhere" in faults:
        url = faults["url_elsewhere"].url or "http://files.invalid/v1/files/file_1/contents"
    return Plan(
        outcome=outcome,
        delay=world.settings.delay if kind.delay is None else kind.delay,
        error=error,
        instant=world.settings.instant or "run_instant" in faults,
        early="event_early" in faults,
        url=None if "url_null" in faults else url,
        earlier_file="run_earlier_file" in faults,
    )


def _layout_for(world: World, account: Account, kind: ReportType) -> Layout:
    """How this report is written: as the settings say, with the flaws that the faults want."""
    faults = world.faults.strike(REPORT_FAULTS, Subject(report_type=kind.id, account=account.name))
    layout = world.settings.layout
    return replace(
        layout,
        quoting="minimal" if "report_unquoted" in faults else layout.quoting,
        newline="\r\n" if "report_crlf" in faults else layout.newline,
        bom="report_bom" in faults,
        flaws=tuple(flaw for name, fault in faults.items() for flaw in _flaws(name, fault)),
    )


def _flaws(name: str, fault: Fault) -> list[Flaw]:
    value = fault.value
    if name == "report_extra_column":
        return [Flaw("extra_column", column=fault.column or "extra", value="extra" if value is None else value)]
    if name == "report_bad_value":
        return [Flaw("bad_value", fault.row, fault.column or "", "not a value" if value is None else value)]
    return [Flaw("missing_row", fault.row)] if name == "report_missing_row" else []


def make_run(
    world: World,
    account: Account,
    *,
    kind: ReportType,
    parameters: dict[str, Any],
    owner: str | None = None,
    key: str | None = None,
) -> Run:
    """A pending run, whose end is not scheduled yet."""
    layout = _layout_for(world, account, kind)
    recipe = recipe_for(world, account, kind, parameters=parameters, layout=layout, owner=owner)
    run = Run(
        id=new_id("frr"),
        created=world.clock.unix(),
        report_type=kind.id,
        parameters=parameters,
        recipe=recipe,
        livemode=account.livemode,
        owner=owner,
        idempotency_key=key,
    )
    account.runs.add(run)
    return run


def arrange_end(world: World, account: Account, run: Run, plan: Plan) -> None:
    """Ends the run now or on the clock, or leaves it pending forever."""
    if plan.outcome == "hang":
        return
    if plan.delay <= 0:
        end_run(world, account, run, plan)
        return
    world.agenda.at(world.clock.now() + plan.delay, lambda: _end_if_pending(world, account, run, plan))


def _end_if_pending(world: World, account: Account, run: Run, plan: Plan) -> None:
    if run.status == "pending":
        end_run(world, account, run, plan)


def end_run(world: World, account: Account, run: Run, plan: Plan) -> Carrying:
    """Makes a run succeed or fail, whatever its state, and announces it."""
    if plan.outcome == "fail":
        run.status, run.error, run.file, run.succeeded_at = "failed", plan.error, None, None
    else:
        run.status, run.error, run.succeeded_at = "succeeded", None, world.clock.unix()
        run.file = (_earlier_file(account, run) if plan.earlier_file else None) or _file_of(world, run, plan)
        account.files[run.file.id] = run.file
    kind = f"reporting.report_run.{run.status}"
    return emit(world, account, kind=kind, about=run.rendered(), owner=run.owner)


def _file_of(world: World, run: Run, plan: Plan) -> ReportFile:
    identifier = new_id("file")
    truth = f"{world.base_url}/v1/files/{identifier}/contents"
    return ReportFile(
        id=identifier,
        created=world.clock.unix(),
        expires_at=world.clock.unix() + FILE_LIFE,
        recipe=run.recipe,
        size=content_of(run.recipe).size,
        run_id=run.id,
        url=truth if plan.url == "" else plan.url,
        owner=run.owner,
    )


def _earlier_file(account: Account, run: Run) -> ReportFile | None:
    """The result of the last run like this one."""
    asked = (run.report_type, run.parameters, run.owner)
    for other in account.runs.older_than(run.id):
        if other.file is not None and (other.report_type, other.parameters, other.owner) == asked:
            return other.file
    return None


def of_size(recipe: Recipe, size: int) -> Recipe:
    """The same report with a file of exactly `size` bytes."""
    if size < smallest_size(recipe):
        raise ValueError(f"a file of {recipe.report_type} has at least {smallest_size(recipe)} bytes")
    return replace(recipe, bytes=size)
