"""`tallyhook events`: list, show and replay Stripe's events."""

from typing import Annotated
from urllib.parse import quote

import typer

from app.cli.api import Api, AsJson, Limit, command
from app.cli.values import choice
from app.vocabulary import EventStatus

events = typer.Typer(help="The events that Stripe has sent.", no_args_is_help=True)
_COLUMNS = ("id", "stripe_event_id", "account", "type", "object_id", "received_at", "status", "reason")


@command(events, "list")
async def list_command(
    api: Api,
    *,
    status: Annotated[EventStatus | None, choice(EventStatus, help="Only events with this status:")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="Only events of this type.")] = None,
    account: Annotated[str | None, typer.Option(help="Only events of this account.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List kept events, newest first."""
    from app.cli.output import show_list

    found = await api.list("/v1/events", limit=limit, status=status, type=type_, account=account)
    show_list(_COLUMNS, found, as_json=as_json)


@command(events, "show")
async def show_command(
    api: Api, event_id: Annotated[str, typer.Argument(metavar="EVENT_ID", help="Tallyhook's id, or Stripe's (evt_…).")]
) -> None:
    """Show an event as received, as JSON."""
    from app.cli.output import show_json

    show_json(await api.get(f"/v1/events/{quote(event_id, safe='')}"))


@command(events, "replay")
async def replay_command(
    api: Api,
    event_ids: Annotated[list[str], typer.Argument(metavar="EVENT_ID", help="Tallyhook's ids, or Stripe's (evt_…).")],
    as_json: AsJson = False,
) -> None:
    """Have the worker handle events again. If one is unknown, none is handled."""
    from app.cli.output import show_json

    known = [await api.get(f"/v1/events/{quote(event_id, safe='')}") for event_id in event_ids]
    found = [await api.post(f"/v1/events/{event['id']}/replay") for event in known]
    if as_json:
        show_json(found)
        return
    for event in found:
        typer.echo(f"event {event['id']} ({event['stripe_event_id']}) will be replayed")
