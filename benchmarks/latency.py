"""What we add to a report on an idle service: availability event in → create out; success event in → file visible.

The simulator runs in this process and notes when a create arrives; events are posted by hand, and the file is
requested as soon as the database says that it is stored, so that no polling keeps the service busy.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
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
from benchmarks.harness import Row, against, alone, at_least, below, not_measured, quantile
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
        self.add(Fault("slow", times=0))  # never strikes; without any rule nothing would look at the calls

    def strike(self, kinds: frozenset[str], subject: Subject) -> dict[str, Fault]:
        if kinds is CALL_FAULTS and subject.method == "POST" and subject.path == CREATE:
            self.arrived.put_nowait(time.perf_counter())
        return super().strike(kinds, subject)


@dataclass(frozen=True, slots=True)
class _Service:
    """A running service, its Stripe, and how to see what it does."""

    simulator: Simulator
    watch: Watch
    stored: asyncio.Queue[str]
    client: httpx.AsyncClient


def measure(stage: Stage) -> Iterator[Row]:
    """p50 and p99 of both, beside what they were before."""
    samples = 40 if stage.short else 250
    roots: dict[str, Path | None] = {OURS: None}
    if (lacking := before.why_not()) is None:
        roots[before.NAME] = before.unpacked(stage)
    with ExitStack() as stack:
        urls = {whose: stack.enter_context(stage.database(empty=root is not None)) for whose, root in roots.items()}
        taken = uvloop.run(_by_turns(stage, urls, roots, samples))
    for place, what in enumerate(
        ("availability event in → create call out", "success event in → file visible through the API")
    ):
        for name, share, aim in (("p50", 0.5, below(30, "ms")), ("p99", 0.99, below(150, "ms"))):
            given = {whose: [quantile([one[place] for one in its], share) * 1000] for whose, its in taken.items()}
            yield alone(f"{what}: {name}", given[OURS], "ms", aim=aim, note=f"{samples} samples")
            if lacking is None:
                its = given[before.NAME]
                least = at_least(round(1 / 0.75, 2)) if name == "p50" else at_least(1)
                yield against(
                    f"{what}: {name}", given[OURS], "ms", limit=before.NAME, limits=its, less_is_better=True, aim=least
                )
    if lacking is not None:
        yield not_measured(f"latency, beside {before.NAME}", lacking)


async def _by_turns(
    stage: Stage, urls: Mapping[str, str], roots: Mapping[str, Path | None], samples: int
) -> dict[str, list[tuple[float, float]]]:
    """Seconds of each sample, by service: all are up at once, as no two minutes are alike on a shared machine."""
    days = samples + WARM_UP
    async with AsyncExitStack() as stack:
        services = {
            whose: await stack.enter_async_context(_running(stage, urls[whose], root, days))
            for whose, root in roots.items()
        }
        taken: dict[str, list[tuple[float, float]]] = {whose: [] for whose in services}
        for _ in range(days):
            for whose, service in services.items():
                taken[whose].append(await _one_day(service))
    return {whose: its[WARM_UP:] for whose, its in taken.items()}


@asynccontextmanager
async def _running(stage: Stage, url: str, root: Path | None, days: int) -> AsyncIterator[_Service]:
    simulator = Simulator(outcome="hang")
    prepare(simulator, Wanted(days=days, instant=False))
    kind = simulator.report_type(TYPE)
    kind.data_available_end = int((midnight() - timedelta(days=days)).timestamp()) + 1
    watch = simulator.world.faults = Watch()
    # The service is a separate process; only its start blocks this loop, and needs no answer from it.
    async with serve(simulator) as base:
        with stage.service("serve", "--port", "0", url=url, stripe=base, root=root) as service:
            async with _told(url) as stored:
                await asyncio.sleep(1)
                await asyncio.to_thread(plan_daily, url, [TYPE], days=days, root=root or ROOT)
                headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
                async with httpx.AsyncClient(base_url=service.url, headers=headers, trust_env=False) as client:
                    yield _Service(simulator, watch, stored, client)


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


async def _one_day(service: _Service) -> tuple[float, float]:
    """One more day of data: seconds until its run is requested; then, from its success until its file is available."""
    simulator, client = service.simulator, service.client
    await asyncio.sleep(IDLE_SECONDS)
    kind = simulator.report_type(TYPE)
    kind.data_available_end += 86400
    began = time.perf_counter()
    await _deliver(client, "reporting.report_type.updated", kind.rendered())
    to_create = await asyncio.wait_for(service.watch.arrived.get(), 30) - began
    await asyncio.sleep(PAUSE_SECONDS)
    run = simulator.finish_run(simulator.runs[-1].id)
    began = time.perf_counter()
    await _deliver(client, "reporting.report_run.succeeded", run.rendered())
    run_id = await asyncio.wait_for(service.stored.get(), 30)
    answer = await client.get(f"/v1/runs/{run_id}/file")
    assert answer.status_code == 200, answer.text
    return to_create, time.perf_counter() - began


async def _deliver(client: httpx.AsyncClient, type_: str, about: dict[str, Any]) -> None:
    body = event(type_, about)
    answer = await client.post("/webhooks/stripe", content=body, headers={"Stripe-Signature": signature(body, SECRET)})
    assert answer.status_code == 200, answer.text
