"""A real worker, a real SIGKILL: when a certain call arrives, when its answer is sent, or in the middle of a file."""

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pytest

from app.resources import open_resources
from app.simulator import Simulator
from app.simulator.state.world import CallRecord, Journal
from tests.proofs.processes import ServiceProcess, Tripwire, cleared_away, has_settled
from tests.proofs.promises import broken_promises, owed_days
from tests.service import REPORT_TYPE, add_rule, at, fetch, make_environ, make_settings
from tests.until import until

# More than is committed at once.
BIG_BYTES = 24 * 1024 * 1024
SETTINGS = {"TALLYHOOK_STALLED_AFTER_SECONDS": 0.5, "TALLYHOOK_RECONCILE_SECONDS": 1}


@dataclass(frozen=True, slots=True)
class Point:
    """The worker dies with the `number`th such call of its life: when the call arrives, or when its answer is sent."""

    call: str
    answered: bool
    number: int = 1


CREATE, LOOK_UP, FILE = "POST /v1/reporting/report_runs", "GET /v1/reporting/report_runs/", "GET /v1/files/"
POINTS = [
    Point("GET /v1/reporting/report_types", answered=False),
    Point("GET /v1/reporting/report_types", answered=True),
    Point(CREATE, answered=False),
    Point(CREATE, answered=True),
    Point(CREATE, answered=False, number=2),
    Point(LOOK_UP, answered=False),
    Point(LOOK_UP, answered=True),
    Point(FILE, answered=False),
    Point(FILE, answered=True),
]


class Executioner:
    """Kills the worker at one point after the other."""

    def __init__(self, worker: ServiceProcess, simulator: Simulator) -> None:
        self._worker = worker
        self._points = iter(POINTS)
        self._met = 0
        self.point = next(self._points, None)
        Tripwire(simulator, lambda call: self.meet(call, answered=False))
        simulator.world.journal = Witness(self)

    def meet(self, call: str, *, answered: bool) -> None:
        """A call came in, or was answered."""
        point = self.point
        if point is None or not call.startswith(point.call) or answered != point.answered or not self._worker.running:
            return
        self._met += 1
        if self._met == point.number:
            self._worker.kill()
            self.point, self._met = next(self._points, None), 0


class Witness(Journal):
    """Reports every answer that was sent."""

    def __init__(self, executioner: Executioner) -> None:
        super().__init__()
        self._executioner = executioner

    def note(self, record: CallRecord) -> None:
        super().note(record)
        self._executioner.meet(f"{record.method} {record.path}", answered=True)


@pytest.mark.slow
async def test_a_worker_that_is_killed_at_any_call_loses_and_doubles_nothing(
    database_url: str, simulator: Simulator, tmp_path: Path
) -> None:
    # Given a Stripe that takes its time, a rule, and a worker that no webhook reaches
    simulator.configure(delay=0.3)
    worker = ServiceProcess("worker", environ=make_environ(database_url, simulator, **SETTINGS), folder=tmp_path / "w")
    async with open_resources(make_settings(database_url, simulator)) as res, cleared_away(worker):
        rule = await add_rule(res, starts_on=date(2026, 3, 1))

        # When it is killed at one point after the other, one more day of data being there each time
        executioner = Executioner(worker, simulator)
        for day in range(1, len(POINTS) + 1):
            simulator.advance(REPORT_TYPE, to=at("2026-03-01") + timedelta(days=day))
            await worker.start()
            await worker.killed(f"the worker has come to {executioner.point}")
        await worker.start()
        await until(lambda: has_settled(res, runs=len(POINTS)), "every run has come to an end")

        # Then each day was made once, and is stored whole
        owed = owed_days(rule.id, date(2026, 3, 1), len(POINTS))
        assert await broken_promises(res, simulator, owed=owed) == []
        assert await worker.end() == 0


@pytest.mark.slow
async def test_a_worker_that_is_killed_in_the_middle_of_a_big_file_leaves_nothing_half_done(
    database_url: str, simulator: Simulator, tmp_path: Path
) -> None:
    # Given a file that is larger than what is committed at once, and comes slowly
    simulator.report_type(REPORT_TYPE).bytes = BIG_BYTES
    simulator.inject("file_slow", seconds=0.02, bytes=256 * 1024)
    worker = ServiceProcess("worker", environ=make_environ(database_url, simulator, **SETTINGS), folder=tmp_path / "w")
    async with open_resources(make_settings(database_url, simulator)) as res, cleared_away(worker):
        rule = await add_rule(res, starts_on=date(2026, 3, 1))
        simulator.advance(REPORT_TYPE, to=at("2026-03-02"))

        # When the worker is killed with a part of it in the database
        async def a_part_is_here() -> bool:
            return bool(await fetch(res, "select 1 from files where stored_at is null"))

        await worker.start()
        await until(a_part_is_here, "a part of the file has been committed")
        worker.kill()
        assert await fetch(res, "select 1 from runs where state = 'ready'")
        await worker.start()
        await until(lambda: has_settled(res, runs=1), "every run has come to an end")

        # Then the file is whole, and nothing of the first try is left
        assert await broken_promises(res, simulator, owed=owed_days(rule.id, date(2026, 3, 1), 1)) == []
        assert await worker.end() == 0
