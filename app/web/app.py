"""The pages as one ASGI app, and which requests are for it: `main` hands them over before it demands a token."""

from collections.abc import Callable

import psycopg
import structlog
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Scope

from app.api.http.middleware import Pages
from app.api.http.tokens import Access
from app.db.errors import is_slow, is_transient
from app.errors import BadInput, Conflict, Forbidden, Gone, NotFound, PreconditionFailed, StoreAway
from app.health.judgements import Judgements
from app.resources import Resources
from app.web import (
    accounts,
    actions,
    backfills,
    lists,
    login,
    months,
    number_actions,
    render,
    rule,
    rule_form,
    run,
    runs,
    target_actions,
    target_form,
    today,
)
from app.web.visit import Visit

log = structlog.get_logger()

# These belong to the API and to machines, whatever the client accepts.
_OTHERS = ("v1", "health", "metrics", "openapi.json", "docs", "webhooks")
# In the order in which paths are looked up: `/rules/new` before `/rules/{rule}`.
_PARTS = (
    login,
    today,
    rule_form,
    number_actions,
    target_actions,
    target_form,
    rule,
    run,
    runs,
    months,
    lists,
    accounts,
    actions,
    backfills,
)
_FOR_PROGRAMS = "Tallyhook. The API is below /v1 (a bearer token in the Authorization header), described at /docs; / has pages for browsers.\n"  # noqa: E501


def build_pages(res: Resources, access: Access, judgements: Judgements) -> Pages:
    """Which app answers a request: the pages, or None for the API."""
    app = Starlette(
        routes=[*(route for part in _PARTS for route in part.ROUTES), _static_route()],
        exception_handlers=_error_pages(),
    )
    app.router.redirect_slashes = False
    app.state.res, app.state.access, app.state.judgements = res, access, judgements
    known = {route.path.split("/")[1] for route in app.routes if isinstance(route, Route)}

    def pages(scope: Scope, headers: Headers) -> ASGIApp | None:
        # The path of `OPTIONS *` is `*`.
        first = scope["path"].partition("/")[2].partition("/")[0]
        if first in _OTHERS or "authorization" in headers:
            return None
        if scope["path"] == "/" and "text/html" not in headers.get("accept", ""):
            return PlainTextResponse(_FOR_PROGRAMS)
        return app if first in known or "text/html" in headers.get("accept", "") else None

    return pages


def _static_route() -> Route:
    async def show(request: Request) -> Response:
        found = render.static_file(request.path_params["name"])
        if found is None:
            raise HTTPException(404)
        return found

    return Route("/static/{name}", show)


def _error_pages() -> dict[type[Exception] | int, Callable[[Request, Exception], Response]]:
    def plain(status: int, title: str) -> Callable[[Request, Exception], Response]:
        return lambda request, error: _error(request, status, title, str(error))

    def http(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        titles = {404: "There is no such page", 405: "This page does not accept forms", 413: "The form is too large"}
        detail = "The address may be mistyped, or belong to another version."
        return _error(request, status, titles.get(status, "This did not work"), detail if status == 404 else "")

    return {
        HTTPException: http,
        NotFound: plain(404, "There is no such entry"),
        Forbidden: plain(403, "Not allowed"),
        Gone: plain(410, "It was removed"),
        Conflict: plain(409, "This is not possible now"),
        PreconditionFailed: plain(412, "Somebody else has changed it"),
        BadInput: _bad_input,
        StoreAway: lambda request, _: _error(
            request, 503, "The file store does not answer", "Try again in a minute; the page Setup shows its state."
        ),
        DBAPIError: _database,
        psycopg.Error: _database,
        PoolTimeout: _database,
        DisconnectionError: _database,
        Exception: _unexpected,
    }


def _bad_input(request: Request, error: Exception) -> Response:
    assert isinstance(error, BadInput)
    problems = [(one.pointer.strip("/").replace("/", ": "), one.detail) for one in error.errors]
    return _error(request, 422, "These values are not valid", "", problems=problems)


def _database(request: Request, error: Exception) -> Response:
    if not (is_transient(error) or is_slow(error)):
        return _unexpected(request, error)
    log.warning("web.database_trouble", error=type(error).__name__)
    return _error(request, 503, "The database does not answer", "Nothing was changed. Try again in a minute.")


def _unexpected(request: Request, error: Exception) -> Response:
    log.error("web.crashed", error=type(error).__name__, exc_info=error)
    detail = "The service's log says more; look for this answer's X-Request-Id."
    return _error(request, 500, "An unexpected error", detail)


def _error(
    request: Request, status: int, title: str, detail: str, problems: list[tuple[str, str]] | None = None
) -> Response:
    visit = Visit(request, request.app.state.res, request.app.state.access, None)
    return visit.show("error.html", status=status, title=title, detail=detail, problems=problems or [])
