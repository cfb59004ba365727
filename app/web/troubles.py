"""What is wrong with rules, as the pages say it: health judges, these are its words and colours."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.health.judge import Judgement
from app.health.results import Status
from app.health.rules import BLOCKING, RuleHealth, Trouble

TROUBLES: Mapping[Trouble, str] = {
    Trouble.TYPE_MISSING: "no such report type",
    Trouble.UNPLANNED: "cannot be planned",
    Trouble.FAILED: "failed",
    Trouble.KEY_REFUSED: "key refused",
    Trouble.LATE: "late",
    Trouble.DATA_LATE: "Stripe’s data is late",
}


def state_of(trouble: Trouble) -> str:
    """As the calendars show the windows that are concerned."""
    if trouble in BLOCKING:
        return "blocked"
    return {Trouble.DATA_LATE: "waiting", Trouble.FAILED: "failed"}.get(trouble, "missing")


def worst_of(judgement: Judgement) -> dict[uuid.UUID, RuleHealth]:
    """The health of each rule that was checked: that of the worst of its accounts."""
    worst_first = sorted(judgement.rules, key=lambda rule: (rule.status is Status.OK, rule.name))
    return {rule.rule_id: rule for rule in reversed(worst_first)}


@dataclass(frozen=True, slots=True)
class Group:
    """Rules with the same problem, each once."""

    trouble: Trouble
    detail: str
    rules: dict[uuid.UUID, RuleHealth]

    @property
    def state(self) -> str:
        """As the calendars show it."""
        return state_of(self.trouble)


def groups_of(rules: Sequence[RuleHealth]) -> list[Group]:
    """The rules that are not well, by their problem; failures are listed run by run instead."""
    found: dict[tuple[Trouble, str], Group] = {}
    for rule in rules:
        if rule.trouble is None or rule.trouble is Trouble.FAILED:
            continue
        # The sentence about a missing type names its rule; the rest is the same for all of them.
        key = (rule.trouble, rule.detail if rule.trouble is not Trouble.LATE else rule.name)
        found.setdefault(key, Group(rule.trouble, rule.detail, {})).rules.setdefault(rule.rule_id, rule)
    return list(found.values())
