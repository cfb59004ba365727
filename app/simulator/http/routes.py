"""All routes of the simulator: Stripe's, and the control routes beside them."""

from starlette.applications import Starlette
from starlette.routing import Route

from app.simulator import errors
from app.simulator.http import api_connect, api_files, api_reporting, api_webhooks
from app.simulator.http.api_route import ApiRoute
from app.simulator.http.calls import Answer, Call, Handler
from app.simulator.http.control import Commands, control_routes
from app.simulator.state.model import Permission
from app.simulator.state.world import World

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
    ("GET", "/v1/account", api_connect.retrieve_account, None),
    ("GET", "/v1/accounts", api_connect.list_accounts, "accounts"),
    ("GET", "/v1/accounts/{id}", api_connect.retrieve_connected, "accounts"),
    ("GET", "/v1/payouts", api_connect.list_payouts, "payouts"),
    ("GET", "/v1/payouts/{id}", api_connect.retrieve_payout, "payouts"),
    ("POST", "/v1/webhook_endpoints", api_webhooks.create_endpoint, "webhook_endpoints"),
    ("GET", "/v1/webhook_endpoints", api_webhooks.list_endpoints, "webhook_endpoints"),
    ("GET", "/v1/webhook_endpoints/{id}", api_webhooks.retrieve_endpoint, "webhook_endpoints"),
    ("POST", "/v1/webhook_endpoints/{id}", api_webhooks.update_endpoint, "webhook_endpoints"),
    ("DELETE", "/v1/webhook_endpoints/{id}", api_webhooks.delete_endpoint, "webhook_endpoints"),
)


def application(world: World, commands: Commands) -> Starlette:
    """The ASGI application; it needs the connection extension of `connection` for the faults that cut connections."""
    routes = [
        Route(path, ApiRoute(world, handler, permission), methods=[method]) for method, path, handler, permission in API
    ]
    return Starlette(
        routes=[*routes, *control_routes(commands), Route("/{path:path}", ApiRoute(world, unknown_route, None))]
    )


def unknown_route(call: Call) -> Answer:
    raise errors.unknown_route(call.method, call.path)
