"""`tallyhook rules list|show|preview|coverage|backfill`: what rules owe, and how much of it is stored."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from app.cli.api import Api, AsJson, Limit, command
from app.cli.rules.command import rules

Rule = Annotated[str, typer.Argument(metavar="RULE", help="The rule's name or id.")]
From = Annotated[str | None, typer.Option("--from", help="A local date like 2026-10-01.")]
To = Annotated[str | None, typer.Option("--to", help="A local date, not included.")]
Through = Annotated[str | None, typer.Option("--through", help="A local date, included.")]
_RULES = ("name", "account", "cadence", "timezone", "starts_on", "report_type", "enabled")
_COVERAGE = ("window", "connected_account", "state", "run_id", "waiting")
_NEXT = ("window", "connected_account", "waiting")


@command(rules, "list")
async def list_(api: Api, as_json: AsJson = False) -> None:
    """List rules, newest first."""
    from app.cli.output import show_list

    show_list(_RULES, await api.list("/v1/rules", limit=10_000), as_json=as_json)


@command(rules)
async def show(api: Api, rule: Rule, as_json: AsJson = False) -> None:
    """Show one rule and its warnings."""
    from app.cli.output import show_fields

    show_fields(await api.get(_path(rule)), as_json=as_json)


@command(rules)
async def preview(api: Api, rule: Rule, as_json: AsJson = False) -> None:
    """Show what a rule would request now, and what comes next and when."""
    from app.cli.output import show_json, show_list
    from app.sentences import count

    found = await api.post("/v1/rules/preview", {"rule_id": (await api.get(_path(rule)))["id"]})
    if as_json:
        show_json(found)
        return
    if found["forecast"] is not None:
        typer.echo(found["forecast"]["says"])
    typer.echo(f"{count(found['now_total'], 'report')} would be requested now; next:")
    show_list(_NEXT, found["next"], as_json=False)


@command(rules)
async def coverage(
    api: Api, rule: Rule, *, first: From = None, to: To = None, through: Through = None, limit: Limit = 50,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """List every window of a rule, newest first: stored, under way, failed, waiting, missing."""
    from app.cli.output import show_list

    found = await api.list(f"{_path(rule)}/coverage", limit=limit, from_=first, to=to, through=through)
    show_list(_COVERAGE, found, as_json=as_json)


@command(rules)
async def backfill(
    api: Api,
    rule: Rule,
    *,
    first: From = None,
    to: To = None,
    through: Through = None,
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Also request stored windows again, as new revisions.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many reports it would request.")] = False,
    as_json: AsJson = False,
) -> None:
    """Request what a rule lacks between two dates, and retry what failed or was cancelled there."""
    from app.cli.output import show_json

    if first is None or (to is None) == (through is None):
        raise typer.BadParameter("give --from, and --to (not included) or --through (included)")
    asked: dict[str, Any] = {"from": first, "rerun": rerun, "dry_run": dry_run}
    asked |= {"to": to} if to is not None else {"through": through}
    found = await api.post(f"{_path(rule)}/backfill", asked)
    if as_json:
        show_json(found)
        return
    counts = ", ".join(f"{count} {what}" for what, count in found.items() if isinstance(count, int))
    typer.echo(("would be: " if dry_run else "") + counts)


def _path(rule: str) -> str:
    return f"/v1/rules/{quote(rule, safe='')}"
