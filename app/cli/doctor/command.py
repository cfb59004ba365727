"""`tallyhook doctor`: checks everything that must be right, and says how to fix what is not."""

from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

if TYPE_CHECKING:
    from app.cli.doctor.database import Known
    from app.cli.doctor.endpoint import Fixed
    from app.health.results import Check
    from app.settings import Settings
    from app.stripe_api.client import StripeClient

Url = Annotated[
    str | None, typer.Option(help="Where this service receives webhooks: https://YOUR-HOST/webhooks/stripe.")
]


def doctor(
    url: Url = None,
    fix: Annotated[bool, typer.Option("--fix", help="Register or repair the webhook endpoint at --url.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check settings, database, keys, permissions, webhook endpoint and clock; say what to do about each finding.

    Exit code 0 when nothing fails, else 1.
    """
    base = _checked(url)
    if fix and base is None:
        raise typer.BadParameter("needs --url, the URL that the endpoint should point to", param_hint="--fix")

    from app.cli.doctor import view
    from app.cli.ending import run_once
    from app.health.results import Status, worst

    findings, fixed = run_once(lambda: examine(base, fix=fix))
    if as_json:
        view.show_json(findings, fixed)
    else:
        view.show(findings, fixed)
    if worst(findings) is Status.FAILING:
        raise typer.Exit(1)


def _checked(url: str | None) -> str | None:
    if url is None:
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not parts.path.endswith("/webhooks/stripe"):
        raise typer.BadParameter("must be like https://YOUR-HOST/webhooks/stripe", param_hint="--url")
    return url


async def examine(base: str | None, *, fix: bool) -> "tuple[list[Check], list[Fixed]]":
    """Read the settings, repair on request, check everything; also returns what was repaired."""
    from app.cli.session import quieten
    from app.errors import SettingsError
    from app.health.results import failing
    from app.settings import load_settings

    quieten()
    try:
        settings = load_settings()
    except SettingsError as error:
        advice = "fix it in the environment, in `.env`, or in the file that NAME_FILE names"
        return [failing("settings", line, advice) for line in str(error).splitlines()], []
    quieten(settings)
    return await examine_with(settings, base, fix=fix)


async def examine_with(settings: "Settings", base: str | None, *, fix: bool) -> "tuple[list[Check], list[Fixed]]":
    """Examine an installation with valid settings."""
    import asyncio

    from app.cli.doctor.database import examine_database
    from app.cli.doctor.stripe import examine_account, examine_settings
    from app.health.outside import examine_clock
    from app.stripe_api.client import StripeClient

    client = StripeClient(settings)
    try:
        database, known = await examine_database(settings)
        fixed, unfixed = await _fix(client, settings, known, base) if fix and base is not None else ([], [])
        clock = await examine_clock(settings)
        about = (examine_account(client, settings, slug, known, base=base) for slug in sorted(settings.accounts))
        found = await asyncio.gather(*about)
    finally:
        await client.close()
    about_accounts = [finding for findings in found for finding in findings]
    return [*examine_settings(settings), *database, clock, *unfixed, *about_accounts], fixed


async def _fix(
    client: "StripeClient", settings: "Settings", known: "Known", base: str
) -> "tuple[list[Fixed], list[Check]]":
    """Register or repair the endpoint of every account with a key and an endpoint of its own, and a platform's second
    one; what Stripe does not allow becomes a finding."""
    from app.cli.doctor.endpoint import fix_endpoint
    from app.errors import StripeCallError
    from app.health.endpoints import url_for
    from app.health.results import failing
    from app.vocabulary import CONNECT_EVENTS, OWN_EVENTS, PAYOUT_EVENTS

    fixed, unfixed = [], []
    for account in sorted(slug for slug in client.accounts if not settings.accounts[slug].heard_by_others):
        url, advice = url_for(base, account), _about_secret(settings, account)
        try:
            needs = known[account].needs if account in known else None
            events = (*OWN_EVENTS, *(PAYOUT_EVENTS if needs and needs.payouts else ()))
            fixed.append(await fix_endpoint(client, account, events, url=url, advice=advice))
            if needs and needs.connect:
                fixed.append(await fix_endpoint(client, account, CONNECT_EVENTS, url=url, advice=advice, connect=True))
        except StripeCallError as error:
            advice = "give the key the permission `Webhook Endpoints: write`, or register it in Stripe's Dashboard"
            detail = f"the webhook endpoint was not repaired: {error}"
            unfixed.append(failing("fix", detail, advice, account=account))
    return fixed, unfixed


def _about_secret(settings: "Settings", account: str) -> str:
    """What to do with the secret of a new endpoint."""
    where = settings.accounts.place_of(account, "webhook_secrets")
    if account not in settings.accounts.configured:
        return f"It is not shown again: set {where} to the current ones and this one."
    after = " (after a comma, if there is one already)" if where == "STRIPE_WEBHOOK_SECRET" else ""
    return f"It is not shown again: put it into {where}{after}, and restart `tallyhook serve`."
