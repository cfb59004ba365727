"""`GET /metrics`: what this process counted, and what the rows say at this moment, as Prometheus text."""

from collections.abc import Iterator
from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from app import __version__
from app.api.http.dependencies import Res, bearer
from app.api.http.tokens import Access
from app.api.openapi.document import PROBLEMS
from app.api.schemas.health import Status
from app.db.engine import DATABASE_ERRORS
from app.health.checks import checks_of
from app.health.gauges import Families, read_families
from app.health.rows import read_facts
from app.health.rules import rules_of
from app.resources import Resources

log = structlog.get_logger()
router = APIRouter(tags=["health"])

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SEVERITY = {Status.OK: 0, Status.DEGRADED: 1, Status.FAILING: 2}
_TEXT = {"description": "Prometheus text.", "content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}


def _access(request: Request) -> Access:
    access: Access = request.app.state.access
    return access


class _Scrape(Collector):
    """What is only known when somebody asks."""

    def __init__(self, families: Families) -> None:
        self._families = families

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily | InfoMetricFamily]:
        yield from self._families


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: _TEXT, 401: PROBLEMS[401]},
    dependencies=[Depends(bearer)],
)
async def metrics(res: Res, access: Annotated[Access, Depends(_access)]) -> Response:
    """Prometheus text. Counters are of this process; what is read from the rows is the same on every process."""
    scraped = CollectorRegistry(auto_describe=False)
    scraped.register(_Scrape([*_of_process(res, access), *await _of_rows(res)]))
    body = generate_latest(res.metrics.registry) + generate_latest(scraped)
    return Response(body, media_type=MEDIA_TYPE)


def _of_process(res: Resources, access: Access) -> Families:
    refused = CounterMetricFamily(
        "tallyhook_deliveries_refused", "Webhook deliveries that were not believed, by reason.", labels=["reason"]
    )
    for reason, count in res.intake.refused.items():
        refused.add_metric([reason], count)
    failed = CounterMetricFamily(
        "tallyhook_authentication_failures", "Requests without a token that may do it, by reason.", labels=["reason"]
    )
    for reason, count in access.refused.items():
        failed.add_metric([reason], count)
    build = InfoMetricFamily("tallyhook_build", "The version that runs.", value={"version": __version__})
    return [refused, failed, build]


async def _of_rows(res: Resources) -> Families:
    up = GaugeMetricFamily("tallyhook_database_up", "Whether the rows could be read for this answer (1) or not (0).")
    try:
        families = [*await read_families(res), await _checks(res)]
    except DATABASE_ERRORS as error:
        # What the process counted is worth most when the database is in trouble.
        log.warning("metrics.database_trouble", error=type(error).__name__)
        families = []
        up.add_metric([], 0)
    else:
        up.add_metric([], 1)
    return [up, *families]


async def _checks(res: Resources) -> GaugeMetricFamily:
    """What `/health` says of the rows, so that alerts need not judge anew what is late or stuck."""
    family = GaugeMetricFamily(
        "tallyhook_check_status", "The checks of /health: 0 ok, 1 degraded, 2 failing.", labels=["check"]
    )
    facts = await read_facts(res)
    for check in checks_of(facts, res.settings, rules_of(facts)):
        family.add_metric([check.name], _SEVERITY[check.status])
    return family
