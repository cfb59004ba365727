"""What is wrong with rules, as the pages say it: health judges, these are its words and colours."""

import uuid
from collections.abc import Mapping

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
