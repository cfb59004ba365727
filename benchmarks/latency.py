"""What we add to a report on an idle service: availability event in → create out; success event in → file visible.

The simulator plays in this process and notes when a create arrives; events are posted by hand, and the file is asked
for as soon as the database tells that it is stored, so that no polling keeps the service busy.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psycopg
import uvloop

from app.db.engine import libpq_conninfo
from app.simulator import Simulator, serve
from app.simulator.faults import CALL_FAULTS, Fault, FaultBook, Subject
from benchmarks import before
from benchmarks.deliveries import event, signature
from benchmarks.harness import Row, against, alone, alternate, at_least, below, not_measured, quantile
from benchmarks.rows import plan_daily
from benchmarks.stage import ADMIN_TOKEN, ROOT, SECRET, Stage
from benchmarks.stripe import REPORT_TYPES, Wanted, midnight, prepare

TYPE = REPORT_TYPES[0]
OURS = "ours"
CREATE = "/v1/reporting/report_runs"
# Between two samples, so that each one finds the service idle: after a create it asks when more will be due, after a
# file its rows are loaded and checked.
IDLE_SECONDS, PAUSE_SECONDS = 0.2, 0.15
WARM_UP = 5
_TELL = """
create function bench_tell() returns trigger language plpgsql as $$ begin
    perform pg_notify('bench', new.run_id::text); return null; end $$;
create trigger bench_tell after insert or update of stored_at on files for each row when (new.stored_at is not null)
    execute function bench_tell();
"""


class Watch(FaultBook):
    """Notes when a create call arrives."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived: asyncio.Queue[float] = asyncio.Queue()
        self.add(Fault("slow", times=0))  # strikes never; without any rule nobody would look what is called

    def strike(self, kinds: frozenset[str], subject: Subject) -> dict[str, Fault]:
        if kinds is CALL_FAULTS and subject.method == "POST" and subject.path == CREATE:
            self.arrived.put_nowait(time.perf_counter())
        return super().strike(kinds, subject)


def measure(stage: Stage) -> Iterator[Row]:
    """p50 and p99 of both, beside what they were before."""
    samples = 40 if stage.short else 125
    contenders = {OURS: partial(_on_its_own, stage, samples)}
    if (lacking := before.why_not()) is None:
        contenders[before.NAME] = partial(_on_its_own, stage, samples, root=before.unpacked(stage))
    given = alternate(1 if stage.short else 2, contenders)
    for place, what in enumerate(
        ("availability event in → create call out", "success event in → file visible through the API")
    ):
        for name, share, aim in (("p50", 0.5, below(30, "ms")), ("p99", 0.99, below(150, "ms"))):
            rounds = {whose: [quantile(taken[place], share) * 1000 for taken in its] for whose, its in given.items()}
            note = f"{samples} samples a round"
            yield alone(f"{what}: {name}", rounds[OURS], "ms", aim=aim, note=note)
            if lacking is None:
                its = rounds[before.NAME]
                least = at_least(round(1 / 0.75, 2)) if name == "p50" else at_least(1)
                yield against(
                    f"{what}: {name}", rounds[OURS], "ms", limit=before.NAME, limits=its, less_is_better=True, aim=least
                )
    if lacking is not None:
        yield not_measured(f"latency, beside {before.NAME}", lacking)


def _on_its_own(stage: Stage, samples: int, root: Path | None = None) -> tuple[list[float], list[float]]:
    with stage.database(empty=root is not None) as url:
        return uvloop.run(_sample(stage, url, samples, root))


async def _sample(stage: Stage, url: str, samples: int, root: Path | None) -> tuple[list[float], list[float]]:
    simulator = Simulator(outcome="hang")
    days = samples + WARM_UP
    prepare(simulator, Wanted(days=days, instant=False))
    kind = simulator.report_type(TYPE)
    kind.data_available_end = int((midnight() - timedelta(days=days)).timestamp()) + 1
    watch = simulator.world.faults = Watch()
    # The service is a process of its own; only its start blocks this loop, and needs no answer from it.
    async with serve(simulator) as base:
        with stage.service("serve", "--port", "0", url=url, stripe=base, root=root) as service:
            async with _told(url) as stored:
                await asyncio.sleep(1)
                await asyncio.to_thread(plan_daily, url, [TYPE], days=days, root=root or ROOT)
                headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
                async with httpx.AsyncClient(base_url=service.url, headers=headers, trust_env=False) as client:
                    taken = [await _one_day(simulator, watch, stored, client) for _ in range(days)]
    return [first for first, _ in taken[WARM_UP:]], [second for _, second in taken[WARM_UP:]]


@asynccontextmanager
async def _told(url: str) -> AsyncIterator[asyncio.Queue[str]]:
    """The ids of runs, as their files are stored."""
    stored: asyncio.Queue[str] = asyncio.Queue()
    async with await psycopg.AsyncConnection.connect(libpq_conninfo(url), autocommit=True) as connection:
        await connection.execute(_TELL)
        await connection.execute("listen bench")

        async def listen() -> None:
            async for notification in connection.notifies():
                stored.put_nowait(notification.payload)

        listening = asyncio.create_task(listen())
        try:
            yield stored
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


async def _one_day(
    simulator: Simulator, watch: Watch, stored: asyncio.Queue[str], client: httpx.AsyncClient
) -> tuple[float, float]:
    """One more day of data: seconds until its run is asked for; then, it has succeeded: until its file can be had."""
    await asyncio.sleep(IDLE_SECONDS)
    kind = simulator.report_type(TYPE)
    kind.data_available_end += 86400
    began = time.perf_counter()
    await _deliver(client, "reporting.report_type.updated", kind.rendered())
    to_create = await asyncio.wait_for(watch.arrived.get(), 30) - began
    await asyncio.sleep(PAUSE_SECONDS)
    run = simulator.finish_run(simulator.runs[-1].id)
    began = time.perf_counter()
    await _deliver(client, "reporting.report_run.succeeded", run.rendered())
    run_id = await asyncio.wait_for(stored.get(), 30)
    answer = await client.get(f"/v1/runs/{run_id}/file")
    assert answer.status_code == 200, answer.text
    return to_create, time.perf_counter() - began


async def _deliver(client: httpx.AsyncClient, type_: str, about: dict[str, Any]) -> None:
    body = event(type_, about)
    answer = await client.post("/webhooks/stripe", content=body, headers={"Stripe-Signature": signature(body, SECRET)})
    assert answer.status_code == 200, answer.text
