"""Alive and ready: answered quickly, with the failing check by name, even while the database is away."""

from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest

from app.health import process
from app.resources import Resources
from tests.api.conftest import client_of
from tests.service import execute, working


@pytest.fixture
def res(res: Resources) -> Resources:
    """A process that leaves the queue to another process."""
    return replace(res, works_queue=False)


@pytest.fixture
async def worker(res: Resources) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a process that works the queue as well."""
    async with client_of(replace(res, works_queue=True), None) as client:
        yield client


def found(answer: httpx.Response) -> dict[str, str]:
    return {check["name"]: check["status"] for check in answer.json()["checks"]}


async def seen_ready(api: httpx.AsyncClient) -> httpx.Response:
    """The first answer that says ready: the worker needs a moment to be seen."""
    while (answer := await api.get("/health/ready")).status_code != 200:
        pass
    return answer


async def test_a_process_with_its_worker_is_ready(res: Resources, worker: httpx.AsyncClient) -> None:
    async with working(res):
        answer = await seen_ready(worker)

    assert answer.json()["status"] == "ok"
    assert found(answer) == {"database": "ok", "schema": "ok", "worker": "ok"}


async def test_a_process_whose_worker_has_not_reported_is_not_ready(worker: httpx.AsyncClient) -> None:
    answer = await worker.get("/health/ready")

    assert answer.status_code == 503
    assert found(answer) == {"database": "ok", "schema": "ok", "worker": "failing"}


async def test_a_process_without_a_worker_needs_none(nobody: httpx.AsyncClient) -> None:
    answer = await nobody.get("/health/ready")

    assert (answer.status_code, found(answer)) == (200, {"database": "ok", "schema": "ok"})


@pytest.mark.parametrize(("revision", "status"), [("0000_older", 503), ("9999_newer", 200)])
async def test_an_older_schema_is_not_enough_and_a_newer_one_is(
    res: Resources, nobody: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, revision: str, status: int
) -> None:
    monkeypatch.setattr(process, "known_revisions", lambda: frozenset({"0000_older"}))
    await execute(res, "update alembic_version set version_num = :revision", revision=revision)

    assert (await nobody.get("/health/ready")).status_code == status


async def test_a_database_that_is_away_is_named_and_the_process_lives(
    res: Resources, nobody: httpx.AsyncClient
) -> None:
    await execute(res, "alter table alembic_version rename to elsewhere")

    ready = await nobody.get("/health/ready")

    assert (ready.status_code, found(ready)) == (503, {"database": "failing"})
    assert (await nobody.get("/health/live")).status_code == 200


async def test_a_database_that_hangs_keeps_nobody_waiting(
    res: Resources, nobody: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "ANSWER_SECONDS", 0.05)
    async with res.sessions.begin() as session:
        # A query for the revision waits for this transaction.
        await (await session.connection()).exec_driver_sql("lock table alembic_version in access exclusive mode")
        answers = [await nobody.get("/health/ready") for _ in range(20)]
        busy = res.engine.pool.checkedout()  # type: ignore[attr-defined]  # the pool that an engine has by default

    assert {answer.status_code for answer in answers} == {503}
    assert found(answers[0]) == {"database": "failing"}
    assert busy <= 2, "one of ours, and one probe: those who ask share it"
    assert (await nobody.get("/health/ready")).status_code in (200, 503)


async def test_probes_may_use_head_and_the_long_answer_needs_a_token(
    res: Resources, nobody: httpx.AsyncClient, api: httpx.AsyncClient
) -> None:
    assert [(await nobody.head(f"/health/{name}")).status_code for name in ("live", "ready")] == [200, 200]
    assert (await nobody.get("/health")).status_code == 401
    assert (await api.get("/health")).status_code == 200
