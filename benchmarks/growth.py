"""Growth: what the next event and the next run cost (their file included) beside ×1, ×10 and ×100 as many before them.

Counted in processor time, of our process and of PostgreSQL together: other work on the machine does not show in it.
"""

import asyncio
from collections.abc import Iterator

from benchmarks.harness import Row, against, at_least
from benchmarks.history import History, write_chunks, write_events, write_rules, write_runs
from benchmarks.load import Order, send
from benchmarks.rows import add_rules, one, rule, until
from benchmarks.stage import SECRET, Process, Stage, postgres_cpu_seconds
from benchmarks.stripe import REPORT_TYPES, Stripe, Wanted, first_day, stripe

RULES = 20
DAYS = 100  # 2,000 runs, and so 200,000 in the end
EVENTS = 10_000
FACTORS = (1, 10, 100)
FLAT = at_least(0.77)  # within 1.3 times


def measure(stage: Stage) -> Iterator[Row]:
    """An event's and a run's cost in each size, the smallest being the limit of the others."""
    factors = FACTORS[:2] if stage.short else FACTORS
    with stripe(Wanted(days=200)) as simulator:
        costs = {factor: _costs(stage, simulator, factor) for factor in factors}
    for what, place in (("an event", 0), ("a run and its file", 1)):
        first = [costs[1][place]]
        for factor in factors[1:]:
            cost = [costs[factor][place]]
            limit = f"after ×1 ({EVENTS:,} events, {RULES * DAYS:,} runs)"
            yield against(
                *(f"{what} costs, after ×{factor} as many", cost, "ms"),
                limit=limit,
                limits=first,
                aim=FLAT,
                less_is_better=True,
            )


def _costs(stage: Stage, simulator: Stripe, factor: int) -> tuple[float, float]:
    """Milliseconds of processor time for an event, and for a run."""
    with stage.database() as url:
        history = History(rules=RULES * min(factor, 10), days=DAYS * max(1, factor // 10), types=5)
        write_rules(url, history)
        write_runs(url, range(history.days))
        write_chunks(url)
        write_events(url, EVENTS * factor)
        with stage.service("serve", "--port", "0", url=url, stripe=simulator.base, **_QUICK) as service:
            until(lambda: bool(one(url, _STARTED)), "it has started")
            _event_cost(stage, service, url, events=300)  # warm
            return _event_cost(stage, service, url, events=500 if stage.short else 3000), _run_cost(stage, service, url)


_QUICK = {"TALLYHOOK_MAX_PENDING_RUNS": 50}
_STARTED = "select count(*) from timetable where finished_at is not null"
_PENDING = "select count(*) from events where status = 'pending'"


def _event_cost(stage: Stage, service: Process, url: str, *, events: int) -> float:
    """Delivered, kept, and handled by the worker of the same process."""
    before = _spent(stage, service)
    send(Order(f"{service.url}/webhooks/stripe", SECRET, requests=events, warm_up=0))
    until(lambda: one(url, _PENDING) == 0, "all events are handled")
    return (_spent(stage, service) - before) / events * 1000


def _run_cost(stage: Stage, service: Process, url: str) -> float:
    days = 30 if stage.short else 100
    before = _spent(stage, service)
    runs = asyncio.run(add_rules(url, *(rule(name, name, starts_on=first_day(days)) for name in REPORT_TYPES)))
    until(lambda: one(url, _STORED, list(REPORT_TYPES)) == runs, "all runs are stored", every=0.5)
    return (_spent(stage, service) - before) / runs * 1000


# By an index: to look through the whole history at every poll would be counted as the cost of a run.
_STORED = "select count(*) from runs where report_type = any(%s) and state = 'stored'"


def _spent(stage: Stage, service: Process) -> float:
    return service.cpu_seconds() + postgres_cpu_seconds(stage)
