"""`/_control/…`: everything that Stripe does by itself and a test wants to do by hand. Open to everybody who can reach
the port: only this machine, unless the simulator is told to listen elsewhere.

Every route is a method of the simulator with the fields of the JSON body as its arguments, checked by their types."""

from collections.abc import Callable
from typing import Any, TypeAlias

import orjson
from pydantic import ValidationError, validate_call
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.simulator.http.views import plain

Command = Callable[..., Any]
Commands: TypeAlias = "dict[str, dict[str, Command]]"


def control_routes(commands: Commands) -> list[Route]:
    """Routes from `{path: {method: command}}`."""
    routes = []
    for path, by_method in commands.items():
        for method, command in by_method.items():
            routes.append(Route(f"/_control/{path}", _endpoint(command), methods=[method]))
    return [*routes, Route("/_control{path:path}", _overview(commands), methods=["GET", "POST", "DELETE"])]


def _overview(commands: Commands) -> Callable[[Request], Any]:
    """`GET /_control` lists the routes; so does the answer to an unknown one."""
    known = {
        f"{method} /_control/{path}": (command.__doc__ or "").partition("\n")[0]
        for path, by_method in commands.items()
        for method, command in by_method.items()
    }

    async def endpoint(request: Request) -> Response:
        if request.method == "GET" and request.path_params["path"] in ("", "/"):
            return _json({"routes": known})
        return _json({"error": "there is no such control route", "routes": known}, 404)

    return endpoint


def _endpoint(command: Command) -> Callable[[Request], Any]:
    checked = validate_call(command)

    async def endpoint(request: Request) -> Response:
        try:
            arguments = await _arguments(request)
            result = checked(**arguments)
            return _json(plain(await result if hasattr(result, "__await__") else result))
        except ValidationError as error:
            return _json({"error": [f"{_where(item)}: {item['msg']}" for item in error.errors()]}, 400)
        except (LookupError, ValueError) as error:
            return _json({"error": str(error.args[0] if error.args else error)}, 400)

    return endpoint


async def _arguments(request: Request) -> dict[str, Any]:
    body = await request.body()
    given = orjson.loads(body) if body else {}
    if not isinstance(given, dict):
        raise ValueError("the body must be a JSON object")
    return {**request.query_params, **given, **request.path_params}


def _where(item: Any) -> str:
    return ".".join(str(step) for step in item["loc"]) or "body"


def _json(value: object, status: int = 200) -> Response:
    return Response(orjson.dumps(value, option=orjson.OPT_INDENT_2) + b"\n", status, media_type="application/json")
