"""`/v1/webhook_endpoints` and `/v1/events`."""

from collections.abc import Callable
from urllib.parse import urlsplit

from app.simulator import errors
from app.simulator.http.calls import Answer, Call, answer
from app.simulator.http.forms import Form
from app.simulator.http.lists import CURSORS, boolean, page, refuse_unknown
from app.simulator.reports.ledger import DAY
from app.simulator.state.collection import Collection
from app.simulator.state.model import Endpoint, Event
from app.simulator.webhooks import endpoints

ENDPOINTS = "/v1/webhook_endpoints"
MOST_ENDPOINTS = 16
ON_CREATE = frozenset({"url", "enabled_events", "api_version", "connect", "description", "metadata", "expand"})
ON_UPDATE = frozenset({"url", "enabled_events", "description", "disabled", "metadata", "expand"})
EVENT_LIFE = 30 * DAY


def create_endpoint(call: Call) -> Answer:
    refuse_unknown(call.form, ON_CREATE)
    for name in ("enabled_events", "url"):
        if name not in call.form:
            raise errors.missing(name)
    if len(call.account.endpoints) >= MOST_ENDPOINTS:
        raise errors.ApiError(400, f"You have reached the maximum of {MOST_ENDPOINTS} webhook endpoints.")
    endpoint = endpoints.add_endpoint(
        call.world,
        call.account,
        url=_url(call.form),
        events=_enabled_events(call.form),
        connect=boolean("connect", call.form.get("connect", "false")),
    )
    endpoint.api_version = _text(call.form, "api_version")
    _describe(endpoint, call.form)
    return answer(endpoint.rendered() | {"secret": endpoint.secrets[0].value})


def list_endpoints(call: Call) -> Answer:
    refuse_unknown(call.form, CURSORS)
    collection: Collection[Endpoint] = Collection()
    for endpoint in call.account.endpoints.values():
        collection.add(endpoint)
    kind = "webhook endpoint"
    listed = page(collection, call.form, kind=kind, url=ENDPOINTS, render=Endpoint.rendered, fits=lambda endpoint: True)
    return answer(listed)


def retrieve_endpoint(call: Call) -> Answer:
    return answer(_endpoint(call).rendered())


def update_endpoint(call: Call) -> Answer:
    endpoint = _endpoint(call)
    refuse_unknown(call.form, ON_UPDATE)
    if "url" in call.form:
        endpoint.url = _url(call.form)
    if "enabled_events" in call.form:
        endpoint.enabled_events = _enabled_events(call.form)
    if "disabled" in call.form:
        endpoint.enabled = not boolean("disabled", call.form["disabled"])
    _describe(endpoint, call.form)
    return answer(endpoint.rendered())


def delete_endpoint(call: Call) -> Answer:
    endpoint = _endpoint(call)
    del call.account.endpoints[endpoint.id]
    return answer({"id": endpoint.id, "object": "webhook_endpoint", "deleted": True})


def list_events(call: Call) -> Answer:
    """Events of the last thirty days."""
    refuse_unknown(call.form, CURSORS | {"type", "types", "created", "delivery_success"})
    wanted = _event_filter(call.form)
    oldest = call.world.clock.unix() - EVENT_LIFE
    version = call.world.settings.api_version
    listed = page(
        call.account.events,
        call.form,
        kind="event",
        url="/v1/events",
        render=lambda event: event.rendered(version),
        fits=lambda event: event.created >= oldest and event.owner == call.owner and wanted(event),
    )
    return answer(listed)


def retrieve_event(call: Call) -> Answer:
    event = call.account.events.get(call.names["id"])
    if event is None or event.created < call.world.clock.unix() - EVENT_LIFE:
        raise errors.not_found("event", call.names["id"])
    return answer(event.rendered(call.world.settings.api_version))


def _endpoint(call: Call) -> Endpoint:
    endpoint = call.account.endpoints.get(call.names["id"])
    if endpoint is None:
        raise errors.not_found("webhook endpoint", call.names["id"], param="webhook_endpoint")
    return endpoint


def _event_filter(form: Form) -> Callable[[Event], bool]:
    types = form.get("types") or ([form["type"]] if "type" in form else None)
    if types is not None and not isinstance(types, list):
        raise errors.invalid("types", "Invalid array")
    if types is not None and len(types) > 20:
        raise errors.invalid("types", "You may pass up to 20 event types.")
    success = boolean("delivery_success", form["delivery_success"]) if "delivery_success" in form else None
    return lambda event: (types is None or event.type in types) and success in (None, event.pending_webhooks == 0)


def _url(form: Form) -> str:
    url = str(form["url"])
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        message = "Invalid URL: An explicit scheme (such as https) must be provided."
        raise errors.invalid("url", message, code="url_invalid")
    return url


def _enabled_events(form: Form) -> list[str]:
    names = form["enabled_events"]
    if not isinstance(names, list) or not names:
        raise errors.invalid("enabled_events", "Invalid array")
    for place, name in enumerate(names):
        if not isinstance(name, str) or (name != "*" and "." not in name):
            param = f"enabled_events[{place}]"
            raise errors.invalid(param, f"Invalid {param}: {name} is not the name of an event")
    return [str(name) for name in names]


def _text(form: Form, name: str) -> str | None:
    value = form.get(name)
    return value if isinstance(value, str) and value else None


def _describe(endpoint: Endpoint, form: Form) -> None:
    if "description" in form:
        endpoint.description = _text(form, "description")
    metadata = form.get("metadata")
    if isinstance(metadata, dict):
        endpoint.metadata |= {name: str(value) for name, value in metadata.items() if value != ""}
        for name, value in metadata.items():
            if value == "":
                endpoint.metadata.pop(name, None)
