"""The checks of webhooks: do they arrive, the right ones, and signed with which secret?"""

from datetime import datetime, timedelta

from app.health import rows
from app.health.registry import View, check
from app.health.results import Check, Link, LinkKind, degraded, ok
from app.health.text import MOST_NAMES, names, span
from app.sentences import count
from app.settings import Account
from app.stripe_api.signatures import fingerprint

# A rotated-out secret is useless after this: Stripe signs with both for a day at most.
ROTATED_AFTER = timedelta(days=1)

# Stripe announces data twice a day: a secret that signed nothing for longer, while others did, is not in use.
QUIET = timedelta(hours=13)
# Reasons that only a delivery with a well-formed signature has, and what to do; `{place}` is where the secrets are set.
_OF_STRIPE = {
    "bad_signature": "add the endpoint's signing secret to {place}, beside the current one; or stop a proxy from "
    "changing bodies in transit",
    "wrong_time": "synchronize the clock with NTP (chrony, systemd-timesyncd)",
}


async def _heard(view: View) -> list[rows.Heard]:
    return await rows.heard(view.session)


@check
async def webhooks(view: View) -> Check:
    """When the last webhook of each account came."""
    heard = await view.once(_heard)
    found = []
    for account in _accounts(view):
        last = max(_uses(heard, account).values(), default=None)
        came = "no webhook recently" if last is None else f"the last webhook arrived {span(view.now - last)} ago"
        found.append(f"{account.slug}: {came}")
    return ok("webhooks", "; ".join(found) or "no account is configured", link=Link(LinkKind.EVENTS))


@check
async def deliveries_refused(view: View) -> Check:
    """Whether Stripe's own deliveries are refused: signed, but with another secret or at another time."""
    heard = await view.once(_heard)
    refused = await rows.refused_deliveries(view.session, configured=sorted(view.settings.accounts))
    lost = [
        one for one in refused if one.reason in _OF_STRIPE and _is_lost(one, heard, view.settings.accounts[one.account])
    ]
    if not lost:
        said = "; ".join(_refused(one, view.now) for one in refused)
        return ok("deliveries_refused", f"none that Stripe could have sent{f' ({said})' if said else ''}")
    accounts = {one.account for one in lost}
    hints = (_OF_STRIPE[one.reason].format(place=_place(view, one.account)) for one in lost)
    advice = "; ".join(list(dict.fromkeys(hints))[:MOST_NAMES])
    which = "; ".join(_refused(one, view.now) for one in lost)
    detail = f"deliveries are refused, and none has been accepted since: {which}"
    account = accounts.pop() if len(accounts) == 1 else None
    return degraded("deliveries_refused", detail, advice, account=account, link=Link(LinkKind.ACCOUNTS))


def _refused(one: rows.Refused, now: datetime) -> str:
    return f"{one.account}: {one.number} refused ({one.reason}), the last {span(now - one.last_at)} ago"


def _is_lost(one: rows.Refused, heard: list[rows.Heard], account: Account) -> bool:
    """Whether nothing was accepted since these began: otherwise Stripe's own arrive, and somebody else sends these."""
    marks = {fingerprint(secret.get_secret_value()) for secret in account.webhook_secrets}
    accepted = max(
        (row.last_at for row in heard if row.account == one.account or row.signed_with in marks), default=None
    )
    return accepted is None or accepted < max(one.first_at, one.last_at - QUIET)


@check
async def endpoint_selection(view: View) -> Check:
    """Whether Stripe announces new data: an endpoint for `*` is not notified."""
    accounts = _accounts(view)
    found = [
        f"{one.account}: data of {count(one.types, 'report type')} ({one.example}) advanced without a webhook"
        for one in await rows.unannounced(
            view.session, accounts=[account.slug for account in accounts if account.webhook_secrets]
        )
    ]
    if found:
        advice = "select reporting.report_type.updated by name: `tallyhook doctor --fix --url …` does it"
        return degraded("endpoint_selection", "; ".join(found), advice)
    silent = [account.slug for account in accounts if not account.webhook_secrets and not account.heard_by_others]
    if silent:
        detail = f"accounts without a signing secret, which rely on polling: {names(silent)}"
        advice = f"set {names([_place(view, slug) for slug in silent])} to get new data sooner"
        return ok("endpoint_selection", detail, advice=advice)
    return ok("endpoint_selection", "webhooks announced all new data")


@check
async def webhook_secrets(view: View) -> Check:
    """Which secrets are in use, so that one that was rotated out can go."""
    heard = await view.once(_heard)
    found = [line for account in _accounts(view) for line in _secrets_of(heard, account, view.now)]
    return ok("webhook_secrets", "; ".join(found) or "none is configured")


def _secrets_of(heard: list[rows.Heard], account: Account, now: datetime) -> list[str]:
    """A secret is shown by its place in the setting and the first digits of its SHA-256, never itself."""
    # By the secret alone: a platform's signs the events of the accounts that are connected to it, too.
    uses = {row.signed_with: row.last_at for row in sorted(heard, key=lambda row: row.last_at)}
    marks = [fingerprint(secret.get_secret_value()) for secret in account.webhook_secrets]
    newest = max((uses[mark] for mark in marks if mark in uses), default=None)
    lines = []
    for place, mark in enumerate(marks, start=1):
        at = uses.get(mark)
        said = "signed none of the recent webhooks" if at is None else f"signed its last webhook {span(now - at)} ago"
        if newest is not None and newest - (at or heard[0].looked_back_to) > ROTATED_AFTER:
            said += ", while another one is in use: if it was rotated out, remove it"
        lines.append(f"{account.slug}: {place} of {len(marks)} (SHA-256 {mark}…) {said}")
    return lines


def _place(view: View, account: str) -> str:
    return view.settings.accounts.place_of(account, "webhook_secrets")


def _accounts(view: View) -> list[Account]:
    return [view.settings.accounts[slug] for slug in sorted(view.settings.accounts)]


def _uses(heard: list[rows.Heard], account: Account) -> dict[str | None, datetime]:
    """When the account's webhooks came last, by the secret that signed them."""
    return {row.signed_with: row.last_at for row in heard if row.account == account.slug}
