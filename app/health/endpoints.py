"""The state of an account's webhook endpoint at Stripe: registered, enabled, pointing here, with the right events."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from app.errors import KeyRefused, StripeCallError
from app.health.listening import Needs
from app.health.results import Check, Status, degraded, failing, ok
from app.settings import DEFAULT_ACCOUNT
from app.stripe_api.client import StripeClient
from app.stripe_api.objects import WebhookEndpoint
from app.stripe_api.webhook_endpoints import BY_NAME_ONLY, is_released, list_endpoints, missing_events
from app.vocabulary import CONNECT_EVENTS, OWN_EVENTS, PAYOUT_EVENTS, EventType

WEBHOOK_PATH = "/webhooks/stripe"
NAME = "webhook_endpoint"
_FIX = "run `tallyhook doctor --fix --url https://YOUR-HOST/webhooks/stripe`, or change it in Stripe's Dashboard"


def url_for(base: str, account: str) -> str:
    """The webhook URL of an account: `default` has the base URL, other accounts a path below it."""
    return base if account == DEFAULT_ACCOUNT else f"{base}/{account}"


async def webhook_endpoint(
    client: StripeClient, account: str, *, url: str | None, arriving: bool = False, needs: Needs | None = None
) -> Check:
    """Whether events can arrive here. Without a URL every endpoint with our path counts as ours.

    `arriving`: webhooks arrived recently, so some endpoint leads here, even if a proxy rewrites its path.
    `needs`: what the account's rules listen to besides the events of reports.
    """
    needs = needs or Needs(account, connect=False, payouts=False)
    try:
        endpoints = await list_endpoints(client, account)
    except KeyRefused as error:
        # The service needs no such permission; if nothing arrives, `endpoint_selection` says so.
        refused = "the key is not allowed to list webhook endpoints"
        advice = "give the key the permission `Webhook Endpoints: read` to have it checked"
        return ok(NAME, f"not checked: {refused} ({error})", advice=advice, account=account)
    except StripeCallError as error:
        return degraded(NAME, f"webhook endpoints cannot be listed: {error}", "try again later", account=account)
    own = [endpoint for endpoint in endpoints if not endpoint.connect]
    ours = [endpoint for endpoint in own if _is_ours(endpoint, account, url)]
    none = f"no webhook endpoint points to …{url_for(WEBHOOK_PATH, account)}"
    if not ours and arriving:
        return ok(NAME, f"{none}, but webhooks arrive", account=account)
    if not ours:
        return _none(account, url, own)
    # One good endpoint is enough: duplicate deliveries are stored once.
    events = (*OWN_EVENTS, *(PAYOUT_EVENTS if needs.payouts else ()))
    found = _best([_judged(endpoint, account, events) for endpoint in ours])
    if not needs.connect or found.status is not Status.OK:
        return found
    theirs = [endpoint for endpoint in endpoints if endpoint.connect and _is_ours(endpoint, account, url)]
    return _with_connect(found, [_judged(endpoint, account, CONNECT_EVENTS) for endpoint in theirs], account)


def _best(found: list[Check]) -> Check:
    return min(found, key=lambda one: list(Status).index(one.status))


def _with_connect(own: Check, theirs: list[Check], account: str) -> Check:
    if not theirs:
        detail = f"{own.detail}; no Connect endpoint points here, so new connected accounts are noticed by polling"
        return ok(NAME, detail, advice=f"register one (`connect`) to notice them sooner: {_FIX}", account=account)
    connect = _best(theirs)
    detail = f"{own.detail}; for connected accounts: {connect.detail}"
    if connect.status is Status.OK:
        return ok(NAME, detail, account=account)
    return degraded(NAME, detail, connect.advice or _FIX, account=account)


def _is_ours(endpoint: WebhookEndpoint, account: str, url: str | None) -> bool:
    if url is not None:
        return endpoint.url == url
    ends = [WEBHOOK_PATH] if account == DEFAULT_ACCOUNT else []
    return urlsplit(endpoint.url).path.endswith((*ends, f"{WEBHOOK_PATH}/{account}"))


def _none(account: str, url: str | None, endpoints: list[WebhookEndpoint]) -> Check:
    if url is None:
        detail = f"no webhook endpoint points to …{url_for(WEBHOOK_PATH, account)}; reports still arrive, but later"
        return degraded(NAME, detail, _FIX, account=account)
    # A path next to ours gets 404 or 405, and Stripe treats a redirect as a failed delivery.
    near = [endpoint.url for endpoint in endpoints if urlsplit(endpoint.url).netloc == urlsplit(url).netloc]
    there = f"; there is {', '.join(near)}" if near else ""
    return failing(NAME, f"no webhook endpoint points to {url}{there}", _FIX, account=account)


def _judged(endpoint: WebhookEndpoint, account: str, events: Sequence[EventType]) -> Check:
    missing = missing_events(endpoint, events)
    if not endpoint.enabled:
        return failing(NAME, f"the endpoint {endpoint.url} is disabled: Stripe sends it nothing", _FIX, account=account)
    if missing:
        star = "; `*` does not include it" if "*" in endpoint.events and BY_NAME_ONLY in missing else ""
        detail = f"the endpoint {endpoint.url} is not sent {', '.join(missing)}{star}"
        return failing(NAME, detail, f"select it by name: {_FIX}", account=account)
    if not is_released(endpoint.api_version):
        detail = f"the endpoint {endpoint.url} is sent events of the API version {endpoint.api_version}"
        advice = "register a new one with a released version: a preview's events may change"
        return degraded(NAME, detail, advice, account=account)
    version = endpoint.api_version or "the account's default version"
    return ok(NAME, f"{endpoint.url} is enabled and sent all {len(events)} events ({version})", account=account)
