"""One visit of a page: the visitor, the request, and the answer. This file decides who may see and do what."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from app.api.http.tokens import Access, Caller
from app.errors import BadInput, FieldError, NotFound
from app.health.judge import Judgement
from app.health.judgements import Judgements
from app.observability import log_lines
from app.resources import Resources, limited_to
from app.web import render
from app.web.visitors import Visitor, is_our_form, visitor_of


class Query(dict[str, str]):
    """Parameters of an address, for templates too: a missing one reads as an empty text."""

    def __missing__(self, name: str) -> str:
        return ""


@dataclass
class Visit:
    """A request for a page by somebody who may look (by anybody, for `/login`)."""

    request: Request
    res: Resources
    access: Access
    visitor: Visitor | None

    @property
    def name(self) -> str:
        """The caller's name in histories and the audit log."""
        return "" if self.visitor is None else self.visitor.name

    @property
    def caller(self) -> Caller:
        """The same as a parameter of the API's functions."""
        assert self.visitor is not None
        return Caller(self.visitor.name, self.visitor.role, self.visitor.accounts)

    @property
    def base(self) -> str:
        """What every link begins with."""
        return self.res.settings.base_path

    @cached_property
    def query(self) -> "Query":
        """The parameters of the address that are not empty."""
        return Query((name, value) for name, value in self.request.query_params.items() if value != "")

    async def judgement(self) -> Judgement:
        """The judgement of health; a few seconds old at most."""
        judgements: Judgements = self.request.app.state.judgements
        return await judgements.newest(self.res)

    async def form(self) -> dict[str, str]:
        """The fields of a sent form, also empty ones; the last one of a repeated field."""
        try:
            fields = parse_qs((await self.request.body()).decode(), keep_blank_values=True, max_num_fields=200)
        except ValueError:
            raise BadInput(FieldError("", "the form cannot be read")) from None
        return {name: values[-1] for name, values in fields.items()}

    def show(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """A page."""
        return render.page(self.request, template, status, self._common() | values)

    def go(self, path: str, **query: str) -> Response:
        """Redirect to another page after an action."""
        where = self.base + path + (f"?{urlencode(query)}" if query else "")
        return RedirectResponse(where, status_code=303)

    def _common(self) -> dict[str, Any]:
        return {
            "base": self.base,
            "visitor": self.visitor,
            "may_change": self.visitor is not None and self.visitor.may_change,
            "path": self.request.scope["path"],
            "query": self.query,
            "done": self.query.get("done"),
        }


Handler = Callable[[Visit], Awaitable[Response]]


def open_to_all(path: str, handler: Handler, *, method: str = "GET") -> Route:
    """A page that needs no login. Its forms must still be ours."""

    async def answer(request: Request) -> Response:
        visit = _visit(request, None)
        if method == "POST" and not is_our_form(request, visit.res.settings):
            return _foreign(visit)
        return await handler(visit)

    return Route(path, answer, methods=[method])


def get(path: str, handler: Handler) -> Route:
    """A page for everyone who is logged in."""

    async def answer(request: Request) -> Response:
        visit = await _logged_in(request)
        if visit.visitor is None:
            wanted = request.scope["path"] + (f"?{request.url.query}" if request.url.query else "")
            return visit.go("/login", **({} if wanted == "/" else {"next": wanted}))
        return await handler(visit)

    return Route(path, answer, methods=["GET"])


def post(path: str, handler: Handler) -> Route:
    """A change: from a form of ours, by a user who may change things."""

    async def answer(request: Request) -> Response:
        visit = await _logged_in(request)
        if not is_our_form(request, visit.res.settings):
            return _foreign(visit)
        if visit.visitor is None:
            return visit.go("/login")
        if not visit.visitor.may_change:
            return read_only(visit)
        return await handler(visit)

    return Route(path, answer, methods=["POST"])


async def _logged_in(request: Request) -> Visit:
    # PostgreSQL cannot even compare with it.
    if any("\x00" in text for text in (request.scope["path"], *request.query_params.values())):
        raise NotFound("no address of ours contains a NUL character")
    visit = _visit(request, None)
    visit.visitor = await visitor_of(request, visit.res, visit.access)
    if visit.visitor is not None and visit.visitor.accounts is not None:
        visit.res = limited_to(visit.res, visit.visitor.accounts)
    log_lines.annotate(actor=visit.name or None)
    return visit


def _visit(request: Request, visitor: Visitor | None) -> Visit:
    return Visit(request, request.app.state.res, request.app.state.access, visitor)


def read_only(visit: Visit) -> Response:
    """The answer to somebody who wants to change something, but may only look."""
    return visit.show("error.html", status=403, title="Not allowed", detail="Your access is read-only.")


def _foreign(visit: Visit) -> Response:
    detail = "This form was not sent from a page of Tallyhook, so nothing was done. Open the page itself and try again."
    return visit.show("error.html", status=403, title="Nothing was done", detail=detail)


def page_of(visit: Visit) -> int:
    """Which page of a list is requested, from 1; the first one if that is not a number."""
    asked = visit.query["page"]
    return max(1, int(asked)) if asked.isdecimal() and len(asked) < 6 else 1


def segment(text: str) -> str:
    """One segment of a path, escaped."""
    return quote(text, safe="")
