"""`tallyhook runs`: list, create, retry and cancel runs, and download their files."""

import uuid
from typing import Annotated, Any

import typer

from app.cli.api import Api, AsJson, Limit, command
from app.cli.saving import Force, Output
from app.cli.values import choice, whole
from app.vocabulary import RunState

runs = typer.Typer(help="Runs: one for each report.", no_args_is_help=True)


def _run_id(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text} is not a run's id: `tallyhook runs list --rule {text}` shows those of a rule"
        ) from None


RunId = Annotated[uuid.UUID, typer.Argument(metavar="RUN_ID", help="The run's id.", parser=_run_id)]
RuleOption = Annotated[str | None, typer.Option("--rule", help="Only runs of this rule: its name or id.")]
TypeOption = Annotated[str | None, typer.Option("--report-type", help="Only runs of this report type.")]
AccountOption = Annotated[str | None, typer.Option("--account", help="Only runs of this account.")]
ConnectedOption = Annotated[str | None, typer.Option("--connected-account", help="Only runs for this acct_….")]
_DATE = "a local date like 2026-10-01"


@command(runs, "list")
async def list_(
    api: Api,
    *,
    state: Annotated[RunState | None, choice(RunState, help="Only runs in this state:")] = None,
    rule: RuleOption = None,
    report_type: TypeOption = None,
    account: AccountOption = None,
    connected_account: ConnectedOption = None,
    first: Annotated[str | None, typer.Option("--from", help=f"Windows from this day: {_DATE}.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="Windows before this day.")] = None,
    through: Annotated[str | None, typer.Option("--through", help="Windows up to this day, included.")] = None,
    stored_after: Annotated[str | None, typer.Option("--stored-after", help="Stored later than this time.")] = None,
    latest: Annotated[bool, typer.Option("--latest", help="Only the newest stored revision of each window.")] = False,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first; with --stored-after, those stored since, oldest first."""
    from app.cli.output import show_json
    from app.cli.runs.view import show_runs

    found = await api.list(
        "/v1/runs", limit=limit, state=state, rule=rule, report_type=report_type, account=account,
        connected_account=connected_account, from_=first, to=to, through=through, stored_after=stored_after,
        latest=latest or None, order="stored" if stored_after else None,
    )  # fmt: skip
    if as_json:
        show_json(found)
        return
    rules = await api.list("/v1/rules", limit=10_000) if any(run["rule_id"] for run in found) else []
    show_runs(found, {one["id"]: one["name"] for one in rules})


@command(runs)
async def show(api: Api, run_id: RunId, as_json: AsJson = False) -> None:
    """Show one run, with its history and the verdicts about its file."""
    from app.cli.runs.view import show_run

    show_run(await api.get(f"/v1/runs/{run_id}"), as_json=as_json)


@command(runs)
async def create(
    api: Api,
    report_type: Annotated[str, typer.Argument(metavar="REPORT_TYPE", help="With its version: balance.summary.1")],
    *,
    start: Annotated[str | None, typer.Option("--start", help="Inclusive: 2026-10-01T00:00:00Z.")] = None,
    end: Annotated[str | None, typer.Option("--end", help="Exclusive.")] = None,
    parameter: Annotated[list[str] | None, typer.Option("--parameter", "-p", help="name=value; repeatable.")] = None,
    account: Annotated[str | None, typer.Option(help="The account; default: `default`.")] = None,
    connected_account: Annotated[str | None, typer.Option(help="An acct_….")] = None,
    as_json: AsJson = False,
) -> None:
    """Request a report without a rule; it waits until Stripe's data reaches its end."""
    from app.cli.output import show_json

    asked = {
        "report_type": report_type, "interval_start": start, "interval_end": end, "account": account,
        "connected_account": connected_account, "parameters": _parameters(parameter or []),
    }  # fmt: skip
    run = await api.post("/v1/runs", {name: value for name, value in asked.items() if value is not None})
    if as_json:
        show_json(run)
    else:
        typer.echo(f"run {run['id']} is {run['state']}")


@command(runs)
async def retry(
    api: Api,
    *,
    run_ids: Annotated[
        list[uuid.UUID] | None, typer.Argument(metavar="RUN_ID", help="The runs' ids.", parser=_run_id)
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="All failed runs that match the options.")] = False,
    rule: RuleOption = None,
    report_type: TypeOption = None,
    account: AccountOption = None,
    connected_account: ConnectedOption = None,
    as_json: AsJson = False,
) -> None:
    """Retry failed or cancelled runs: those given, all or none; or with --failed, all that match."""
    from app.cli.output import show_json
    from app.sentences import count

    filters = {"rule": rule, "report_type": report_type, "account": account, "connected_account": connected_account}
    if bool(run_ids) == failed or (run_ids and any(filters.values())):
        raise typer.BadParameter("give the runs, or --failed (which the other options narrow), not both")
    asked = {"ids": [str(run_id) for run_id in run_ids]} if run_ids else {"state": RunState.FAILED, **filters}
    retried = (await api.post("/v1/runs/retry", asked))["retried"]
    if as_json:
        show_json({"retried": retried})
    else:
        typer.echo(f"{count(retried, 'run')} will be retried")


@command(runs)
async def cancel(api: Api, run_id: RunId, as_json: AsJson = False) -> None:
    """Cancel a run that is not stored yet: its file will not be downloaded."""
    from app.cli.output import show_json

    run = await api.post(f"/v1/runs/{run_id}/cancel")
    if as_json:
        show_json(run)
    else:
        typer.echo(f"run {run_id} is {run['state']}")


@command(runs)
async def download(
    api: Api,
    run_or_rule: Annotated[str, typer.Argument(metavar="RUN_ID|RULE", help="A run's id, or a rule's name.")],
    date: Annotated[str | None, typer.Argument(metavar="[DATE]", help=f"With a rule: {_DATE}, or `latest`.")] = None,
    *,
    connected_account: Annotated[
        str | None,
        typer.Option("--connected-account", help="The acct_… to download; from a file for several, only its lines."),
    ] = None,
    form: Annotated[str, typer.Option("--format", help="csv (the bytes as they are), xlsx or parquet.")] = "csv",
    output: Output = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Download the file of a run, or of a rule's window by date.

    It appears only when complete. As Stripe made it, it is checked against its SHA-256; converted files and one
    account's lines have none.
    """
    from urllib.parse import quote

    from app.cli.saving import save, tell

    if date is None:
        if not _is_id(run_or_rule):
            raise typer.BadParameter(f"{run_or_rule} is not the id of a run; with a rule, also give a DATE or `latest`")
        path = f"/v1/runs/{run_or_rule}/file"
    else:
        path = f"/v1/rules/{quote(run_or_rule, safe='')}/files/{quote(date, safe='')}"
    asked = {"connected_account": connected_account, "format": None if form == "csv" else form}
    async with api.stream(path, **asked) as answer:
        tell(await save(answer, output, force=force, verify=form == "csv"), as_json=as_json)


@command(runs)
async def facts(api: Api, run_id: RunId) -> None:
    """Show the facts about a run's file, as JSON: rows, header, sums."""
    from app.cli.output import show_json

    show_json(await api.get(f"/v1/runs/{run_id}/facts"))


@command(runs)
async def diff(
    api: Api,
    run_id: RunId,
    against: Annotated[
        int | None, typer.Option(help="A revision; default: the previous loaded one.", parser=whole(1), metavar="N")
    ] = None,
) -> None:
    """Show how a run's file differs from an earlier revision of its window, as JSON."""
    from app.cli.output import show_json

    found = await api.get(f"/v1/runs/{run_id}/diff", against=against)
    show_json({name: value for name, value in found.items() if name not in ("data", "next_cursor")})


def _is_id(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _parameters(given: list[str]) -> dict[str, Any]:
    """`name=value`, the value as JSON if it is valid JSON (`columns=["net"]`), otherwise as text."""
    import json

    found: dict[str, Any] = {}
    for one in given:
        name, sign, value = one.partition("=")
        if not sign:
            raise typer.BadParameter(f"{one} is not a parameter: write name=value", param_hint="--parameter")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
