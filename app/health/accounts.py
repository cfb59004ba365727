"""The checks of accounts: is one configured, and does Stripe accept its key?"""

from dataclasses import dataclass

from sqlalchemy import text

from app.accounts import connected, payouts
from app.db.rows import fetch_one
from app.health import rows
from app.health.registry import View, check
from app.health.results import Check, Link, LinkKind, degraded, failing, ok
from app.health.text import calls, names, span
from app.keys import rows as key_rows
from app.observability.logs import redact
from app.sentences import count


@check
async def credentials(view: View) -> Check:
    """Whether every account has a key that Stripe accepts."""
    accounts = view.settings.accounts
    if not any(account.api_key for account in accounts.values()):
        advice = "set STRIPE_API_KEY and STRIPE_WEBHOOK_SECRET, or STRIPE_ACCOUNTS for several accounts"
        return failing("credentials", "no account has an API key: no reports can be requested", advice)
    held = await rows.holds(view.session, configured=sorted(accounts))
    keyless = sorted(slug for slug, account in accounts.items() if account.api_key is None)
    found = [
        f"of {hold.account} for {calls(hold.call_kind)} ({redact(hold.reason)}), for {span(view.now - hold.since)} now"
        for hold in held
    ]
    if found:
        advice = "fix the key, its permissions or the account that it belongs to: `tallyhook doctor` says which"
        concerned = {hold.account for hold in held}
        account = concerned.pop() if len(concerned) == 1 else None
        link = Link(LinkKind.ACCOUNTS)
        return degraded("credentials", f"Stripe refuses the key {names(found)}", advice, account=account, link=link)
    if keyless:
        advice = f"set {names([accounts.place_of(slug, 'api_key') for slug in keyless])}"
        return degraded(
            "credentials", f"accounts without an API key: {names(keyless)}", advice, link=Link(LinkKind.ACCOUNTS)
        )
    return ok("credentials", "Stripe accepts every key")


@check
async def connected_accounts(view: View) -> Check:
    """Whether the lists of connected accounts can be read, if rules need them."""
    states = [one for one in await connected.list_states(view.session) if one.account in view.settings.accounts]
    refused = [f"{one.account}: {redact(one.refusal)}" for one in states if one.refusal is not None]
    if refused:
        advice = "give the key the permission `Accounts: read`, unless Stripe's answer says what else is wrong"
        detail = f"Stripe does not list the connected accounts of {names(refused)}"
        return degraded("connected_accounts", detail, advice, link=Link(LinkKind.ACCOUNTS))
    doubted = [one.account for one in states if one.doubted]
    if doubted:
        advice = (
            "nothing changes until a second complete list says the same; if this one is wrong, check key and account"
        )
        detail = f"Stripe's list lacks most of the accounts that it had: {names(doubted)}"
        return degraded("connected_accounts", detail, advice, link=Link(LinkKind.ACCOUNTS))
    found = [
        f"{one.account}: {one.connected}"
        + (f" ({count(one.odd_items, 'item')} of the list cannot be read)" if one.odd_items else "")
        for one in states
    ]
    return ok("connected_accounts", "; ".join(found) or "no rule needs the list of connected accounts")


@check
async def payout_lists(view: View) -> Check:
    """Whether the lists of payouts can be read, if rules need them."""
    lacking = [one for one in await payouts.lacking_lists(view.session) if one.account in view.settings.accounts]
    refused, unreadable = list[str](), list[str]()
    for one in lacking:
        said = f"{one.account}: {count(one.number, 'list')} ({one.connected_account or 'its own'}"
        if one.refusal is None:
            unreadable.append(f"{said})")
        else:
            refused.append(f"{said}: {redact(one.refusal)})")
    if refused:
        advice = "give the key the permission `Payouts: read`, or leave out the accounts that Stripe refuses (`except`)"
        detail = f"Stripe does not list the payouts, so no reports of them are requested: {names(refused)}"
        return degraded("payout_lists", detail, advice, link=Link(LinkKind.ACCOUNTS))
    if unreadable:
        advice = "the log line `stripe.unreadable_item` says what is wrong with it: report it to Stripe, or to us"
        detail = f"an item of a list of payouts cannot be read, so its months are not complete: {names(unreadable)}"
        return degraded("payout_lists", detail, advice, link=Link(LinkKind.ACCOUNTS))
    return ok("payout_lists", "every list of payouts that a rule needs can be read")


