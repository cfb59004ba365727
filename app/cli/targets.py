"""`tallyhook targets`: where Tallyhook sends messages, and whether they arrived."""

import uuid
from typing import Annotated, Any

import typer

from app.cli.api import Api, AsJson, Limit, command
from app.cli.rules.command import DryRun, File, Prune, apply_file, show_diff, show_file
from app.cli.values import choice, decimal
from app.errors import TallyhookError
from app.vocabulary import TargetKind

targets = typer.Typer(
    help="Targets: where messages go, by webhook, e-mail, Slack or a copy of the file.", no_args_is_help=True
)
Target = Annotated[str, typer.Argument(metavar="TARGET", help="The target's name or id.")]
_TARGETS = ("name", "kind", "enabled", "message_types", "url", "recipients", "id")
_DELIVERIES = ("message_id", "target", "type", "state", "tries", "last_status", "last_error", "due_at", "delivered_at")


@command(targets, "list")
async def list_(api: Api, as_json: AsJson = False) -> None:
    """List targets, newest first."""
    from app.cli.output import show_list

    show_list(_TARGETS, await api.list("/v1/targets", limit=10_000), as_json=as_json)


@command(targets)
async def export(api: Api, as_json: AsJson = False) -> None:
    """Print every target as YAML, ordered by name, without secrets; `targets apply` reads it."""
    await show_file(api, "targets", as_json=as_json)


@command(targets)
async def diff(api: Api, file: File, prune: Prune = False, as_json: AsJson = False) -> None:
    """Show what `targets apply` would change: exit code 0 if nothing, 3 if something, 1 if it cannot be applied."""
    await show_diff(api, file, "targets", prune=prune, as_json=as_json)


@command(targets)
async def apply(api: Api, file: File, dry_run: DryRun = False, prune: Prune = False, as_json: AsJson = False) -> None:
    """Make the targets match the file's `targets:`, in one transaction: all or nothing.

    Targets are identified by name. Those that the file does not name stay, unless --prune. `rules apply` does both.
    """
    await apply_file(api, file, "targets", prune=prune, dry_run=dry_run, as_json=as_json)


@command(targets)
async def show(api: Api, target: Target, as_json: AsJson = False) -> None:
    """Show one target."""
    from app.cli.output import show_fields

    show_fields(await api.get(await _path(api, target)), as_json=as_json)


@command(targets)
async def create(
    api: Api,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The target's name.")],
    *,
    kind: Annotated[TargetKind, choice(TargetKind, help="The kind of target:")] = TargetKind.WEBHOOK,
    to: Annotated[
        str | None, typer.Option("--to", help="A webhook's or folder's URL, or the name of a Slack URL.")
    ] = None,
    recipient: Annotated[list[str] | None, typer.Option(help="An e-mail address; repeatable.")] = None,
    message_type: Annotated[list[str] | None, typer.Option(help="run.stored, …; repeatable; default: all.")] = None,
    rule: Annotated[
        list[str] | None, typer.Option(help="Only messages of this rule; repeatable; default: all.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create a target. For a webhook, shows the secret with which its receiver verifies signatures."""
    from app.cli.output import show_fields

    asked: dict[str, Any] = {"name": name, "kind": kind, "url": to, "recipients": recipient, "rules": rule}
    asked["message_types"] = message_type
    given = {field: value for field, value in asked.items() if value is not None}
    show_fields(await api.post("/v1/targets", given), as_json=as_json)


@command(targets, "test")
async def ping(api: Api, target: Target, as_json: AsJson = False) -> None:
    """Send a ping now, and show the answer. Exit code 1 if it did not arrive."""
    from app.cli.output import show_fields

    found = await api.post(f"{await _path(api, target)}/test")
    show_fields(found, as_json=as_json)
    if not found["delivered"]:
        raise typer.Exit(1)


@command(targets)
async def rotate(
    api: Api,
    target: Target,
    overlap_hours: Annotated[
        float, typer.Option(help="How long the old secret stays valid.", parser=decimal(0), metavar="N")
    ] = 24,
) -> None:
    """Give a webhook target a new secret, and show it."""
    found = await api.post(f"{await _path(api, target)}/rotate", {"overlap_hours": overlap_hours})
    typer.echo(found["secret"])


@command(targets)
async def secret(api: Api, target: Target) -> None:
    """Show the secret that a webhook's receiver verifies signatures with; noted in the audit log."""
    typer.echo((await api.post(f"{await _path(api, target)}/secret"))["secret"])


@command(targets)
async def recover(
    api: Api,
    target: Target,
    since: Annotated[str, typer.Option(help="A time like 2026-10-01T00:00:00Z.")],
) -> None:
    """Send again the failed and skipped messages since a given time."""
    from app.sentences import count

    found = await api.post(f"{await _path(api, target)}/recover", {"since": since})
    typer.echo(f"{count(found['recovered'], 'message')} will be sent again")


@command(targets)
async def enable(api: Api, target: Target) -> None:
    """Enable a target: new messages are sent to it. `targets recover` sends what it missed."""
    await api.patch(await _path(api, target), {"enabled": True})
    typer.echo(f"{target} is enabled; `tallyhook targets recover {target} --since …` sends what it missed")


@command(targets)
async def disable(api: Api, target: Target) -> None:
    """Disable a target: its messages are kept as skipped."""
    await api.patch(await _path(api, target), {"enabled": False})
    typer.echo(f"{target} is disabled; its messages are kept as skipped")


@command(targets)
async def remove(api: Api, target: Target) -> None:
    """Remove a target; its deliveries can still be read."""
    await api.delete(await _path(api, target))
    typer.echo(f"removed {target}")


@command(targets)
async def deliveries(api: Api, limit: Limit = 50, as_json: AsJson = False) -> None:
    """List deliveries and their state, newest first."""
    from app.cli.output import show_list

    show_list(_DELIVERIES, await api.list("/v1/deliveries", limit=limit), as_json=as_json)


async def _path(api: Api, target: str) -> str:
    try:
        return f"/v1/targets/{uuid.UUID(target)}"
    except ValueError:
        for one in await api.list("/v1/targets", limit=10_000):
            if one["name"] == target:
                return f"/v1/targets/{one['id']}"
    raise TallyhookError(f"there is no target {target!r}; `tallyhook targets list` shows them")
