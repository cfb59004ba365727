"""`tallyhook runs`: list and show runs, retry or cancel them, download their files."""

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.vocabulary import RunState

if TYPE_CHECKING:
    pass

runs = typer.Typer(help="Runs: one per report that is owed.", no_args_is_help=True)
RunId = Annotated[uuid.UUID, typer.Argument(metavar="RUN_ID", help="The run's id.")]
RuleOption = Annotated[str | None, typer.Option("--rule", help="Only runs of this rule: its name or id.")]
TypeOption = Annotated[str | None, typer.Option("--report-type", help="Only runs of this report type.")]
AccountOption = Annotated[str | None, typer.Option("--account", help="Only runs of this account.")]
ConnectedOption = Annotated[str | None, typer.Option("--connected-account", help="Only runs for this acct_….")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@runs.command("list")
def list_(
    *,
    state: Annotated[RunState | None, typer.Option(help="Only runs in this state.")] = None,
    rule: RuleOption = None,
    report_type: TypeOption = None,
    account: AccountOption = None,
    connected_account: ConnectedOption = None,
    limit: Annotated[int, typer.Option(help="At most this many, the newest.", min=1, max=10_000)] = 50,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""
    from app.cli.output import show_json
    from app.cli.runs import work
    from app.cli.runs.view import show_runs
    from app.cli.session import run_once

    wanted = work.Wanted(state, rule, report_type, account, connected_account)
    found, names = run_once(lambda: work.find(wanted, limit=limit))
    if as_json:
        show_json([run.model_dump(mode="json") for run in found])
    else:
        show_runs(found, names)


@runs.command()
def show(run_id: RunId, as_json: AsJson = False) -> None:
    """Show one run, with its history."""
    from app.cli.runs import work
    from app.cli.runs.view import show_run
    from app.cli.session import run_once

    show_run(run_once(lambda: work.read(run_id)), as_json=as_json)


@runs.command()
def retry(
    *,
    run_ids: Annotated[list[uuid.UUID] | None, typer.Argument(metavar="RUN_ID", help="The runs' ids.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Every failed run that matches the options.")] = False,
    rule: RuleOption = None,
    report_type: TypeOption = None,
    account: AccountOption = None,
    connected_account: ConnectedOption = None,
    as_json: AsJson = False,
) -> None:
    """Try failed or cancelled runs again: those named, all or none of them; or with --failed all that match."""
    from app.cli.output import show_json
    from app.cli.runs import work
    from app.cli.session import run_once

    filters = (rule, report_type, account, connected_account)
    if bool(run_ids) == failed or (run_ids and any(filters)):
        raise typer.BadParameter("give run ids, or --failed (narrowed by the other options), not both")
    if run_ids:
        retried = run_once(lambda: work.retry(run_ids))
    else:
        wanted = work.Wanted(RunState.FAILED, *filters)
        retried = run_once(lambda: work.retry_matching(wanted))
    if as_json:
        show_json({"retried": retried})
    else:
        typer.echo(f"{retried} run{' is' if retried == 1 else 's are'} tried again")


@runs.command()
def download(
    run_id: RunId,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write; default: the file's own name, here.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Download and verify a run's file: it appears only when complete."""
    from app.cli.output import show_json
    from app.cli.runs import work
    from app.cli.session import run_once

    saved = run_once(lambda: work.download(run_id, output, force=force))
    if as_json:
        show_json({"path": str(saved.path), "size": saved.size, "sha256": saved.sha256})
    else:
        typer.echo(f"{saved.path}  {saved.size:,} bytes  sha256 {saved.sha256}")


@runs.command()
def facts(run_id: RunId) -> None:
    """Show what is known of a run's file: rows, header, sums; as JSON."""
    from app.api.loads import facts_of
    from app.cli.output import show_json
    from app.cli.session import opened, run_once

    async def read() -> dict[str, Any]:
        async with opened() as res, res.sessions() as session:
            return (await facts_of(session, run_id)).model_dump(mode="json")

    show_json(run_once(read))


@runs.command()
def diff(
    run_id: RunId,
    against: Annotated[int | None, typer.Option(help="A revision; default: the loaded one before.", min=1)] = None,
) -> None:
    """Show how a run's file differs from an earlier revision of its window; as JSON."""
    from app.api.schemas.tables import DiffOut
    from app.cli.output import show_json
    from app.cli.session import opened, run_once
    from app.tables import listing

    async def read() -> dict[str, Any]:
        async with opened() as res, res.sessions() as session:
            load = await listing.get_load(session, run_id, loaded=True)
            pair = await listing.pair_of(session, load, against)
            found = DiffOut.model_validate(await listing.compare(session, load, pair))
            return found.model_dump(mode="json", exclude={"data", "next_cursor"})

    show_json(run_once(read))
