"""`tallyhook login-link`: a link to the pages for somebody who has no token."""

from typing import Annotated

import typer

from app.cli.api import Token
from app.vocabulary import Role


def login_link(
    name: Annotated[str | None, typer.Option(help="The user, as named in the audit log. Default: you.")] = None,
    role: Annotated[Role, typer.Option(help="What this user may do.")] = Role.ADMIN,
    url: Annotated[
        str | None,
        typer.Option(
            envvar="TALLYHOOK_URL",
            help="Where people reach the pages; with --token, also the server to ask. Default:"
            " TALLYHOOK_PUBLIC_URL, or this machine.",
        ),
    ] = None,
    token: Token = None,
) -> None:
    """Print a link that logs somebody in to the pages once, within five minutes."""
    if url is not None and token is not None:
        typer.echo(_asked(url, token, {"name": name, "role": role.value}))
        return
    from app.cli.ending import run_once
    from app.cli.session import actor, opened
    from app.web import sessions
    from app.web.login_links import link_address

    async def make() -> str:
        async with opened() as res:
            by = actor()
            async with res.sessions.begin() as session:
                link, _ = await sessions.make_link(session, name=name or by, role=role, origin=by, by=by)
            here = f"http://127.0.0.1:8000{res.settings.base_path}"
            return link_address((url or res.settings.public_url or here).rstrip("/"), link)

    typer.echo(run_once(make))


def _asked(url: str, token: str, whom: dict[str, str | None]) -> str:
    """A link from the server at this address."""
    from app.cli.api import reached
    from app.cli.ending import run_once

    async def ask() -> str:
        async with reached(url, token) as api:
            given = {name: value for name, value in whom.items() if value is not None}
            return str((await api.post("/v1/login-links", given))["url"])

    return run_once(ask)
