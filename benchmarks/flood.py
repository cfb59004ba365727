"""Signed deliveries in a flood of strangers: how long they take, and how much memory the answering process takes.

Beside it: the same deliveries without the flood.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from benchmarks.harness import Row, against, alone, below
from benchmarks.load import Order, send
from benchmarks.stage import ROOT, SECRET, Stage

HEADS, BODIES, IDLE = 200, 200, 1000
RATE = 50.0


def measure(stage: Stage) -> Iterator[Row]:
    """p99 and memory."""
    requests = 300 if stage.short else 1500
    with stage.database() as url, stage.service("serve", "--no-worker", "--port", "0", url=url) as service:
        order = Order(f"{service.url}/webhooks/stripe", SECRET, requests=requests, connections=8, rate=RATE, warm_up=50)
        quiet = send(order)
        with _strangers(urlsplit(service.url).port or 0):
            flooded = send(order)
        peak = service.peak_mib()
    yield against(
        f"signed deliveries in a flood ({HEADS} heads without an end, {BODIES} half bodies, {IDLE} idle): p99",
        [flooded.p99],
        "ms",
        limit="the same, nobody else there",
        limits=[quiet.p99],
        less_is_better=True,
        aim=below(250, "ms"),
        aim_of_figure=True,
    )
    yield alone("the flood: most resident memory of serve --no-worker", [peak], "MiB", aim=below(200, "MiB"))


@contextmanager
def _strangers(port: int) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.strangers", str(port), str(HEADS), str(BODIES), str(IDLE)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield
    finally:
        process.kill()
        process.wait()
