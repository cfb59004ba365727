"""What users do to rules and runs, in the state machine that Hypothesis plays."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from app.stripe_api.objects import report_type_from
from tests.proofs.chances import EDITS, EDITS_OF_TIME, rules, some, starts
from tests.proofs.edits import OnRule, after_planning, backfilling, before_planning, editing
from tests.proofs.model import ModelRule
from tests.proofs.story import Story


class Users(Story):
    """Rules are made, changed, backfilled and deleted, some while they are planned; runs are cancelled and retried."""

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
    @rule(number=some, edit=st.sampled_from(EDITS + EDITS_OF_TIME), half_days=st.integers(0, 4), first=st.booleans())
    def rule_is_edited_in_the_middle_of_planning(
        self, *, number: int, edit: dict[str, Any], half_days: int, first: bool
    ) -> None:
        """One of both has begun `first`, and is committed when the other waits for it, or is over."""
        chosen = self._chosen(number, lambda rule: not (rule.follows_updates and "starts_on" in edit))
        if chosen is not None and self._in_the_middle(chosen, editing(edit), half_days=half_days, first=first):
            self.model.change(
                chosen, **{name: edit[name] for name in edit if name in ("timezone", "starts_on", "enabled")}
            )

    @precondition(lambda self: self._living())
    @rule(number=some, begin=starts, days=st.integers(1, 8), half_days=st.integers(0, 4), first=st.booleans())
    def days_are_backfilled_in_the_middle_of_planning(
        self, *, number: int, begin: date, days: int, half_days: int, first: bool
    ) -> None:
        """Also days before the rule's own; what failed or was cancelled among them is made again."""
        chosen = self._chosen(number, lambda rule: not rule.follows_updates)
        if chosen is None:
            return
        reach = self.known_reach().get(chosen.report_type)
        until = begin + timedelta(days=days)
        if self._in_the_middle(chosen, backfilling(begin, until), half_days=half_days, first=first):
            self.model.backfill(chosen, begin, until, known=reach)
            going_on = f"select id from runs where rule_id = '{chosen.id}' and state <> 'cancelled'"
            self.cancelled -= {run["id"] for run in self.fetch(going_on)}

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

    @rule(enabled=st.booleans())
    def target_is_switched(self, *, enabled: bool) -> None:
        """Off or on; what it missed meanwhile is sent again in the end."""
        (target,) = self.fetch("select id from targets")
        self.ask("PATCH", f"/v1/targets/{target['id']}", {"enabled": enabled})

    def _living(self) -> list[ModelRule]:
        return [rule for rule in self.model.rules if not rule.deleted]

    def _chosen(self, number: int, fits: Callable[[ModelRule], bool]) -> ModelRule | None:
        found = [rule for rule in self._living() if fits(rule)]
        return found[number % len(found)] if found else None

    def _in_the_middle(self, chosen: ModelRule, do: OnRule, *, half_days: int, first: bool) -> bool:
        """Whether it was not refused."""
        if half_days:
            self.advance(chosen.report_type, timedelta(hours=12 * half_days))
        self.runner.run(self.stage.live(lambda res: self.post.deliver_all(res.intake)))
        if first:
            return self.runner.run(before_planning(self.stage.res, chosen.id, do))
        told = report_type_from(self.simulator.report_type(chosen.report_type).rendered())
        return self.runner.run(after_planning(self.stage.res, chosen.id, do, told))
