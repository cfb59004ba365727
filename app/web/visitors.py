"""Who looks at a page, by a session's cookie or a trusted proxy's header; and whether a form is our own."""

from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from app.api.http.tokens import Access
from app.resources import Resources
from app.settings import Settings
from app.settings.fields import is_this_machine
from app.vocabulary import Role
from app.web import sessions

COOKIE = "tallyhook"
# With this prefix, browsers accept a cookie only from this host over TLS.
SAFE_COOKIE = f"__Host-{COOKIE}"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who may look."""

    name: str
    role: Role
    accounts: frozenset[str] | None = None  # the only accounts that this visitor sees; None: all

    @property
    def may_change(self) -> bool:
        """Whether the user sees buttons."""
        return self.role is Role.ADMIN


async def visitor_of(request: Request, res: Resources, access: Access) -> Visitor | None:
    """The visitor; None if a login is needed first."""
    by_proxy = _by_proxy(request, res.settings)
    if by_proxy is not None:
        return by_proxy
    session_id = request.cookies.get(cookie_name(request, res.settings))
    if session_id is None:
        return None
    async with res.sessions.begin() as session:
        login = await sessions.find(session, session_id)
    if login is None:
        return None
    return _as_it_is_now(login, access)


def _as_it_is_now(login: sessions.Login, access: Access) -> Visitor | None:
    """What a session may see and do now: no more than its token may at present; None once the token is gone."""
    if not login.origin.startswith("token:"):
        return Visitor(login.name, Role(login.role))
    owner = access.by_origin(login.origin)
    if owner is None:
        return None
    role = Role.READ if Role.READ in (owner.role, Role(login.role)) else Role.ADMIN
    return Visitor(login.name, role, owner.accounts)


def _by_proxy(request: Request, settings: Settings) -> Visitor | None:
    """The user that a trusted proxy names. The same headers from anyone else are ignored."""
    header = settings.proxy_user_header
    if header is None or request.client is None:
        return None
    try:
        peer = ip_address(request.client.host)
    except ValueError:
        return None
    name = request.headers.get(header, "").strip()
    if not any(peer in network for network in settings.trusted_proxies) or not name.isprintable() or not name:
        return None
    is_admin = any(_is_meant(admin, name, request) for admin in settings.proxy_admins)
    return Visitor(name[:200], Role.ADMIN if is_admin else Role.READ)


def _is_meant(admin: str, name: str, request: Request) -> bool:
    """`admin` is a name, or `Header=value`, where the header may list several values."""
    header, is_header, value = admin.partition("=")
    if not is_header:
        return admin == name
    return value.strip() in [part.strip() for part in request.headers.get(header.strip(), "").split(",")]


def is_plain(request: Request, settings: Settings) -> bool:
    """Whether people use plain http: by the public URL or, without one, because they are on this machine."""
    if settings.public_url is not None:
        return settings.public_url.startswith("http://")
    return request.url.scheme == "http" and is_this_machine(request.url.hostname or "")


def cookie_name(request: Request, settings: Settings) -> str:
    """The name of the session's cookie for this request."""
    return COOKIE if is_plain(request, settings) else SAFE_COOKIE


def set_cookie(response: Response, request: Request, settings: Settings, session_id: str | None) -> None:
    """Set or delete the browser's session. Lax: somebody who follows a link from an e-mail or a chat is still logged
    in."""
    response.set_cookie(
        cookie_name(request, settings),
        session_id or "",
        max_age=sessions.SESSION_HOURS * 3600 if session_id else 0,
        path="/",
        secure=not is_plain(request, settings),
        httponly=True,
        samesite="lax",
    )


def is_our_form(request: Request, settings: Settings) -> bool:
    """Whether a form was sent from one of our own pages, by headers that browsers set and no page can change."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    # For older browsers, and plain http on hosts other than this machine.
    origin = urlsplit(request.headers.get("origin", "")).netloc
    ours = {request.headers.get("host", "")}
    if settings.public_url is not None:
        ours.add(urlsplit(settings.public_url).netloc)
    return origin != "" and origin in ours