@dataclass(frozen=True, slots=True)
class Timeline:
    """The server's timeline, if it can be read, and the accounts whose watermark is from another one."""

    timeline: int | None
    waiting: list[str]


@check
async def fail_over(view: View) -> Check:
    """Whether a fail-over to a standby that lacks the last commits would be noticed, and whether one is handled."""
    found = await fetch_one(view.session, Timeline, _TIMELINE, {"accounts": list(view.settings.accounts)})
    if found.waiting:
        detail = (
            f"a standby took over the database: nothing is requested for {names(found.waiting)}"
            " until Stripe's list has been read"
        )
        return degraded("fail_over", detail, "nothing to do: it takes a minute, unless Stripe refuses the list")
    if found.timeline is None:
        detail = "the server does not show its timeline: a fail-over that loses less than a minute goes unnoticed"
        return ok("fail_over", f"{detail}; replicate synchronously")
    return ok("fail_over", f"no standby has just taken over the database (timeline {found.timeline})")


_TIMELINE = text("""
select server_timeline() as timeline, array(
    select slug from accounts where slug = any(cast(:accounts as text[])) and timeline <> server_timeline()
    order by slug) as waiting
""")


@check
async def account_keys(view: View) -> Check:
    """Whether the keys kept in rows can be opened, and which encryption keys are still needed."""
    sealed = await key_rows.count_by_key(view.session)
    if not sealed:
        return ok("account_keys", "every account is configured in the settings, none by the API")
    known = key_rows.names_of(view.settings.key_encryption_key)
    link = Link(LinkKind.ACCOUNTS)
    if lost := sum(number for name, number in sealed.items() if name not in known):
        detail = f"{count(lost, 'account')} cannot be opened: sealed with {names(sorted(sealed.keys() - set(known)))}"
        advice = "put that key back into TALLYHOOK_KEY_ENCRYPTION_KEY, after the new one, or enter the API keys again"
        return failing("account_keys", detail, advice, link=link)
    if problems := view.settings.accounts.problems:
        detail = names([f"{slug}: {why}" for slug, why in sorted(problems.items())])
        return degraded("account_keys", detail, "enter the account's keys again (PATCH, or DELETE and POST)", link=link)
    if old := sum(number for name, number in sealed.items() if name != known[0]):
        detail = f"an older encryption key is still needed for {old} of {count(sum(sealed.values()), 'account')}"
        advice = "keep it: a worker seals them with the first one within the hour, at once after a restart"
        return ok("account_keys", f"{detail}; {advice}")
    accounts_are = count(sum(sealed.values()), "account is", "accounts are")
    detail = f"{accounts_are} sealed with the first encryption key, and none with another"
    return ok("account_keys", detail + ("; the other keys can go" if len(known) > 1 else ""))


@check
async def unreadable_items(view: View) -> Check:
    """Whether every item in Stripe's lists of report types and runs could be read."""
    found = await rows.unreadable_items(view.session, configured=sorted(view.settings.accounts))
    if not found:
        return ok("unreadable_items", "every report type and run that Stripe lists can be read")
    said = [
        f"{one.account}: {count(one.number, one.kind.replace('_', ' '))} cannot be read ({one.example}),"
        f" for {span(view.now - one.first_at)} now"
        for one in found
    ]
    advice = "the rest of the list is used; if you need what is left out, report it with this text to Stripe, or to us"
    return degraded("unreadable_items", names(said), advice, link=Link(LinkKind.REPORT_TYPES))
