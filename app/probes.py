"""What the web app of every process has. A worker's serves health and metrics, and loads nothing else."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

from app import __version__
from app.api import health, metrics
from app.api.http.middleware import Middleware, Pages, ShortCut
from app.api.http.problems import handle_problems
from app.api.http.tokens import Access
from app.health.judgements import Judgements
from app.health.process import Probe
from app.resources import Resources


def build_probes(res: Resources) -> FastAPI:
    """The app of a process that only works the queue: health and metrics."""
    app = base_app(res)
    app.include_router(health.router)
    app.include_router(metrics.router)
    return app


def no_pages(_res: Resources, _access: Access, _judgements: Judgements) -> Pages:
    """For a process without pages: every path is left to the API."""
    return lambda _scope, _headers: None


def base_app(
    res: Resources,
    *,
    short_cut: ShortCut | None = None,
    access: Access | None = None,
    pages: Callable[[Resources, Access, Judgements], Pages] = no_pages,
    **more: Any,
) -> FastAPI:
    """An app without routes, with what is in front of and around all of them."""
    app = FastAPI(
        title="Tallyhook",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        strict_content_type=False,
        # FastAPI's own spans and logs would show exception messages; ours (observability/tracing) are redacted.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        **more,
    )
    access = access or Access(res.settings)
    judgements = Judgements()
    app.state.res, app.state.access, app.state.probe, app.state.judgements = res, access, Probe(), judgements
    handle_problems(app)
    app.add_middleware(
        Middleware,
        access=access,
        max_body_bytes=res.settings.max_body_bytes,
        short_cut=short_cut or (lambda _: None),
        pages=pages(res, access, judgements),
        base_path=res.settings.base_path,
    )
    return app
