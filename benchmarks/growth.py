"""Growth: what the next event and the next run (file included) cost after ×1, ×10 and ×100 as much history.

Counted in CPU time, of our process and of PostgreSQL together: other work on the machine affects that least. All
sizes are up at once and take turns, so that what does show affects all alike; each figure is the median of its rounds.
"""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.harness import Row, against, alternate, at_least
from benchmarks.history import History, write_chunks, write_events, write_rules, write_runs
from benchmarks.load import Order, send
from benchmarks.rows import add_rules, one, rule, until
from benchmarks.stage import SECRET, Process, Stage, postgres_cpu_seconds
from benchmarks.stripe import REPORT_TYPES, Stripe, Wanted, first_day, stripe

RULES = 20
DAYS = 100  # 2,000 runs, and so 200,000 in the end
EVENTS = 10_000
FACTORS = (1, 10, 100)
ROUNDS = 3
FLAT = at_least(0.77)  # within 1.3 times


@dataclass
class Grown:
    """A service with so many times the history."""

    stage: Stage
    service: Process
    url: str
    turns: int = 0

    def costs(self) -> tuple[float, float]:
        """Milliseconds of CPU time for an event, and for a run."""
        self.turns += 1
        events, days = (500, 20) if self.stage.short else (3000, 60)
        return self._event_cost(events), self._run_cost(days)

    def _event_cost(self, events: int) -> float:
        """Delivered, kept, and handled by the worker of the same process."""
        before = self._spent()
        send(Order(f"{self.service.url}/webhooks/stripe", SECRET, requests=events, warm_up=0))
        until(lambda: one(self.url, _PENDING) == 0, "all events are handled")
        return (self._spent() - before) / events * 1000

    def _run_cost(self, days: int) -> float:
        rules = [rule(f"{name} {self.turns}", name, starts_on=first_day(days)) for name in REPORT_TYPES]
        stored = one(self.url, _STORED, list(REPORT_TYPES)) + days * len(rules)
        before = self._spent()
        asyncio.run(add_rules(self.url, *rules))
        until(lambda: one(self.url, _STORED, list(REPORT_TYPES)) == stored, "all runs are stored", every=0.5)
        return (self._spent() - before) / (days * len(rules)) * 1000

    def _spent(self) -> float:
        return self.service.cpu_seconds() + postgres_cpu_seconds(self.stage)


def measure(stage: Stage) -> Iterator[Row]:
    """An event's and a run's cost at each size; the smallest is the limit for the others."""
    factors = FACTORS[:2] if stage.short else FACTORS
    with ExitStack() as stack:
        simulator = stack.enter_context(stripe(Wanted(days=200)))
        grown = {f"×{factor}": stack.enter_context(_grown(stage, simulator, factor)) for factor in factors}
        for warm in grown.values():
            warm.costs()
        costs = alternate(ROUNDS, {name: size.costs for name, size in grown.items()})
    for what, place in (("an event", 0), ("a run and its file", 1)):
        rounds = {name: [cost[place] for cost in taken] for name, taken in costs.items()}
        for name in list(rounds)[1:]:
            limit = f"after ×1 ({EVENTS:,} events, {RULES * DAYS:,} runs)"
            yield against(
                *(f"{what} costs, after {name} as many", rounds[name], "ms"),
                limit=limit,
                limits=rounds["×1"],
                aim=FLAT,
                less_is_better=True,
            )


@contextmanager
def _grown(stage: Stage, simulator: Stripe, factor: int) -> Iterator[Grown]:
    with stage.database() as url:
        history = History(rules=RULES * min(factor, 10), days=DAYS * max(1, factor // 10), types=5)
        write_rules(url, history)
        write_runs(url, range(history.days))
        write_chunks(url)
        write_events(url, EVENTS * factor)
        with stage.service("serve", "--port", "0", url=url, stripe=simulator.base, **_QUICK) as service:
            until(lambda: bool(one(url, _STARTED)), "it has started")
            yield Grown(stage, service, url)


_QUICK: dict[str, Any] = {"TALLYHOOK_MAX_PENDING_RUNS": 50}
_STARTED = "select count(*) from timetable where finished_at is not null"
_PENDING = "select count(*) from events where status = 'pending'"
# By an index: searching the whole history on every poll would count as the cost of a run.
_STORED = "select count(*) from runs where report_type = any(%s) and state = 'stored'"
