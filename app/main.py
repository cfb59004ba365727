"""Builds the whole web app on the opened resources: webhooks, the admin API, health, the pages."""

from fastapi import Depends, FastAPI

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
from app.api.http.tokens import Access
from app.api.openapi import page
from app.api.openapi.document import DESCRIPTION, PROBLEMS, describe
from app.probes import base_app, no_pages
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

    `access` holds the tokens; by default those of the settings.
    """
    pages = build_pages if res.settings.web == "on" else no_pages
    app = base_app(res, short_cut=webhooks.short_cut, access=access, pages=pages, description=DESCRIPTION)
    webhooks.add_webhooks(app)
    app.state.plain_deliveries = webhooks.PlainDeliveries(res)
    # FastAPI prepares each part when the first request reaches it, in this order: no probe waits for the admin API.
    app.include_router(health.router)
    app.include_router(metrics.router)
    for router in (*ADMIN_ROUTERS, login_links.router):
        app.include_router(router, dependencies=[Depends(bearer)], responses=PROBLEMS)
    app.router.routes += page.open_routes(app)
    describe(app)
    return app
