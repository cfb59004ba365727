"""Load from a separate process: signed deliveries over many connections, as fast as they are answered or at a rate.

Plain sockets and one selector: about 10 µs a request, so the server is what is measured.
"""

import json
import selectors
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

from benchmarks.deliveries import Kind, delivery
from benchmarks.harness import quantile

ANSWER_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Order:
    """What to send where; `rate` 0 is as fast as answers come."""

    url: str
    secret: str
    requests: int
    connections: int = 16
    kind: Kind = "report"
    rate: float = 0.0
    warm_up: int = 300


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result; times in milliseconds, from when a request was due."""

    per_second: float
    p50: float
    p99: float
    worst: float
    refused: int  # answers that were not 200
    client_cpu_share: float


def send(order: Order) -> Outcome:
    """Send it all from a separate process. Raises RuntimeError if anything was refused."""
    command = [sys.executable, "-m", "benchmarks.load", json.dumps(asdict(order))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the load ended early: {done.stderr[-2000:]}")
    outcome = Outcome(**json.loads(done.stdout))
    if outcome.refused:
        raise RuntimeError(f"{outcome.refused} of {order.requests} deliveries were not answered with 200")
    return outcome


@dataclass
class _Run:
    """One order being carried out."""

    requests: list[bytes]
    rate: float
    sent: int = 0
    latencies: list[float] = field(default_factory=list)
    refused: int = 0

    def next_due(self) -> float:
        """When to send the next request, in seconds from the start."""
        return self.sent / self.rate if self.rate else 0.0


def carry_out(order: Order) -> Outcome:
    """Send it all from this process."""
    where = urlsplit(order.url)
    total = order.warm_up + order.requests
    path = where.path or "/"
    prepared = [delivery(order.kind, order.secret, path=path) for _ in range(total)]
    sockets = [socket.create_connection((where.hostname or "", where.port or 80)) for _ in range(order.connections)]
    for one in sockets:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _exchange(sockets, _Run(prepared[: order.warm_up], 0.0))
    run = _Run(prepared[order.warm_up :], order.rate)
    began, cpu = time.perf_counter(), time.process_time()
    _exchange(sockets, run)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    for one in sockets:
        one.close()
    times = [latency * 1000 for latency in run.latencies]
    return Outcome(
        per_second=order.requests / seconds,
        p50=quantile(times, 0.5),
        p99=quantile(times, 0.99),
        worst=max(times),
        refused=run.refused,
        client_cpu_share=cpu / seconds,
    )


def _exchange(sockets: list[socket.socket], run: _Run) -> None:
    selector = selectors.DefaultSelector()
    due_at: dict[socket.socket, float] = {}
    idle = list(sockets)
    began = time.perf_counter()
    for one in sockets:
        selector.register(one, selectors.EVENT_READ)
    while len(run.latencies) < len(run.requests):
        now = time.perf_counter() - began
        while idle and run.sent < len(run.requests) and run.next_due() <= now:
            one = idle.pop()
            due_at[one] = run.next_due() if run.rate else now
            one.sendall(run.requests[run.sent])
            run.sent += 1
        patience = _patience(run, idle, now)
        ready = selector.select(patience)
        if not ready and patience == ANSWER_SECONDS:
            raise TimeoutError(f"no answer for {ANSWER_SECONDS} s")
        for key, _ in ready:
            one = key.fileobj  # type: ignore[assignment]  # we registered nothing but sockets
            run.refused += not _status_of_answer(one).startswith(b"HTTP/1.1 200")
            run.latencies.append(time.perf_counter() - began - due_at.pop(one))
            idle.append(one)
    selector.close()


def _status_of_answer(one: socket.socket) -> bytes:
    """Read one answer to its end; returns its status line."""
    answer = b""
    while (missing := _bytes_missing(answer)) > 0:
        piece = one.recv(max(missing, 4096))
        if not piece:
            raise ConnectionError("the server closed a connection")
        answer += piece
    return answer.partition(b"\r\n")[0]


def _bytes_missing(answer: bytes) -> int:
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return 1
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    return int(length) - len(body)


def _patience(run: _Run, idle: list[socket.socket], now: float) -> float:
    if run.rate and idle and run.sent < len(run.requests):
        return max(0.0, run.next_due() - now)
    return ANSWER_SECONDS


def main(given: str) -> None:
    """Carry out the order (JSON) and print the outcome (JSON)."""
    order: dict[str, Any] = json.loads(given)
    print(json.dumps(asdict(carry_out(Order(**order)))))


if __name__ == "__main__":
    main(sys.argv[1])
