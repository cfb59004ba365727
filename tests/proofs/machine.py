"""Whatever may happen, in any order: the state machine that Hypothesis plays with the service, Stripe and time."""

from dataclasses import replace
from datetime import date, timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from tests.proofs.chances import (
    ACCOUNT_ANSWERS,
    CALL_TROUBLE,
    CALLS,
    CLAIMED_WORK,
    EDITS,
    FILE_TROUBLE,
    LANES,
    RUN_TROUBLE,
    Work,
    rules,
    some,
    starts,
)
from tests.proofs.edits import edited_beside_planning
from tests.proofs.model import ModelRule
from tests.proofs.stage import OTHER_KEY, OTHER_TYPE, TYPES, everything_due
from tests.proofs.story import DATA_BEGINS, DATA_ENDS, MOST_PENDING, Story

GIVEN_UP = """
select stripe_run_id, case when stripe_run_id is null then idempotency_key end as key_of_unknown from attempts
where ended_at is not null and (outcome <> 'cancelled' or stripe_run_id is null
    or requested_at < now() - interval '1 day' or ended_at <= requested_at)
"""
KNOWN_REACH = "select id, data_available_end from report_types where data_available_end is not null"


class World(Story):
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
        self.rule_is_made(wanted=first)

    # What Stripe does.

    @rule(type=st.sampled_from(TYPES), half_days=st.integers(1, 6))
    def data_advances(self, *, type: str, half_days: int) -> None:
        """More data; an event tells it."""
        self.advance(type, timedelta(hours=12 * half_days))

    @precondition(lambda self: self.simulator.events)
    @rule(number=some)
    def webhook_arrives(self, *, number: int) -> None:
        """Any event, in any order, late or once more."""
        event = self.simulator.events[number % len(self.simulator.events)]
        self.runner.run(self.stage.live(lambda res: self.post.deliver(res.intake, event)))

    @rule()
    def webhooks_arrive(self) -> None:
        """All that wait."""
        self.runner.run(self.stage.live(lambda res: self.post.deliver_all(res.intake)))

    @precondition(lambda self: self.post.waiting())
    @rule(number=some)
    def webhook_is_lost(self, *, number: int) -> None:
        """It never comes."""
        waiting = self.post.waiting()
        self.post.lose(waiting[number % len(waiting)])

    @rule(call=st.sampled_from(CALLS), trouble=st.sampled_from(CALL_TROUBLE), times=st.integers(1, 3))
    def calls_fail(self, *, call: str, trouble: dict[str, Any], times: int) -> None:
        """The next calls of a kind do."""
        method, _, path = call.partition(" ")
        self.faults.append(self.simulator.inject(**trouble, times=times, match={"method": method, "path": path}))

    @rule(trouble=st.sampled_from(RUN_TROUBLE), times=st.integers(1, 2))
    def runs_go_wrong(self, *, trouble: Any, times: int) -> None:
        """The next ones do."""
        self.faults.append(self.simulator.inject(trouble, times=times))

    @rule(trouble=st.sampled_from(FILE_TROUBLE), times=st.integers(1, 2))
    def files_go_wrong(self, *, trouble: Any, times: int) -> None:
        """The next ones do."""
        self.faults.append(self.simulator.inject(trouble, times=times))

    # What users do.

    @precondition(lambda self: len(self.model.rules) < 4)
    @rule(wanted=rules)
    def rule_is_made(self, *, wanted: ModelRule) -> None:
        """One more."""
        plan = wanted.schedule
        made = self.ask(
            "POST",
            "/v1/rules",
            {"name": f"rule {len(self.model.rules)}", "report_type": wanted.report_type, "cadence": plan.cadence,
             "timezone": plan.timezone, "starts_on": str(plan.starts_on)},
        )  # fmt: skip
        self.model.add(replace(wanted, id=UUID(made["id"]), allowed=set()))

    @precondition(lambda self: self._living())
    @rule(number=some, enabled=st.booleans())
    def rule_is_switched(self, *, number: int, enabled: bool) -> None:
        """Off or on."""
        chosen = self._living()[number % len(self._living())]
        self.ask("PATCH", f"/v1/rules/{chosen.id}", {"enabled": enabled})
        self.model.change(chosen, enabled=enabled)

    @precondition(lambda self: any(not rule.follows_updates for rule in self._living()))
    @rule(number=some, starts_on=starts)
    def rule_starts_elsewhere(self, *, number: int, starts_on: date) -> None:
        """Earlier or later."""
        found = [rule for rule in self._living() if not rule.follows_updates]
        chosen = found[number % len(found)]
        self.ask("PATCH", f"/v1/rules/{chosen.id}", {"starts_on": str(starts_on)})
        self.model.change(chosen, starts_on=starts_on)

    @precondition(lambda self: self._living())
    @rule(number=some, edit=st.sampled_from(EDITS))
    def rule_is_edited(self, *, number: int, edit: dict[str, Any]) -> None:
        """Its parameters: they are those of the runs that are planned, or retried, from then on."""
        chosen = self._living()[number % len(self._living())]
        self.ask("PATCH", f"/v1/rules/{chosen.id}", edit)

    @precondition(lambda self: self._living())
    @rule(number=some, edit=st.sampled_from(EDITS), half_days=st.integers(0, 4))
    def rule_is_edited_in_the_middle_of_planning(self, *, number: int, edit: dict[str, Any], half_days: int) -> None:
        """The change is made, and committed only when planning waits for it, or is over."""
        chosen = self._living()[number % len(self._living())]
        if half_days:
            self.advance(chosen.report_type, timedelta(hours=12 * half_days))
        self.runner.run(self.stage.live(lambda res: self.post.deliver_all(res.intake)))
        self.runner.run(edited_beside_planning(self.stage.res, chosen.id, edit))

    @precondition(lambda self: self._living())
    @rule(number=some)
    def rule_is_deleted(self, *, number: int) -> None:
        """Its runs that were not requested are cancelled."""
        chosen = self._living()[number % len(self._living())]
        self.ask("DELETE", f"/v1/rules/{chosen.id}", None)
        self.model.delete(chosen)

    @rule(number=some)
    def run_is_cancelled(self, *, number: int) -> None:
        """By hand, wherever it stands; what it has at Stripe stays there."""
        found = self.fetch("select id from runs where state not in ('stored', 'cancelled') order by id")
        if found:
            chosen = found[number % len(found)]["id"]
            self.ask("POST", f"/v1/runs/{chosen}/cancel", None)
            self.cancelled.add(chosen)

    @rule(number=some)
    def run_is_retried(self, *, number: int) -> None:
        """By hand."""
        found = self.fetch("select id from runs where state in ('failed', 'cancelled') order by id")
        if found:
            chosen = found[number % len(found)]["id"]
            self.ask("POST", f"/v1/runs/{chosen}/retry", None)
            self.cancelled.discard(chosen)

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
        """One was slow, and goes on just when the other has taken over."""
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

    @invariant()
    def no_more_are_pending_than_allowed(self) -> None:
        """At Stripe, as far as we know, and have not given them up."""
        if hasattr(self.stage, "res"):
            over = self.fetch(GIVEN_UP)
            given_up = {attempt["stripe_run_id"] for attempt in over} | {attempt["key_of_unknown"] for attempt in over}
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
            now = {row["id"]: row["data_available_end"] for row in self.fetch(KNOWN_REACH)}
            assert all(now[type] >= end for type, end in self.reach.items()), (self.reach, now)
            self.reach = now

    def _living(self) -> list[ModelRule]:
        return [rule for rule in self.model.rules if not rule.deleted]
