"""Errors as RFC 9457 answers: one table from the classes of `app/errors.py`, and of the libraries, to a status.

`type` is always `about:blank`: the status says what kind of problem it is, `detail` says what to do about it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import psycopg
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic_core import ErrorDetails
from sqlalchemy.exc import DBAPIError, DisconnectionError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from app.api.http.known import Document, document_of, known_names, no_route
from app.db.errors import is_slow, is_taken, is_transient
from app.errors import (
    BadInput,
    Conflict,
    FieldError,
    FileIsGone,
    Forbidden,
    Gone,
    NotAcceptable,
    NotFound,
    PreconditionFailed,
    RuleFileError,
    StoreAway,
)
from app.observability.logs import redact
from app.sentences import place, sentence, unknown

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
# How much of bad input an answer shows: enough to repair it.
MOST_ERRORS = 50
LONGEST_POINTER = 200
# A database that restarts is back within seconds.
RETRY_AFTER = {"Retry-After": "2"}

# Errors with a sentence of their own.
_STATUS: Mapping[type[Exception], int] = {
    Forbidden: 403,
    NotFound: 404,
    NotAcceptable: 406,
    Conflict: 409,
    Gone: 410,
    PreconditionFailed: 412,
    RuleFileError: 422,
}
_NO_JSON_OBJECT = "must be a JSON object, sent as Content-Type: application/json"


def problem(
    status: int,
    detail: str,
    *,
    errors: Sequence[FieldError] = (),
    more: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem as an answer, with `more` members; a secret that somebody sent by mistake is not sent back."""
    body: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    body |= {"detail": redact(detail), **(more or {})}
    if errors:
        shown = errors[:MOST_ERRORS]
        body["errors"] = [{"pointer": redact(error.pointer), "detail": redact(error.detail)} for error in shown]
    # Escaped, because input may contain a lone surrogate, which UTF-8 cannot encode.
    return Response(json.dumps(body), status_code=status, media_type=MEDIA_TYPE, headers=headers)


def database_away() -> Response:
    """The database does not answer: nothing was changed, and the same request will work later."""
    return problem(503, "the database is not answering; try again", headers=RETRY_AFTER)


def unexpected(error: Exception) -> Response:
    """A bug of ours: logged with everything we know, and answered with none of it."""
    log.error("api.crashed", error=type(error).__name__, exc_info=error)
    return problem(500, "an unexpected error; search this process's log for this answer's X-Request-Id")


def handle_problems(app: FastAPI) -> None:
    """Render every error of the app as a problem."""
    for ours, status in _STATUS.items():
        app.add_exception_handler(ours, _plain(status))
    app.add_exception_handler(StoreAway, _store_away)
    app.add_exception_handler(FileIsGone, _file_is_gone)
    # The driver's own, too: statements that go to it directly (db/batch) fail with those.
    for theirs in (DBAPIError, psycopg.Error, PoolTimeout, DisconnectionError):
        app.add_exception_handler(theirs, _database_trouble)
    for clash in (IntegrityError, psycopg.IntegrityError):
        app.add_exception_handler(clash, _clash)
    app.add_exception_handler(BadInput, _bad_input)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


def _plain(status: int) -> Any:
    async def render(_: Request, error: Exception) -> Response:
        return problem(status, str(error))

    return render


async def _store_away(_: Request, error: Exception) -> Response:
    log.warning("api.file_store_trouble", error=str(error))
    return problem(503, "the file store is not answering; try again", headers=RETRY_AFTER)


async def _file_is_gone(_: Request, error: Exception) -> Response:
    log.warning("api.file_store_trouble", error=str(error))
    return problem(500, str(error))


async def _database_trouble(_: Request, error: Exception) -> Response:
    if not (is_transient(error) or is_slow(error)):
        return unexpected(error)
    log.warning("api.database_trouble", error=type(error).__name__)
    return database_away()


async def _clash(_: Request, error: Exception) -> Response:
    # Only a race gets here: conflicts that can be seen beforehand are refused with a better message.
    if not is_taken(error):
        return unexpected(error)
    return problem(409, "another request created the same thing at the same moment; look at it, then try again")


async def _bad_input(_: Request, error: Exception) -> Response:
    assert isinstance(error, BadInput)
    return problem(422, "the request has invalid values", errors=error.errors)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    in_path = next((one for one in found if one["loc"][:1] == ("path",)), None)
    if in_path is not None:
        return problem(404, f"there is nothing at {request.url.path}: `{in_path['loc'][1]}` {sentence(in_path)}")
    errors = field_errors(found)
    if any(map(_is_unknown, found)):
        document = await document_of(request)
        errors = [_with_known(document, request, one, shown) for one, shown in zip(found, errors, strict=True)]
    return problem(422, "the request has invalid values", errors=errors)


def _is_unknown(one: ErrorDetails) -> bool:
    return one["type"] == "extra_forbidden"


def _with_known(document: Document, request: Request, one: ErrorDetails, error: FieldError) -> FieldError:
    """An unknown name with the one that was probably meant."""
    if not _is_unknown(one):
        return error
    return replace(error, detail=unknown(str(one["loc"][-1]), known_names(document, request, one["loc"][:-1])))


def field_errors(found: Iterable[ErrorDetails]) -> list[FieldError]:
    """Each error with the part that is wrong and a sentence; also for a schema that was read outside of a route."""
    return [FieldError(_pointer(place(one)), _sentence(one)) for one in found]


def _pointer(loc: Sequence[int | str]) -> str:
    """A JSON pointer into the body; for anything else the name of the parameter."""
    first, *parts = loc
    if isinstance(parts[0] if parts else "", int):
        return ""  # a position in text that is not JSON
    if first != "body":
        return str(parts[0] if parts else first)[:LONGEST_POINTER]
    escaped = (str(part).replace("~", "~0").replace("/", "~1") for part in parts if part != "[key]")
    return "".join(f"/{part}" for part in escaped)[:LONGEST_POINTER]


def _sentence(one: ErrorDetails) -> str:
    if one["loc"] == ("body",) and one["type"] in ("missing", "model_attributes_type", "dict_type", "model_type"):
        return _NO_JSON_OBJECT
    if one["type"] == "json_invalid":
        return f"is not valid JSON at character {one['loc'][-1]}: {one['ctx']['error']}"
    if one["loc"] == ("query", "rule_id"):
        return f"{sentence(one)}; `rule` takes a name"
    return sentence(one)


async def _http(request: Request, error: Exception) -> Response:
    """404 and 405 of the router, 413 of the middleware, and FastAPI's 400 for a body that is not JSON."""
    assert isinstance(error, HTTPException)
    if error.status_code == 400:
        return problem(422, "the body cannot be read", errors=[FieldError("", _NO_JSON_OBJECT)])
    if error.status_code == 405:
        allowed = ", ".join(_allowed_methods(request))
        return problem(405, f"this route accepts {allowed}", headers={"Allow": allowed})
    detail = no_route(await document_of(request), request) if error.status_code == 404 else str(error.detail)
    return problem(error.status_code, detail, headers=error.headers)


def _allowed_methods(request: Request) -> list[str]:
    """The methods of all routes of this path: the router itself names those of the first route only."""
    known = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    routes = request.app.router.routes
    return [method for method in known if any(_takes(route, request, method) for route in routes)]


def _takes(route: Any, request: Request, method: str) -> bool:
    match, _ = route.matches(dict(request.scope) | {"method": method})
    return match is Match.FULL
