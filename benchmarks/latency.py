"""What we add to a report on an idle service: availability event in → create out; success event in → file visible.

The simulator plays in this process and notes when a create arrives; events are posted by hand, and the file is asked
for as soon as the database tells that it is stored, so that no polling keeps the service busy.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import psycopg
import uvloop

from app.db.engine import libpq_conninfo
from app.simulator import Simulator, serve
from app.simulator.faults import CALL_FAULTS, Fault, FaultBook, Subject
from benchmarks.deliveries import event, signature
from benchmarks.harness import Row, alone, below, quantile
from benchmarks.rows import add_rules, rule
from benchmarks.stage import ADMIN_TOKEN, SECRET, Stage
from benchmarks.stripe import REPORT_TYPES, Wanted, first_day, midnight, prepare

TYPE = REPORT_TYPES[0]
CREATE = "/v1/reporting/report_runs"
# Between two samples, so that each one finds the service idle.
PAUSE_SECONDS = 0.03
WARM_UP = 5
_TELL = """
create function bench_tell() returns trigger language plpgsql as $$ begin
    perform pg_notify('bench', new.run_id::text); return null; end $$;
create trigger bench_tell after update of stored_at on files for each row when (new.stored_at is not null)
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
    """p50 and p99 of both."""
    samples = 40 if stage.short else 250
    with stage.database() as url:
        to_create, to_file = uvloop.run(_sample(stage, url, samples))
    for what, taken in (
        ("availability event in → create call out", to_create),
        ("success event in → file visible through the API", to_file),
    ):
        times = [seconds * 1000 for seconds in taken]
        yield alone(f"{what}: p50", [quantile(times, 0.5)], "ms", aim=below(30, "ms"), note=f"{len(times)} samples")
        yield alone(f"{what}: p99", [quantile(times, 0.99)], "ms", aim=below(150, "ms"))


async def _sample(stage: Stage, url: str, samples: int) -> tuple[list[float], list[float]]:
    simulator = Simulator(outcome="hang")
    days = samples + WARM_UP
    prepare(simulator, Wanted(days=days, instant=False))
    kind = simulator.report_type(TYPE)
    kind.data_available_end = int((midnight() - timedelta(days=days)).timestamp()) + 1
    watch = simulator.world.faults = Watch()
    async with serve(simulator) as base, _told(url) as stored:
        # The service is a process of its own; only its start blocks this loop, and needs no answer from it.
        with stage.service("serve", "--port", "0", url=url, stripe=base) as service:
            await asyncio.sleep(1)
            await add_rules(url, rule("daily", TYPE, starts_on=first_day(days)))
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
    await asyncio.sleep(PAUSE_SECONDS)
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
