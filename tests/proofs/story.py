"""One story of the search: what it plays with, and how it is judged at the end."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, suppress
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

import httpx
from fastapi import FastAPI
from hypothesis.stateful import RuleBasedStateMachine

from app.errors import Overtaken
from app.main import build_app
from app.planning.planner import Availability
from app.simulator.faults import Fault
from tests.proofs import announced
from tests.proofs.chances import Doing, Work
from tests.proofs.edits import PLANNED, SAID, of_other_values
from tests.proofs.model import Model, ModelRule
from tests.proofs.promises import broken_promises, owed_by
from tests.proofs.stage import OTHER_TYPE, TYPES, staged
from tests.service import ADMIN_TOKEN, at, fetch

DATA_BEGINS, DATA_ENDS = at("2026-02-26T05:00"), at("2026-03-03")
MOST_PENDING = 2
AUTHORIZED = {"Authorization": f"Bearer {ADMIN_TOKEN}"}


KNOWN_REACH = "select id, data_available_end from report_types where data_available_end is not null"
KNOWN_RUNS = "select stripe_run_id, idempotency_key from attempts"


@dataclass(frozen=True, slots=True)
class Backup:
    """What the story knew when the database was copied."""

    rules: list[ModelRule]
    cancelled: set[UUID]
    reach: dict[str, datetime]


class Story(RuleBasedStateMachine):
    """The service, Stripe, time and the model; when it is over, everything has to settle with every promise kept."""

    url: ClassVar[str]  # of the database

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.open = AsyncExitStack()
        stage = staged(self.url, TALLYHOOK_MAX_PENDING_RUNS=MOST_PENDING)
        self.stage = self.runner.run(self.open.enter_async_context(stage))
        self.simulator, self.post = self.stage.simulator, self.stage.post
        self.model = Model({type: Availability(DATA_BEGINS, DATA_ENDS) for type in TYPES})
        self.delivering = True  # whether Stripe tries undelivered webhooks again, in the end
        self.faults: list[Fault] = []
        self.cancelled: set[UUID] = set()  # by hand, and not retried since
        self.stalled: list[tuple[Doing, Any]] = []
        self.reach: dict[str, datetime] = {}  # how far each type's data was known to reach
        self.backup: Backup | None = None
        self.backed_up = False  # ever
        self.hiding: list[Fault] = []  # a key that may not list makes runs without looking what was made before
        self.lost: set[str] = set()  # Stripe runs that no attempt knew any more after a restore
        self.app: FastAPI | None = None

    def teardown(self) -> None:
        """The failures end, everything settles, and what is there is checked against the promises."""
        try:
            if hasattr(self.stage, "res"):
                self._settle()
                broken = self._broken()
                assert not broken, "\n".join(broken)
        finally:
            self.runner.run(self.open.aclose())
            self.runner.close()

    def _settle(self) -> None:
        self.simulator.clear_faults()
        self.stage.hook.answers.clear()
        self.runner.run(self.stage.live(announced.send_again))
        # A window that ends where the data of the stricter type does waits for more: here it is.
        self.advance(OTHER_TYPE, timedelta(hours=1))
        self.runner.run(self.stage.settle(hours=6, delivering=self.delivering))
        # Stalled workers wake up when all is over.
        while self.stalled:
            self.go_on(0)
        self.runner.run(self.stage.settle(hours=6, delivering=self.delivering))

    def go_on(self, number: int) -> None:
        """A stalled worker does what it claimed long ago, and does not know that others may have taken over."""
        step, claim = self.stalled.pop(number)
        with suppress(Overtaken):
            self.runner.run(step(self.stage.res, claim))

    def brought(self, work: Work, at_most: int) -> list[Any]:
        """Claims for this work, which the lanes before it have brought to where it can be taken."""
        for lane in work.brought_by:
            self.runner.run(self.stage.live(lane))
        return self.runner.run(work.claim(self.stage.res, at_most))

    async def all_at_once(self, step: Doing, claims: list[Any]) -> None:
        """Each claim's work beside the others'."""
        outcomes = await asyncio.gather(*(step(self.stage.res, claim) for claim in claims), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, Overtaken):
                raise outcome

    def back_up(self) -> None:
        """Copy the database; stalled work is stopped with the service."""
        self.stalled.clear()
        self.backed_up = True
        for fault in self.hiding:
            fault.times = 0
        self.runner.run(self.stage.back_up())
        self.backup = Backup(deepcopy(self.model.rules), set(self.cancelled), dict(self.reach))

    def restore(self) -> None:
        """The database is as it was, but Stripe is not: what it made meanwhile is lost to us, or adopted."""
        assert self.backup is not None
        self.stalled.clear()
        self.runner.run(self.stage.restore())
        self.runner.run(self.stage.hook.forget_what_was_lost(self.stage.res))
        self.model.put_back(self.backup.rules)
        self.cancelled, self.reach = self.backup.cancelled, self.backup.reach
        self.backup = None
        self.lost |= {run.id for run in self.simulator.runs if not {run.id, run.idempotency_key} & self.known_runs()}

    def known_runs(self) -> set[str]:
        """Stripe runs that belong to an attempt, by their id or by the key that they were made with."""
        return {value for attempt in self.fetch(KNOWN_RUNS) for value in attempt.values() if value is not None}

    def known_reach(self) -> dict[str, datetime]:
        """How far the service knows each type's data to reach."""
        return {row["id"]: row["data_available_end"] for row in self.fetch(KNOWN_REACH)}

    def _broken(self) -> list[str]:
        made = [owed_by(run) for run in self.fetch("select * from runs")]
        updates = {rule.id for rule in self.model.rules if rule.follows_updates}
        allowed = self.model.allowed() | {window for window in made if window.rule_id in updates}
        owed = self.model.owed()
        broken = broken_promises(self.stage.res, self.simulator, owed=owed, allowed=allowed, lost=self.lost)
        untold = announced.broken_about_messages(self.stage.res, self.stage.hook)
        values = of_other_values(self.fetch(PLANNED), self.fetch(SAID))
        wrong = [*self._wrongly_cancelled(), *self._wrongly_spent(), *self._of_another_account(), *values]
        return [*self.runner.run(broken), *self.runner.run(untold), *self.model.untiled(made), *wrong]

    def _of_another_account(self) -> list[str]:
        """Nothing may ever be made at Stripe for a key that is of another account."""
        made = self.simulator.world.account("other").runs
        return [f"{run.id} was made with the key of another account" for run in made]

    def _wrongly_cancelled(self) -> list[str]:
        gone = {rule.id for rule in self.model.rules if rule.deleted}
        cancelled = self.fetch("select id, rule_id from runs where state = 'cancelled'")
        wrongly = [run for run in cancelled if run["rule_id"] not in gone and run["id"] not in self.cancelled]
        lost = self.cancelled - {run["id"] for run in cancelled}
        return [f"{run} was cancelled, and nobody did it" for run in wrongly] + [f"{run} continues" for run in lost]

    def _wrongly_spent(self) -> list[str]:
        """Attempts may be spent only on failures of Stripe's."""
        struck = Counter[str]()
        for fault in self.faults:
            struck[fault.fault] += fault.struck
        spent = Counter(row["outcome"] for row in self.fetch("select outcome from attempts"))
        blame = {"file_gone": "file_gone", "stripe_failed": "run_fails", "timed_out": "run_hangs"}
        return [
            f"{spent[outcome]} attempts ended as {outcome}, and Stripe did {struck[fault]}"
            for outcome, fault in blame.items()
            if spent[outcome] > struck[fault]
        ]

    def advance(self, type: str, by: timedelta) -> None:
        """Data reaches further, and an event is made."""
        end = datetime.fromtimestamp(self.simulator.report_type(type).data_available_end, UTC) + by
        self.simulator.advance(type, to=end)
        self.model.advance(type, end)

    def fetch(self, query: str) -> Any:
        """The rows of a query."""
        return self.runner.run(fetch(self.stage.res, query))

    def ask(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        """What the admin API answers; an error fails the story."""
        return self.runner.run(self._answer(method, path, body))

    async def _answer(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        if self.app is None or self.app.state.res is not self.stage.res:
            self.app = build_app(self.stage.res)
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service", headers=AUTHORIZED) as api:
            answer = (await api.request(method, path, json=body)).raise_for_status()
            return answer.json() if answer.content else None
