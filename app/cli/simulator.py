"""`tallyhook simulator`: the Stripe reporting simulator alone, to try your own integration."""

import asyncio
from typing import Annotated

import typer

from app.cli.values import PORT

HostOption = Annotated[str, typer.Option(help="The address to listen on: anyone who can reach it controls it.")]
PortOption = Annotated[int, typer.Option(help="The port to listen on; 0 picks a free one.", parser=PORT, metavar="N")]
WebhookOption = Annotated[str, typer.Option(help="Where the signed events of both accounts are sent.")]


def simulator(
    host: HostOption = "127.0.0.1",
    port: PortOption = 12111,
    webhook: WebhookOption = "http://127.0.0.1:8000/webhooks/stripe",
) -> None:
    """Simulate Stripe's reporting side on this machine, to try an integration."""
    from app.simulator import run_forever

    try:
        asyncio.run(run_forever(port, host=host, webhook=webhook, say=typer.echo))
    except OSError as error:
        typer.echo(f"The simulator cannot listen on port {port}: {error.strerror}. Try another --port.", err=True)
        raise typer.Exit(1) from error
