"""`tallyhook connected-accounts`: which accounts are connected to ours, since when, and which have left."""

from typing import Annotated

import typer

from app.cli.api import Api, AsJson, Limit, command
from app.errors import TallyhookError

connected_accounts = typer.Typer(help="The accounts connected to a platform.", no_args_is_help=True)
_COLUMNS = ("account", "id", "name", "country", "stripe_created_at", "seen_at", "left_at", "source")
Account = Annotated[str | None, typer.Option(help="Only those of this account.")]


@command(connected_accounts, "list")
async def list_command(
    api: Api,
    *,
    account: Account = None,
    left: Annotated[
        bool | None, typer.Option("--left/--present", help="Only those that have left, or only those that have not.")
    ] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List the accounts that Stripe has shown, by id."""
    from app.cli.output import show_list

    show_list(_COLUMNS, await _found(api, limit, account=account, left=left), as_json=as_json)


@command(connected_accounts, "show")
async def show_command(
    api: Api, id_: Annotated[str, typer.Argument(metavar="ID", help="acct_…")], *, account: Account = None
) -> None:
    """Show one as a JSON list, with an entry for each account that it is connected to."""
    from app.cli.output import show_json

    found = await _found(api, 100, account=account, id=id_)
    if not found:
        raise TallyhookError(f"no connected account {id_} is known: accounts are listed only if a rule needs them")
    show_json(found)


async def _found(api: Api, limit: int, **params: object) -> list[dict[str, object]]:
    return await api.list("/v1/connected-accounts", limit=limit, **params)
