"""`tallyhook report-types`, `audit` and `pack`: one command each."""

from typing import Annotated

import typer

from app.cli.api import Api, AsJson, Limit
from app.cli.saving import Force, Output

_TYPES = ("account", "id", "data_available_end", "data_available_start", "name", "missing_reason")
_ENTRIES = ("id", "at", "actor", "action", "subject", "before", "after")


async def report_types(
    api: Api,
    *,
    refresh: Annotated[bool, typer.Option("--refresh", help="Also ask Stripe again, in the background.")] = False,
    account: Annotated[str | None, typer.Option(help="Only report types of this account.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the report types that the accounts can run, and how far their data reaches."""
    from app.cli.output import show_list

    if refresh:
        await api.post("/v1/report-types/refresh")
    found = await api.list("/v1/report-types", limit=10_000)
    show_list(_TYPES, [one for one in found if account in (None, one["account"])], as_json=as_json)


async def audit(
    api: Api,
    *,
    actor: Annotated[str | None, typer.Option(help="Only entries of this actor: a token's name, or cli:USER.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this action: rule.changed, run.retried, …")] = None,
    subject: Annotated[str | None, typer.Option(help="Only entries about this id.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List who changed what, newest first."""
    from app.cli.output import show_list

    found = await api.list("/v1/audit", limit=limit, actor=actor, action=action, subject=subject)
    show_list(_ENTRIES, found, as_json=as_json)


async def pack(
    api: Api,
    month: Annotated[str, typer.Argument(metavar="MONTH", help="Like 2026-10.")],
    *,
    rule: Annotated[list[str] | None, typer.Option(help="Only this rule: name or id; repeatable.")] = None,
    incomplete: Annotated[
        bool, typer.Option("--incomplete", help="Pack what is stored, even if the month is not complete.")
    ] = False,
    output: Output = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write a month's files as one ZIP with a manifest; the same bytes until something changes."""
    import re

    from app.cli.saving import save, tell

    if not re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", month):
        raise typer.BadParameter(f"{month} is not a month: write it like 2026-10", param_hint="MONTH")
    asked = {"rule": rule or None, "incomplete": incomplete or None}
    async with api.stream(f"/v1/packs/{month}.zip", **asked) as answer:
        tell(await save(answer, output, force=force, verify=False), as_json=as_json)
