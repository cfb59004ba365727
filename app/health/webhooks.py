"""The checks of webhooks: do they arrive, the right ones, and signed with which secret?"""

from datetime import datetime, timedelta

from app.health import rows
from app.health.registry import View, check
from app.health.results import Check, Link, LinkKind, degraded, ok
from app.health.text import names, span
from app.settings import Account
from app.stripe_api.signatures import fingerprint

# A secret that was rotated out is of no use for longer: Stripe signs with both for a day at most.
ROTATED_AFTER = timedelta(days=1)


async def _heard(view: View) -> list[rows.Heard]:
    return await rows.heard(view.session)


@check
async def webhooks(view: View) -> Check:
    """When the last webhook of each account came."""
    heard = await view.once(_heard)
    found = []
    for account in _accounts(view):
        last = max(_uses(heard, account).values(), default=None)
        came = "no webhook recently" if last is None else f"the last webhook came {span(view.now - last)} ago"
        found.append(f"{account.slug}: {came}")
    return ok("webhooks", "; ".join(found) or "no account is configured", link=Link(LinkKind.EVENTS))


@check
async def endpoint_selection(view: View) -> Check:
    """Whether Stripe announces new data: an endpoint that is sent `*` is not told."""
    accounts = _accounts(view)
    found = [
        f"{one.account}: data of {one.types} report types ({one.example}) moved and no webhook said so"
        for one in await rows.unannounced(
            view.session, accounts=[account.slug for account in accounts if account.webhook_secrets]
        )
    ]
    if found:
        advice = "select reporting.report_type.updated by name: `tallyhook doctor --fix --url …` does it"
        return degraded("endpoint_selection", "; ".join(found), advice)
    silent = [account.slug for account in accounts if not account.webhook_secrets]
    if silent:
        detail = f"without a signing secret, so relying on polling only: {names(silent)}"
        return ok("endpoint_selection", detail, advice="set STRIPE_WEBHOOK_SECRET to learn of new data sooner")
    return ok("endpoint_selection", "webhooks announced all data that moved")


@check
async def webhook_secrets(view: View) -> Check:
    """Which secrets are in use, so that one that was rotated out can go."""
    heard = await view.once(_heard)
    found = [line for account in _accounts(view) for line in _secrets_of(heard, account, view.now)]
    return ok("webhook_secrets", "; ".join(found) or "none is configured")


def _secrets_of(heard: list[rows.Heard], account: Account, now: datetime) -> list[str]:
    """A secret is shown by its place in the setting and the first digits of its SHA-256, never by itself."""
    uses = _uses(heard, account)
    marks = [fingerprint(secret.get_secret_value()) for secret in account.webhook_secrets]
    newest = max((uses[mark] for mark in marks if mark in uses), default=None)
    lines = []
    for place, mark in enumerate(marks, start=1):
        at = uses.get(mark)
        said = "signed none of the recent webhooks" if at is None else f"signed its last webhook {span(now - at)} ago"
        if newest is not None and newest - (at or heard[0].looked_back_to) > ROTATED_AFTER:
            said += ", while another one is in use: if it was rotated out, it can go"
        lines.append(f"{account.slug}: {place} of {len(marks)} (SHA-256 {mark}…) {said}")
    return lines


def _accounts(view: View) -> list[Account]:
    return [view.settings.accounts[slug] for slug in sorted(view.settings.accounts)]


def _uses(heard: list[rows.Heard], account: Account) -> dict[str | None, datetime]:
    """When the account's webhooks came last, by the secret that signed them."""
    return {row.signed_with: row.last_at for row in heard if row.account == account.slug}
