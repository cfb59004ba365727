"""`GET /metrics`: the counters of this process and gauges from the rows, as Prometheus text."""

from collections.abc import Iterator
from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from app import __version__
from app.api.health import TheJudgements, TheProbe
from app.api.http.dependencies import Res, bearer, for_every_account
from app.api.http.tokens import Access
from app.api.openapi.document import PROBLEMS
from app.health.gauges import Families, read_families
from app.health.judgements import Judgements
from app.health.process import Probe, can_judge, database_away
from app.health.results import Check, Status
from app.resources import Resources

log = structlog.get_logger()
router = APIRouter(tags=["health"])

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SEVERITY = {Status.OK: 0, Status.DEGRADED: 1, Status.FAILING: 2}
_TEXT = {"description": "Prometheus text.", "content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}


async def _access(request: Request) -> Access:
    access: Access = request.app.state.access
    return access


class _Scrape(Collector):
    """What is read at each scrape."""

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
async def metrics(
    res: Res, access: Annotated[Access, Depends(_access)], probe: TheProbe, judgements: TheJudgements
) -> Response:
    """Prometheus text. Counters are of this process; what is read from the rows is the same on every process."""
    for_every_account(res)
    scraped = CollectorRegistry(auto_describe=False)
    scraped.register(_Scrape([*_of_process(res, access), *await _of_rows(res, probe, judgements)]))
    body = generate_latest(res.metrics.registry) + generate_latest(scraped)
    return Response(body, media_type=MEDIA_TYPE)


def _of_process(res: Resources, access: Access) -> Families:
    refused = CounterMetricFamily(
        "tallyhook_deliveries_refused", "Refused webhook deliveries, by reason.", labels=["reason"]
    )
    for reason, count in res.intake.refused.by_reason.items():
        refused.add_metric([reason], count)
    failed = CounterMetricFamily(
        "tallyhook_authentication_failures", "Requests without a valid token, by reason.", labels=["reason"]
    )
    for reason, count in access.refused.items():
        failed.add_metric([reason], count)
    build = InfoMetricFamily("tallyhook_build", "The running version.", value={"version": __version__})
    return [refused, failed, build]


async def _of_rows(res: Resources, probe: Probe, judgements: Judgements) -> Families:
    up = GaugeMetricFamily("tallyhook_database_up", "Whether the rows could be read for this answer (1) or not (0).")
    checks = await probe.ask(res)
    families: Families = []
    if can_judge(checks):
        try:
            families = await read_families(res)
            checks = [*checks, *(await judgements.newest(res)).checks]
        except Exception as error:
            # The process's counters matter most when something is broken, so any error here is tolerated.
            log.warning("metrics.database_trouble", error=type(error).__name__)
            families, checks = [], [*checks[1:], database_away(type(error).__name__)]
    up.add_metric([], float(bool(families)))
    return [up, *families, _checks(checks)]


def _checks(checks: list[Check]) -> GaugeMetricFamily:
    """The results of `/health`, so that alerts do not have to decide what is late or stuck."""
    family = GaugeMetricFamily(
        "tallyhook_check_status", "The checks of /health: 0 ok, 1 degraded, 2 failing.", labels=["check"]
    )
    for check in checks:
        family.add_metric([check.name], _SEVERITY[check.status])
    return family
