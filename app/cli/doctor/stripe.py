"""The doctor's Stripe checks: for each account the key, whose it is and what it is allowed to do."""

from collections.abc import Awaitable
from datetime import UTC, datetime

from app.cli.doctor.database import Known
from app.errors import KeyRefused, StripeCallError
from app.health.endpoints import url_for, webhook_endpoint
from app.health.results import Check, Status, degraded, failing, ok
from app.sentences import count
from app.settings import Account, Settings
from app.stripe_api.client import StripeClient
from app.stripe_api.objects import StripeRun
from app.stripe_api.webhook_endpoints import check_files
from app.vocabulary import Role

_REPORTING = "give the key the permission `All Reporting resources: write` (or create a restricted key with it)"
_FILES = "give the key the permission `Files: read`"


def examine_settings(settings: Settings) -> list[Check]:
    """Settings that are valid but suspicious."""
    found = [degraded("settings", odd, "fix it, or remove it") for odd in settings.warnings]
    if not settings.accounts:
        advice = "set STRIPE_API_KEY and STRIPE_WEBHOOK_SECRET, or STRIPE_ACCOUNTS for several"
        found.append(failing("settings", "no Stripe account is configured", advice))
    if settings.admin_token is None and all(token.role is not Role.ADMIN for token in settings.tokens.values()):
        advice = "set TALLYHOOK_ADMIN_TOKEN to the output of `openssl rand -hex 32`"
        found.append(degraded("settings", "there is no admin token: the admin API refuses every write", advice))
    return found or [ok("settings", "the settings are valid")]


async def examine_account(
    client: StripeClient, settings: Settings, slug: str, known: Known, *, base: str | None
) -> list[Check]:
    """All checks of one account; `base` is the URL of the webhooks, if known."""
    account, place = settings.accounts[slug], settings.accounts.place_of(slug, "api_key")
    own = [_secrets(account, settings.accounts.place_of(slug, "webhook_secrets"))]
    if account.api_key is None:
        advice = f"set {place}: without it no reports can be requested"
        return [failing("key", "there is no API key for this account", advice, account=slug), *own]
    key, seen = await _key(client, account, place)
    if key.status is Status.FAILING:
        return [key, *own]
    return [
        key,
        *_binding(account, seen, known),
        await _permission(client.list_report_types(slug), "key_report_types", "list report types", slug, _REPORTING),
        await _permission(_newest(client, slug), "key_report_runs", "list report runs", slug, _REPORTING),
        await _permission(check_files(client, slug), "key_files", "download files", slug, _FILES),
        *([] if account.heard_by_others else [await _endpoint(client, slug, known, base)]),
        *own,
    ]


async def _endpoint(client: StripeClient, slug: str, known: Known, base: str | None) -> Check:
    needs = known[slug].needs if slug in known else None
    return await webhook_endpoint(client, slug, url=base and url_for(base, slug), needs=needs)


async def _key(client: StripeClient, account: Account, place: str) -> tuple[Check, str | None]:
    """Whether Stripe accepts the key, and the `acct_…` it belongs to, if the key is allowed to read that."""
    slug = account.slug
    mode = {None: "a key", True: "a live key", False: "a test key"}[account.livemode]
    try:
        seen = await client.read_account_id(slug)
    except KeyRefused as error:
        if error.status == 403:
            detail = f"{mode}, accepted; it is not allowed to read its account, so the account cannot be checked"
            return ok("key", detail, account=slug), None
        advice = f"create a new key in Stripe's Dashboard and set {place}"
        return failing("key", f"Stripe refuses the key: {error}", advice, account=slug), None
    except StripeCallError as error:
        advice = "check the network, a proxy, and STRIPE_API_BASE"
        return failing("key", f"Stripe cannot be reached: {error}", advice, account=slug), None
    return ok("key", f"{mode} of {seen}", account=slug), seen


def _binding(account: Account, seen: str | None, known: Known) -> list[Check]:
    """A slug stays bound to its first account and mode (accounts/identity)."""
    bound = known.get(account.slug)
    if bound is None or (bound.stripe_account_id is None and bound.livemode is None):
        return []
    same_account = None in (bound.stripe_account_id, seen) or bound.stripe_account_id == seen
    same_mode = None in (bound.livemode, account.livemode) or bound.livemode == account.livemode
    if same_account and same_mode:
        return [ok("account", "the key belongs to the account that this name is bound to", account=account.slug)]
    clash = (
        f"the key belongs to {seen}, but this name is bound to {bound.stripe_account_id}"
        if not same_account
        else "the key's mode (live or test) is not the one that this name is bound to"
    )
    detail = f"{clash}: the key is not used"
    advice = "restore the right key, or give the other account its own name in STRIPE_ACCOUNTS"
    return [failing("account", detail, advice, account=account.slug)]


async def _permission(call: Awaitable[object], name: str, what: str, account: str, advice: str) -> Check:
    try:
        await call
    except KeyRefused as error:
        return failing(name, f"the key is not allowed to {what}: {error}", advice, account=account)
    except StripeCallError as error:
        detail = f"cannot check whether the key is allowed to {what}: {error}"
        return failing(name, detail, "check STRIPE_API_BASE and STRIPE_FILES_BASE, and try again", account=account)
    return ok(name, f"the key is allowed to {what}", account=account)


async def _newest(client: StripeClient, account: str) -> list[StripeRun]:
    """Runs created since now: usually an empty page."""
    return [run async for run in client.list_runs(account, created_since=datetime.now(UTC))]


def _secrets(account: Account, place: str) -> Check:
    if account.webhook_secrets:
        detail = count(len(account.webhook_secrets), "signing secret is", "signing secrets are")
        return ok("webhook_secret", f"{detail} configured", account=account.slug)
    if account.heard_by_others:
        detail = "no signing secret of its own: its events arrive at the endpoint of its platform or organization"
        return ok("webhook_secret", detail, account=account.slug)
    advice = (
        f"set {place}: the Dashboard shows an endpoint's secret, `tallyhook doctor --fix --url …` that of a new one"
    )
    return degraded("webhook_secret", "no signing secret: webhooks are answered 404", advice, account=account.slug)
