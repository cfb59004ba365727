"""All routes of the simulator: Stripe's, and the control routes beside them."""

from starlette.applications import Starlette
from starlette.routing import Route

from app.simulator.http import api_files, api_reporting, api_webhooks, errors
from app.simulator.http.api_route import ApiRoute
from app.simulator.http.calls import Answer, Call, Handler
from app.simulator.http.control import Command, control_routes
from app.simulator.simulator import Simulator
from app.simulator.state.model import Permission

RUNS, TYPES = "/v1/reporting/report_runs", "/v1/reporting/report_types"
API: tuple[tuple[str, str, Handler, Permission | None], ...] = (
    ("POST", RUNS, api_reporting.create_run, "reporting"),
    ("GET", RUNS + "/{id}", api_reporting.retrieve_run, "reporting"),
    ("GET", RUNS, api_reporting.list_runs, "reporting"),
    ("GET", TYPES, api_reporting.list_types, "reporting"),
    ("GET", TYPES + "/{id}", api_reporting.retrieve_type, "reporting"),
    ("GET", "/v1/files/{id}/contents", api_files.file_contents, "files"),
    ("GET", "/v1/files/{id}", api_files.retrieve_file, "files"),
    ("GET", "/v1/events", api_webhooks.list_events, "events"),
    ("GET", "/v1/events/{id}", api_webhooks.retrieve_event, "events"),
    ("GET", "/v1/account", api_webhooks.retrieve_account, None),
    ("POST", "/v1/webhook_endpoints", api_webhooks.create_endpoint, "webhook_endpoints"),
    ("GET", "/v1/webhook_endpoints", api_webhooks.list_endpoints, "webhook_endpoints"),
    ("GET", "/v1/webhook_endpoints/{id}", api_webhooks.retrieve_endpoint, "webhook_endpoints"),
    ("POST", "/v1/webhook_endpoints/{id}", api_webhooks.update_endpoint, "webhook_endpoints"),
    ("DELETE", "/v1/webhook_endpoints/{id}", api_webhooks.delete_endpoint, "webhook_endpoints"),
)


def application(simulator: Simulator) -> Starlette:
    """The ASGI application; it needs the connection extension of `server` for the faults that cut connections."""
    routes = [
        Route(path, ApiRoute(simulator.world, handler, permission), methods=[method])
        for method, path, handler, permission in API
    ]
    return Starlette(
        routes=[
            *routes,
            *control_routes(_commands(simulator)),
            Route("/{path:path}", ApiRoute(simulator.world, unknown_route, None)),
        ]
    )


def unknown_route(call: Call) -> Answer:
    raise errors.unknown_route(call.method, call.path)


def _commands(simulator: Simulator) -> dict[str, dict[str, Command]]:
    """Each control route is one method of the simulator."""
    return {
        "state": {"GET": simulator.state},
        "settings": {"POST": simulator.configure},
        "clock": {"POST": simulator.set_clock},
        "reset": {"POST": simulator.reset},
        "settle": {"POST": simulator.settle},
        "accounts": {"POST": simulator.add_account},
        "keys": {"POST": simulator.add_key},
        "keys/{secret}": {"POST": simulator.change_key},
        "report_types": {"POST": simulator.add_report_type},
        "report_types/{id}": {"DELETE": simulator.remove_report_type},
        "report_types/{report_type}/advance": {"POST": simulator.advance},
        "publish": {"POST": simulator.publish},
        "endpoints": {"POST": simulator.add_endpoint},
        "endpoints/{id}": {"POST": simulator.change_endpoint},
        "endpoints/{id}/roll": {"POST": simulator.roll_secret},
        "runs": {"POST": simulator.create_run},
        "runs/{id}": {"POST": simulator.finish_run},
        "files/{id}/expire": {"POST": simulator.expire_file},
        "events": {"POST": simulator.emit},
        "events/release": {"POST": simulator.release},
        "events/{id}/resend": {"POST": simulator.resend},
        "faults": {"POST": simulator.inject, "DELETE": simulator.clear_faults},
    }
