"""The checks of health that are about webhooks: do they come, the right ones, and signed with which secret?"""

from datetime import datetime, timedelta

from app.api.schemas.health import CheckOut, Status
from app.health.rows import Facts
from app.health.text import check, names, span
from app.settings import Account, Settings
from app.stripe_api.signatures import fingerprint

# A secret that was rotated out is of no use for longer: Stripe signs with both for a day at most.
ROTATED_AFTER = timedelta(days=1)


def webhook_checks(facts: Facts, settings: Settings) -> list[CheckOut]:
    """Every check about webhooks."""
    accounts = [settings.accounts[row.account] for row in facts.accounts]
    return [_last(facts, accounts), _selection(facts, accounts), _secrets(facts, accounts)]


def _last(facts: Facts, accounts: list[Account]) -> CheckOut:
    last = {account.slug: max(_uses(facts, account).values(), default=None) for account in accounts}
    found = [
        f"{slug}: no webhook of late" if at is None else f"{slug}: the last webhook came {_ago(facts, at)}"
        for slug, at in last.items()
    ]
    return check("webhooks", "; ".join(found) or "no account is configured")


def _selection(facts: Facts, accounts: list[Account]) -> CheckOut:
    """Whether Stripe tells of new data: an endpoint that is sent `*` is not told of it."""
    found = [
        f"{one.account}: data of {one.types} report types ({one.example}) moved and no webhook told of it; "
        "is reporting.report_type.updated selected by name? `tallyhook doctor` says"
        for one in facts.untold
    ]
    if found:
        return check("endpoint_selection", "; ".join(found), Status.DEGRADED)
    silent = [account.slug for account in accounts if not account.webhook_secrets]
    if silent:
        detail = f"without a signing secret, and so living on polling alone: {names(silent)}"
        return check("endpoint_selection", detail)
    return check("endpoint_selection", "webhooks told of all data that moved")


def _secrets(facts: Facts, accounts: list[Account]) -> CheckOut:
    found = [line for account in accounts for line in _secrets_of(facts, account)]
    return check("webhook_secrets", "; ".join(found) or "there is none")


def _secrets_of(facts: Facts, account: Account) -> list[str]:
    """A secret is told by its place in the setting and the first digits of its SHA-256, never by itself."""
    uses = _uses(facts, account)
    marks = [fingerprint(secret.get_secret_value()) for secret in account.webhook_secrets]
    newest = max((uses[mark] for mark in marks if mark in uses), default=None)
    lines = []
    for place, mark in enumerate(marks, start=1):
        at = uses.get(mark)
        said = "signed none of the webhooks of late" if at is None else f"signed its last webhook {_ago(facts, at)}"
        if newest is not None and newest - (at or facts.heard[0].looked_back_to) > ROTATED_AFTER:
            said += ", while another one is in use: if it was rotated out, it can go"
        lines.append(f"{account.slug}: {place} of {len(marks)} (SHA-256 {mark}…) {said}")
    return lines


def _uses(facts: Facts, account: Account) -> dict[str, datetime]:
    """When the account's webhooks came last, by the secret that signed them."""
    return {row.signed_with: row.last_at for row in facts.heard if row.account == account.slug}


def _ago(facts: Facts, at: datetime) -> str:
    return f"{span(facts.queue.now - at)} ago"
