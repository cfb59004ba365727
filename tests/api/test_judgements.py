"""A slow judgement serves all requests of the next few seconds; a quick one is made again each time."""

import asyncio
import math
from typing import Any

import httpx
import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.health import judgements
from app.health.judge import Judgement, judge
from app.health.judgements import Judgements
from app.resources import Resources
from app.settings import Settings
from tests.api.conftest import bearer, client_of
from tests.service import READ_TOKEN, add_rule
from tests.until import until
from tests.web.visiting import log_in, visitor


class Counted:
    """The real judge, counted; it waits at the gate, and fails as often as it is told to."""

    def __init__(self) -> None:
        self.calls, self.failures = 0, 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, sessions: async_sessionmaker[AsyncSession], settings: Settings) -> Judgement:
        self.calls += 1
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise OperationalError("select", {}, Exception("the server closed the connection"))
        return await judge(sessions, settings)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """A database on which every judgement takes long enough to be kept."""
    counted = Counted()
    monkeypatch.setattr(judgements, "judge", counted)
    monkeypatch.setattr(judgements, "QUICK_SECONDS", -1.0)
    monkeypatch.setattr(judgements, "KEPT_SECONDS", 3600.0)
    return counted


async def rules_seen(api: httpx.AsyncClient) -> int:
    answer: dict[str, Any] = (await api.get("/health")).json()
    return len(answer["rules"])


async def test_health_metrics_and_the_page_today_share_one_judgement(res: Resources, judged: Counted) -> None:
    async with visitor(res) as client:
        for path in ("/health", "/metrics", "/health", "/metrics"):
            assert (await client.get(path, headers=bearer(READ_TOKEN))).status_code == 200
        await log_in(client)
        assert (await client.get("/")).status_code == 200

    assert judged.calls == 1


async def test_everyone_who_asks_meanwhile_waits_for_the_same_one_and_may_hang_up(
    res: Resources, judged: Counted
) -> None:
    judged.gate.clear()
    shared = Judgements()
    first, *others = [asyncio.create_task(shared.newest(res)) for _ in range(5)]
    await until(lambda: judged.calls == 1)

    first.cancel()
    await asyncio.wait({first})
    judged.gate.set()

    assert len({id(one) for one in await asyncio.gather(*others)}) == 1
    assert judged.calls == 1


async def test_what_is_kept_is_dropped_when_its_time_is_over(
    res: Resources, judged: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judgements, "KEPT_SECONDS", 0.0)
    async with client_of(res) as api:
        before = await rules_seen(api)
        await add_rule(res)

        assert (before, await rules_seen(api)) == (0, 1)


async def test_a_quick_judgement_is_not_kept_and_shows_what_just_changed(
    res: Resources, judged: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judgements, "QUICK_SECONDS", math.inf)
    async with client_of(res) as api:
        before = await rules_seen(api)
        await add_rule(res)

        assert (before, await rules_seen(api)) == (0, 1)


async def test_an_error_is_not_kept(res: Resources, judged: Counted) -> None:
    judged.failures = 1
    shared = Judgements()

    with pytest.raises(OperationalError):
        await shared.newest(res)

    assert (await shared.newest(res)).checks
