"""Is the process alive, is it ready, and is everything as it should be? Named checks, within a few seconds."""

import asyncio
from dataclasses import dataclass
from functools import cache
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.api.http.dependencies import Res, bearer
from app.api.openapi.document import PROBLEMS
from app.api.schemas.health import CheckOut, FullHealthOut, HealthOut, RuleHealthOut, Status, summed_up
from app.db.migrate import head_revision, known_revisions
from app.health.checks import checks_of
from app.health.rows import read_facts
from app.health.rules import rules_of
from app.resources import Resources

router = APIRouter(tags=["health"])

# Probes usually give up after a few seconds, and an answer that names the check helps more than silence.
ANSWER_SECONDS = 3.0
MOST_RULES_SHOWN = 100


@dataclass(slots=True)
class Probe:
    """Asks the database, once at a time however many ask, and does not wait for it for long."""

    asking: asyncio.Task[list[CheckOut]] | None = None

    async def ask(self, res: Resources) -> list[CheckOut]:
        if self.asking is None or self.asking.done():
            self.asking = asyncio.create_task(_ask(res))
        done, _ = await asyncio.wait({self.asking}, timeout=ANSWER_SECONDS)
        return self.asking.result() if done else [_database(away="it does not answer")]


def _probe(request: Request) -> Probe:
    probe: Probe = request.app.state.probe
    return probe


TheProbe = Annotated[Probe, Depends(_probe)]


@router.get("/health/live")
@router.head("/health/live", include_in_schema=False)
async def live() -> HealthOut:
    """200 while the process can answer; asks nobody."""
    return HealthOut(status=Status.OK, checks=[])


@router.get("/health/ready", responses={503: {"model": HealthOut}})
@router.head("/health/ready", include_in_schema=False)
async def ready(res: Res, probe: TheProbe, response: Response) -> HealthOut:
    """200 when requests and work can be taken, 503 with the check that fails."""
    checks = await probe.ask(res)
    status = summed_up(checks)
    if status is Status.FAILING:
        response.status_code = 503
    return HealthOut(status=status, checks=checks)


@router.get("/health", dependencies=[Depends(bearer)], responses={401: PROBLEMS[401]})
async def health(res: Res, probe: TheProbe) -> FullHealthOut:
    """What an operator wants to know: the status is in the body, and the answer is a 200 whatever it is."""
    checks = await probe.ask(res)
    rules: list[RuleHealthOut] = []
    # The rows are asked only where they can answer.
    if all(check.status is Status.OK for check in checks if check.name in ("database", "schema")):
        try:
            facts = await read_facts(res)
        except (SQLAlchemyError, OSError) as error:
            checks = [_database(away=type(error).__name__)]
        else:
            rules = rules_of(facts)
            checks = [*checks, *checks_of(facts, res.settings, rules)]
    return FullHealthOut(status=summed_up(checks), checks=checks, rules=rules[:MOST_RULES_SHOWN])


async def _ask(res: Resources) -> list[CheckOut]:
    try:
        async with res.sessions() as session:
            values = {"worker": res.worker_id, "seconds": res.settings.stalled_after_seconds}
            found = (await session.execute(_FACTS, values)).one()
    except (SQLAlchemyError, OSError) as error:
        # The class says enough; a driver's message may hold the address and the user.
        return [_database(away=type(error).__name__)]
    checks = [_database(), _schema(found.revision)]
    return [*checks, _worker(seen=found.worker_seen)] if res.works_queue else checks


def _database(*, away: str | None = None) -> CheckOut:
    if away is not None:
        return CheckOut(name="database", status=Status.FAILING, detail=f"the database cannot be used: {away}")
    return CheckOut(name="database", status=Status.OK, detail="the database answers")


def _schema(revision: str) -> CheckOut:
    # Migrations only add what the version before can pass over, so a newer schema serves this version too.
    if revision == _head() or revision not in _known():
        return CheckOut(name="schema", status=Status.OK, detail=f"the schema is at {revision}")
    detail = f"the schema is at {revision}, this version needs {_head()}: run `tallyhook migrate`"
    return CheckOut(name="schema", status=Status.FAILING, detail=detail)


def _worker(*, seen: bool) -> CheckOut:
    if seen:
        return CheckOut(name="worker", status=Status.OK, detail="this process works the queue")
    return CheckOut(name="worker", status=Status.FAILING, detail="the worker of this process was not heard of lately")


# Both read the folder of migrations, which does not change while a process lives.
_head = cache(head_revision)
_known = cache(known_revisions)

_FACTS = text("""
select (select version_num from alembic_version) as revision,
    exists (select from workers
            where id = :worker and seen_at > clock_timestamp() - :seconds * interval '1 s') as worker_seen
""")
