"""Liveness, readiness and the full health report: named checks, within a few seconds."""

from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, Request, Response

from app.api.http.dependencies import Res, bearer
from app.api.openapi.document import PROBLEMS
from app.api.schemas.health import FullHealthOut, HealthOut, full_health_out, health_out
from app.health.judgements import Judgements
from app.health.process import Probe, can_judge, database_away
from app.health.results import Status

log = structlog.get_logger()
router = APIRouter(tags=["health"])


async def _probe(request: Request) -> Probe:
    probe: Probe = request.app.state.probe
    return probe


async def _judgements(request: Request) -> Judgements:
    judgements: Judgements = request.app.state.judgements
    return judgements


TheProbe = Annotated[Probe, Depends(_probe)]
TheJudgements = Annotated[Judgements, Depends(_judgements)]


@router.get("/health/live")
@router.head("/health/live", include_in_schema=False)
async def live() -> HealthOut:
    """200 while the process can answer; checks nothing else."""
    return health_out([])


@router.get("/health/ready", responses={503: {"model": HealthOut}})
@router.head("/health/ready", include_in_schema=False)
async def ready(res: Res, probe: TheProbe, response: Response) -> HealthOut:
    """200 when the process can take requests and work, else 503 with the failing check."""
    found = health_out(await probe.ask(res))
    if found.status is Status.FAILING:
        response.status_code = 503
    return found


@router.get("/health", dependencies=[Depends(bearer)], responses={401: PROBLEMS[401]})
async def health(res: Res, probe: TheProbe, judgements: TheJudgements) -> FullHealthOut:
    """Everything an operator wants to know; always answered 200, with the status in the body."""
    checks = await probe.ask(res)
    # The rows are read only if the database can answer.
    if not can_judge(checks):
        return full_health_out(checks, None)
    try:
        return full_health_out(checks, await judgements.newest(res))
    except Exception as error:
        # Any error at all: an operator who asks what is wrong must get an answer.
        log.exception("health.broke")
        return full_health_out([*checks[1:], database_away(type(error).__name__)], None)
