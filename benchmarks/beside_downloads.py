"""Big downloads must not hurt the rest: one `serve`, worker included, idle and then with four big files to store.

Deliveries come at a steady rate, and small reports are requested one after the other.
"""

import time
from collections.abc import Iterator

import httpx

from benchmarks.harness import Row, against, at_least, quantile
from benchmarks.load import Order, send
from benchmarks.rows import one, until
from benchmarks.stage import ADMIN_TOKEN, SECRET, Process, Stage
from benchmarks.stripe import Wanted, midnight, stripe

BIG, SMALL = "balance_change_from_activity.itemized.7", "balance.summary.1"
BIG_FILES = 4
RATE = 100.0
DAY = 86400


def measure(stage: Stage) -> Iterator[Row]:
    """p99 of deliveries, and a small report's time, each beside the same on the idle service."""
    size = 256 * 2**20 if stage.short else 2**30
    deliveries, reports = (300, 5) if stage.short else (1000, 15)
    with (
        stripe(Wanted(days=60, bytes_of={BIG: size})) as simulator,
        stage.database() as url,
        stage.service("serve", "--port", "0", url=url, stripe=simulator.base) as service,
        httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}, trust_env=False) as api,
    ):
        until(lambda: bool(one(url, "select count(*) from report_types")), "it knows the report types")
        idle = _deliver(service, deliveries), _small_reports(api, 0, reports)
        for day in range(BIG_FILES):
            _ask(api, BIG, day)
        until(lambda: bool(one(url, "select count(*) from file_chunks")), "big files are on their way", every=0.02)
        busy = _deliver(service, deliveries), _small_reports(api, reports, reports)
        under_way = BIG_FILES - one(url, "select count(*) from files where size >= %s", size)
    note = f"{under_way} of {BIG_FILES} still under way at the end"
    for what, calm, hard in (
        ("intake p99 while four big files are stored", idle[0], busy[0]),
        ("a small report's time while four big files are stored", quantile(idle[1], 0.5), quantile(busy[1], 0.5)),
    ):
        aim = at_least(0.33)  # within three times
        yield against(
            what, [hard], "ms", limit="the same, idle", limits=[calm], aim=aim, less_is_better=True, note=note
        )


def _deliver(service: Process, deliveries: int) -> float:
    order = Order(f"{service.url}/webhooks/stripe", SECRET, requests=deliveries, rate=RATE, warm_up=50)
    return send(order).p99


def _small_reports(api: httpx.Client, first: int, count: int) -> list[float]:
    """Milliseconds from requesting a small report to storing it, for each of so many days."""
    taken = []
    for day in range(first, first + count):
        began = time.perf_counter()
        run_id = _ask(api, SMALL, day)
        while api.get(f"/v1/runs/{run_id}").raise_for_status().json()["state"] != "stored":
            time.sleep(0.01)
        taken.append((time.perf_counter() - began) * 1000)
    return taken


def _ask(api: httpx.Client, report_type: str, day: int) -> str:
    end = int(midnight().timestamp()) - day * DAY
    interval = {"interval_start": _written(end - DAY), "interval_end": _written(end)}
    answer = api.post("/v1/runs", json={"report_type": report_type, **interval}).raise_for_status()
    return str(answer.json()["id"])


def _written(moment: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
