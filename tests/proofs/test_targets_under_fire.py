"""Targets under fire: one dead, one slow, one that answers 500, one healthy; workers are killed all the while.

A proof of `make sweep`, which prints what became of each target: with `PROOF_MESSAGES=10000` in the environment.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import RowMapping
from standardwebhooks import Webhook
from starlette.types import Receive, Scope, Send

from app.resources import Resources, open_resources
from app.simulator import Simulator
from app.targets import messages, store
from app.targets.check import NewTarget
from app.targets.messages import NewMessage
from app.vocabulary import MessageType, TargetKind
from tests.proofs.processes import ServiceProcess, cleared_away
from tests.service import fetch, make_environ, make_settings
from tests.targets.receivers import WebReceiver, web_receiver
from tests.until import until

MESSAGES = int(os.environ.get("PROOF_MESSAGES", "60"))
PATIENCE = 240.0 + MESSAGES / 10  # seconds; nothing is measured, this only ends a test that would hang
# After this many messages at the healthy one, a running worker is killed.
MESSAGES_PER_LIFE = max(25, MESSAGES // 10)
TARGETS = ("dead", "failing", "slow", "well")
SLOW_SECONDS = 2.0
SETTINGS = {
    "TALLYHOOK_SIGNING_KEY": "a-signing-key-of-more-than-32-characters",
    "TALLYHOOK_TARGET_NETWORKS": "127.0.0.0/8",
    "TALLYHOOK_STALLED_AFTER_SECONDS": 1,
}


class Slow(WebReceiver):
    """Answers everything, each after two seconds."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(SLOW_SECONDS)
        await super().__call__(scope, receive, send)


class Watched(WebReceiver):
    """Kills a worker now and then, before it answers."""

    workers: Sequence[ServiceProcess] = ()
    calls: Iterator[int] = count(1)

    def has_all(self) -> bool:
        """Whether each message has arrived at least once."""
        # Without a query: the database has enough to do, and the rows are many.
        return len(self.received) >= MESSAGES and len({one.headers["webhook-id"] for one in self.received}) == MESSAGES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        turn, rest = divmod(next(self.calls), MESSAGES_PER_LIFE)
        if rest == 0 and self.workers[turn % 2].up:
            self.workers[turn % 2].kill()
        await super().__call__(scope, receive, send)


@pytest.mark.skipif("PROOF_MESSAGES" not in os.environ, reason="set PROOF_MESSAGES: it takes long on a busy machine")
@pytest.mark.timeout(2 * PATIENCE)
async def test_a_dead_slow_or_failing_target_keeps_nothing_from_a_healthy_one(
    database_url: str, simulator: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = make_environ(database_url, simulator, **SETTINGS)
    workers = [ServiceProcess("worker", environ=environ, folder=tmp_path / name) for name in ("one", "other")]
    async with AsyncExitStack() as stack:
        res = await stack.enter_async_context(open_resources(make_settings(database_url, simulator, **SETTINGS)))
        await stack.enter_async_context(cleared_away(*workers))
        well, slow, failing = Watched(), Slow(), WebReceiver(always=500)
        well.workers = workers
        for receiver in (well, slow, failing):
            await stack.enter_async_context(web_receiver(receiver))
        urls = {"dead": "http://127.0.0.1:9/hook", "failing": failing.url, "slow": slow.url, "well": well.url}
        secret = await _add_targets(res, urls)

        # When many messages are born at once, and workers die again and again
        await _announce(res)
        async with _kept_up(workers):
            await until(well.has_all, "the one that is well has every message", seconds=PATIENCE)
            await until(lambda: _all_recorded(res), "every one is recorded as delivered")

        # Then it has each message at least once, signed, and those that arrived twice bear the same id
        ids = [one.headers["webhook-id"] for one in well.received]
        assert len(set(ids)) == MESSAGES
        for one in well.received[:50]:
            Webhook(secret).verify(one.body, one.headers)
        # Only what was on its way when a worker died may have come twice: 4 at most each time
        kills = sum(worker.kills for worker in workers)
        assert kills >= MESSAGES // MESSAGES_PER_LIFE - 1
        assert len(ids) - MESSAGES <= 4 * kills
        # And nothing is lost at the others: delivered, or waiting for its next try, every failure on record
        found = {row["name"]: row for row in await fetch(res, _WHAT_BECAME)}
        assert {name: row["messages"] for name, row in found.items()} == dict.fromkeys(TARGETS, MESSAGES)
        assert found["slow"]["delivered"] <= len({one.headers["webhook-id"] for one in slow.received})
        for name in ("dead", "failing"):
            assert (found[name]["delivered"], found[name]["lost"]) == (0, 0)
            assert found[name]["tries"] > 0
        with capsys.disabled():
            _report(found, len(ids) - MESSAGES, kills)


async def _add_targets(res: Resources, urls: dict[str, str]) -> str:
    """Add the targets; returns the healthy one's secret."""
    secret = ""
    async with res.sessions.begin() as session:
        for name, url in urls.items():
            new = NewTarget(name, TargetKind.WEBHOOK, url, [], ["*"], None, None)
            target = await store.create(session, new, settings=res.settings, by="test")
            secret = store.secret_of(target, res.settings)
    return secret


async def _announce(res: Resources) -> None:
    async with res.sessions.begin() as session:
        data = {"text": "a month is complete", "month": "2026-10"}
        new = [NewMessage(MessageType.MONTH_COMPLETE, data, f"fire/{number}") for number in range(MESSAGES)]
        await messages.announce(session, new)


@asynccontextmanager
async def _kept_up(workers: Sequence[ServiceProcess]) -> AsyncIterator[None]:
    keeping = [asyncio.create_task(_keep_up(worker)) for worker in workers]
    try:
        yield
    finally:
        for keeper in keeping:
            keeper.cancel()
        await asyncio.wait(keeping)


async def _keep_up(worker: ServiceProcess) -> None:
    """Start it again each time it was killed."""
    while True:
        if not worker.running:
            with suppress(AssertionError):  # killed while it started, or slow to start on a busy machine
                await worker.start()
        await asyncio.sleep(0.05)


async def _all_recorded(res: Resources) -> bool:
    (well,) = await fetch(res, "select count(*) as left from deliveries join targets on targets.id = target_id"
                          " where targets.name = 'well' and deliveries.state <> 'delivered'")  # fmt: skip
    return bool(well["left"] == 0)


def _report(found: dict[str, RowMapping], twice: int, kills: int) -> None:
    print(f"\n{MESSAGES} messages, {kills} kills, {twice} arrived twice at the one that is well")  # noqa: T201
    for name, row in found.items():
        print(f"{name:>8}: {dict(row)}")  # noqa: T201


_WHAT_BECAME = """
select targets.name, count(*) as messages, count(*) filter (where deliveries.state = 'delivered') as delivered,
    sum(tries) as tries, count(*) filter (where deliveries.state not in ('delivered', 'pending')) as lost,
    max(case when deliveries.state = 'delivered' then extract(epoch from delivered_at - messages.created_at) end)
        as longest_wait,
    percentile_cont(0.5) within group (order by extract(epoch from delivered_at - messages.created_at)) as median_wait,
    percentile_cont(0.99) within group (order by extract(epoch from delivered_at - messages.created_at)) as p99_wait
from deliveries join targets on targets.id = target_id join messages on messages.id = message_id
group by targets.name order by targets.name
"""
