"""Renders templates: one environment, the headers of every page, and the filters that write values for people."""

import gzip
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response

from app import __version__
from app.web import words
from app.web.narrow import fitted

_HERE = Path(__file__).parent
# Nothing from elsewhere, nothing inline: injected text can neither run nor style anything.
POLICY = "; ".join(
    (
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("style", "script", "connect", "font")),
        "img-src 'self' data:",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Vary": "Accept-Encoding, Cookie",
}
# The pages in the menu, most used first, each with the beginnings of the paths that belong to it.
NAV = (
    ("/", "Today", ()),
    ("/rules", "Rules", ("/rules/",)),
    ("/months", "Months", ("/months/",)),
    ("/runs", "Runs", ("/runs/",)),
    ("/checks", "Checks", ("/checks/",)),
    ("/tables", "Tables", ("/tables/",)),
    ("/targets", "Targets", ("/targets/", "/deliveries", "/messages/")),
    ("/events", "Events", ("/events/",)),
    ("/accounts", "Accounts", ("/accounts/",)),
    ("/audit", "Audit", ("/audit/",)),
    ("/setup", "Setup", ("/setup/", "/report-types")),
)
_LEAST_PACKED = 1024
_MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def page(request: Request, template: str, status: int, values: Mapping[str, Any]) -> Response:
    """The page rendered from these values, compressed where the browser accepts that."""
    body = fitted(_environment().get_template(template).render(values)).encode()
    headers = dict(_HEADERS)
    if len(body) >= _LEAST_PACKED and "gzip" in request.headers.get("accept-encoding", ""):
        body = gzip.compress(body, 5, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Response(body, status_code=status, media_type="text/html", headers=headers)


@cache
def static_file(name: str) -> Response | None:
    """A static file of the pages; its address contains its hash, so that browsers fetch it once."""
    path = _HERE / "static" / name
    if path.parent != _HERE / "static" or not path.is_file():
        return None
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
    return Response(path.read_bytes(), media_type=_MEDIA_TYPES[path.suffix], headers=headers)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(words.FILTERS)
    environment.globals.update(version=__version__, static=_static, STATES=words.STATES, NAV=NAV)
    return environment


@cache
def _static(name: str) -> str:
    digest = hashlib.sha256((_HERE / "static" / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?{digest}"
