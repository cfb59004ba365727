"""Builds the web apps on the opened resources: webhooks, the admin API, health, the pages.

A worker process serves only health and metrics.
"""

from collections.abc import Callable
from typing import Any

from fastapi import Depends, FastAPI

from app import __version__
from app.api import (
    accounts,
    audit,
    checks,
    connected_accounts,
    events,
    health,
    loads,
    messages,
    metrics,
    packs,
    report_guide,
    report_types,
    rule_actions,
    rule_files,
    rules,
    rules_as_code,
    run_file,
    runs,
    tables,
    targets,
    webhooks,
)
from app.api.http.dependencies import bearer
from app.api.http.middleware import Middleware, Pages, ShortCut
from app.api.http.problems import handle_problems
from app.api.http.tokens import Access
from app.api.openapi import page
from app.api.openapi.document import DESCRIPTION, PROBLEMS, describe
from app.health.judgements import Judgements
from app.health.process import Probe
from app.resources import Resources
from app.web import login_links
from app.web.app import build_pages

ADMIN_PARTS = (
    rules_as_code, rule_actions, rule_files, rules, runs, run_file, packs, report_types, report_guide, events, tables,
    loads, checks, audit, targets, messages, accounts, connected_accounts,
)  # fmt: skip
ADMIN_ROUTERS = tuple(part.router for part in ADMIN_PARTS)


def build_app(res: Resources, *, access: Access | None = None) -> FastAPI:
    """The web app. Every path of the API that `api/http/middleware` does not list as open needs a token.

    `access` says whose tokens; by default those of the settings.
    """
    pages = build_pages if res.settings.web == "on" else _no_pages
    app = _app(res, short_cut=webhooks.short_cut, access=access, pages=pages, description=DESCRIPTION)
    webhooks.add_webhooks(app)
    for router in (*ADMIN_ROUTERS, login_links.router):
        app.include_router(router, dependencies=[Depends(bearer)], responses=PROBLEMS)
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.router.routes += page.open_routes(app)
    describe(app)
    return app


def build_app_ready(res: Resources) -> FastAPI:
    """The same, with `/docs` and `/openapi.json` made already: for processes that live long."""
    app = build_app(res)
    page.make_ready(app)
    return app


def build_probes(res: Resources) -> FastAPI:
    """The app of a process that only works the queue: health and metrics."""
    app = _app(res)
    app.include_router(health.router)
    app.include_router(metrics.router)
    return app


def _no_pages(_res: Resources, _access: Access, _judgements: Judgements) -> Pages:
    return lambda _scope, _headers: None


def _app(
    res: Resources,
    *,
    short_cut: ShortCut | None = None,
    access: Access | None = None,
    pages: Callable[[Resources, Access, Judgements], Pages] = _no_pages,
    **more: Any,
) -> FastAPI:
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
