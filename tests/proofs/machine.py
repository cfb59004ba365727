"""Whatever may happen, in any order: the state machine that Hypothesis plays with the service, Stripe and time."""

from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from tests.proofs import announced
from tests.proofs.chances import (
    ACCOUNT_ANSWERS,
    CALL_TROUBLE,
    CALLS,
    CLAIMED_WORK,
    FILE_TROUBLE,
    LANES,
    LISTS,
    RUN_TROUBLE,
    TARGET_ANSWERS,
    Work,
    rules,
    some,
)
from tests.proofs.model import ModelRule
from tests.proofs.stage import OTHER_KEY, OTHER_TYPE, TYPES, everything_due
from tests.proofs.story import DATA_BEGINS, DATA_ENDS, MOST_PENDING
from tests.proofs.users import Users

GIVEN_UP = """
select stripe_run_id, case when stripe_run_id is null then idempotency_key end as key_of_unknown from attempts
where ended_at is not null and (outcome <> 'cancelled' or stripe_run_id is null
    or requested_at < now() - interval '1 day' or ended_at <= requested_at)
"""


class World(Users):
    """What may happen."""

    @initialize(delivering=st.booleans(), delay=st.sampled_from([0, 7200]), first=rules)
    def begin(self, *, delivering: bool, delay: int, first: ModelRule) -> None:
        """A Stripe that is quick or slow, and delivers its webhooks in the end, or never; and a first rule."""
        self.delivering = delivering
        self.simulator.configure(delay=delay)
        for type in TYPES:
            start, end = int(DATA_BEGINS.timestamp()), int(DATA_ENDS.timestamp())
            self.simulator.add_report_type(type, start=start, end=end, bytes=40_000)
        self.simulator.add_report_type(OTHER_TYPE, strict_bounds=True)
        self.runner.run(self.stage.start())
        self.runner.run(announced.add_target(self.stage.res, self.stage.hook))
        self.rule_is_made(wanted=first)

    # What Stripe does.

    @rule(type=st.sampled_from(TYPES), half_days=st.integers(1, 6))
    def data_advances(self, *, type: str, half_days: int) -> None:
        """More data; an event announces it."""
        self.advance(type, timedelta(hours=12 * half_days))

    @precondition(lambda self: self.simulator.events)
    @rule(number=some)
    def webhook_arrives(self, *, number: int) -> None:
        """Any event, in any order, late or once more."""
        event = self.simulator.events[number % len(self.simulator.events)]
        self.runner.run(self.stage.live(lambda res: self.post.deliver(res.intake, event)))

    @rule()
    def webhooks_arrive(self) -> None:
        """All that are waiting."""
        self.runner.run(self.stage.live(lambda res: self.post.deliver_all(res.intake)))

    @precondition(lambda self: self.post.waiting())
    @rule(number=some)
    def webhook_is_lost(self, *, number: int) -> None:
        """It never arrives."""
        waiting = self.post.waiting()
        self.post.lose(waiting[number % len(waiting)])

    @rule(call=st.sampled_from(CALLS), trouble=st.sampled_from(CALL_TROUBLE), times=st.integers(1, 3))
    def calls_fail(self, *, call: str, trouble: dict[str, Any], times: int) -> None:
        """The next calls of a kind fail."""
        method, _, path = call.partition(" ")
        hides_runs = (call, trouble.get("status")) == (LISTS, 403)
        if hides_runs and self.backed_up:
            return
        fault = self.simulator.inject(**trouble, times=times, match={"method": method, "path": path})
        self.faults.append(fault)
        if hides_runs:
            self.hiding.append(fault)

    @rule(trouble=st.sampled_from(RUN_TROUBLE), times=st.integers(1, 2))
    def runs_go_wrong(self, *, trouble: Any, times: int) -> None:
        """The next ones do."""
        self.faults.append(self.simulator.inject(trouble, times=times))

    @rule(trouble=st.sampled_from(FILE_TROUBLE), times=st.integers(1, 2))
    def files_go_wrong(self, *, trouble: Any, times: int) -> None:
        """The next ones do."""
        self.faults.append(self.simulator.inject(trouble, times=times))

    # What the target does.

    @rule(answers=st.sampled_from(TARGET_ANSWERS))
    def target_refuses(self, *, answers: list[Any]) -> None:
        """The next messages; it is disabled if it says that it is gone."""
        self.stage.hook.answers = list(answers)

    # What the service does, and what becomes of it.

    @rule(answer=st.sampled_from(ACCOUNT_ANSWERS))
    def service_runs_with_a_key_of_another_account(self, *, answer: dict[str, Any] | None) -> None:
        """Somebody put the wrong key in place, and Stripe may say whose it is; then the right one is back."""
        if not self.fetch("select 1 from accounts where slug = 'default' and stripe_account_id is not null"):
            return  # nothing was bound yet: the first key binds
        account = {"method": "GET", "path": "^/v1/account$"}
        fault = None if answer is None else self.simulator.inject(**answer, times=None, match=account)
        self.runner.run(self.stage.live_with_key(OTHER_KEY))
        if fault is not None:
            self.simulator.world.faults.rules.remove(fault)

    @rule(lane=st.sampled_from(LANES))
    def service_works(self, *, lane: Any) -> None:
        """A step of one lane, or of all."""
        self.runner.run(self.stage.live(lane))

    @rule()
    def an_hour_goes_by_as_usual(self) -> None:
        """Webhooks arrive, and whatever is due is done, the service's own clock included."""
        self.time_passes(hours=1)
        self.webhooks_arrive()
        self.service_works(lane=everything_due)

    @rule(effect=st.integers(1, 25), side=st.sampled_from(["before", "after"]))
    def service_dies_at_work(self, *, effect: int, side: Any) -> None:
        """Right before or after one of the next effects."""
        self.stage.effects.crash(effect, side)
        self.runner.run(self.stage.live(everything_due))
        self.stage.effects.revive()

    @rule(work=st.sampled_from(CLAIMED_WORK), at_most=st.integers(1, 2))
    def another_service_takes_work_and_stalls(self, *, work: Work, at_most: int) -> None:
        """It has claimed, and does nothing for now; its leases run out if time passes."""
        self.stalled += [(work.do, claim) for claim in self.brought(work, at_most)]

    @rule(work=st.sampled_from(CLAIMED_WORK), at_most=st.integers(1, 2))
    def two_services_do_the_same_at_once(self, *, work: Work, at_most: int) -> None:
        """One was slow, and continues just when the other has taken over."""
        slow = self.brought(work, at_most)
        self.time_passes(hours=1)
        self.runner.run(self.all_at_once(work.do, slow + self.runner.run(work.claim(self.stage.res, at_most))))

    @precondition(lambda self: self.stalled)
    @rule(number=some)
    def what_was_stalled_goes_on(self, *, number: int) -> None:
        """A worker that was only slow."""
        self.go_on(number % len(self.stalled))

    @rule(hours=st.sampled_from([0.3, 1, 25]))
    def time_passes(self, *, hours: float) -> None:
        """Leases and back-off end; in a day, Stripe forgets idempotency keys, and hanging runs are given up."""
        self.runner.run(self.stage.time_passes(hours))

    @precondition(lambda self: self.backup is None)
    @rule()
    def database_is_backed_up(self) -> None:
        """It may be put back later."""
        self.back_up()

    @precondition(lambda self: self.backup is not None)
    @rule(hours=st.sampled_from([1, 25]))
    def database_is_restored(self, *, hours: float) -> None:
        """It is older than Stripe by what happened since, and by so many hours that it was away."""
        self.runner.run(self.stage.time_passes(hours))
        self.restore()

    @invariant()
    def no_more_are_pending_than_allowed(self) -> None:
        """At Stripe, as far as we know, and have not given them up."""
        if hasattr(self.stage, "res"):
            over = self.fetch(GIVEN_UP)
            given_up = {attempt["stripe_run_id"] for attempt in over} | {attempt["key_of_unknown"] for attempt in over}
            given_up |= self.lost - self.known_runs()
            pending = [
                run.id
                for run in self.simulator.runs
                if run.status == "pending" and not {run.id, run.idempotency_key} & given_up
            ]
            assert len(pending) <= MOST_PENDING, pending

    @invariant()
    def availability_only_moves_forward(self) -> None:
        """Whatever was told, in whichever order."""
        if hasattr(self.stage, "res"):
            now = self.known_reach()
            assert all(now[type] >= end for type, end in self.reach.items()), (self.reach, now)
            self.reach = now
