"""`tallyhook events`: list and replay the events that Stripe has sent."""

from typing import Annotated

import typer

from app.vocabulary import EventStatus

events = typer.Typer(help="The events that Stripe has sent.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_COLUMNS = ("id", "stripe_event_id", "account", "type", "object_id", "received_at", "status", "reason")


@events.command("list")
def list_command(
    *,
    status: Annotated[EventStatus | None, typer.Option(help="Only events with this status.")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="Only events of this type.")] = None,
    account: Annotated[str | None, typer.Option(help="Only events of this account.")] = None,
    limit: Annotated[int, typer.Option(help="At most this many, the newest.", min=1, max=10_000)] = 50,
    as_json: AsJson = False,
) -> None:
    """List stored events, newest first."""
    from app.api.events import EventOut
    from app.cli.output import show_json, show_table
    from app.cli.session import opened, run_once
    from app.inbox.events import EventFilters, list_events

    filters = EventFilters(status=status, type=type_, account=account)

    async def read() -> list[EventOut]:
        async with opened() as res, res.sessions() as session:
            return [EventOut.model_validate(event) for event in await list_events(session, filters, limit=limit)]

    found = run_once(read)
    if as_json:
        show_json([event.model_dump(mode="json") for event in found])
    else:
        show_table(_COLUMNS, [[getattr(event, name) for name in _COLUMNS] for event in found])


@events.command("replay")
def replay_command(
    event_ids: Annotated[list[str], typer.Argument(metavar="EVENT_ID", help="Our ids, or Stripe's (evt_…).")],
    as_json: AsJson = False,
) -> None:
    """Replay events, all or none; a worker handles them."""
    from app.api.events import EventOut
    from app.cli.output import show_json
    from app.cli.session import actor, opened, run_once
    from app.inbox.events import find, replay

    async def act() -> list[EventOut]:
        async with opened() as res, res.sessions.begin() as session:
            found = [await find(session, event_id) for event_id in event_ids]
            for event in found:
                await replay(session, event.id, by=actor())
            return [EventOut.model_validate(await find(session, str(event.id))) for event in found]

    found = run_once(act)
    if as_json:
        show_json([event.model_dump(mode="json") for event in found])
        return
    for event in found:
        typer.echo(f"event {event.id} ({event.stripe_event_id}) will be replayed")
