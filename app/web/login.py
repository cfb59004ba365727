"""Log in and out: with a token, which is not kept, or by a link that works once."""

import re

from starlette.responses import Response

from app.web import sessions
from app.web.visit import Visit, open_to_all
from app.web.visitors import cookie_name, set_cookie, visitor_of

_CLOSED = "No admin token is set, so nobody can log in: set TALLYHOOK_ADMIN_TOKEN (openssl rand -hex 32)."
_WRONG = "This token is not known. Tokens are set as TALLYHOOK_ADMIN_TOKEN, TALLYHOOK_READ_TOKEN or TALLYHOOK_TOKENS."
_SPENT = "This link has already been used, or is older than five minutes. Request a new one: tallyhook login-link."
_NO_COOKIE = (
    "Your browser did not keep the cookie. Over plain http it does so only where TALLYHOOK_PUBLIC_URL begins with "
    "http://, or on this machine; elsewhere use https."
)
# Browsers read `\` as `/`, leave out line breaks and tabs, and take what follows two slashes or more for a host.
_OUR_PATH = re.compile(r"/(?!/|login)[^\\\x00-\x1f]*")


async def show(visit: Visit) -> Response:
    """The form, or the button of a link."""
    link = visit.query.get("link")
    if link is None:
        if await visitor_of(visit.request, visit.res, visit.access) is not None:
            return visit.go(_next(visit.query.get("next")))
        return _form(visit, _CLOSED if visit.access.closed else None)
    async with visit.res.sessions.begin() as session:
        login = await sessions.look_at_link(session, link)
    return _form(visit, _SPENT) if login is None else visit.show("link.html", link=link, login=login)


async def log_in(visit: Visit) -> Response:
    """Start a session. What was typed is compared and forgotten."""
    form = await visit.form()
    if "link" in form:
        async with visit.res.sessions.begin() as session:
            session_id = await sessions.use_link(session, form["link"])
        return _form(visit, _SPENT, status=401) if session_id is None else _logged_in(visit, session_id, "/")
    caller = visit.access.caller(form.get("token", "").strip())
    if caller is None:
        await visit.access.slow_down()
        return _form(visit, _CLOSED if visit.access.closed else _WRONG, status=401)
    async with visit.res.sessions.begin() as session:
        session_id = await sessions.begin(session, caller)
    return _logged_in(visit, session_id, _next(form.get("next")))


async def log_out(visit: Visit) -> Response:
    """End the session, also for copies of its cookie."""
    session_id = visit.request.cookies.get(cookie_name(visit.request, visit.res.settings))
    if session_id is not None:
        async with visit.res.sessions.begin() as session:
            await sessions.end(session, session_id)
    answer = visit.go("/login")
    set_cookie(answer, visit.request, visit.res.settings, None)
    return answer


async def check_cookie(visit: Visit) -> Response:
    """Right after the login: check that the cookie came back."""
    if await visitor_of(visit.request, visit.res, visit.access) is None:
        return _form(visit, _NO_COOKIE, status=401)
    return visit.go(_next(visit.query.get("next")))


def _logged_in(visit: Visit, session_id: str, path: str) -> Response:
    answer = visit.go("/login/done", next=path)
    set_cookie(answer, visit.request, visit.res.settings, session_id)
    return answer


def _form(visit: Visit, problem: str | None, *, status: int = 200) -> Response:
    next_ = _next(visit.query.get("next"))
    return visit.show("login.html", status=status, problem=problem, next=next_)


def _next(wanted: str | None) -> str:
    """The path of one of our own pages, whatever the address says."""
    return wanted if wanted is not None and _OUR_PATH.fullmatch(wanted) else "/"


ROUTES = (
    open_to_all("/login", show),
    open_to_all("/login", log_in, method="POST"),
    open_to_all("/login/done", check_cookie),
    open_to_all("/logout", log_out, method="POST"),
)
