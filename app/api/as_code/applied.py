"""What applying a file did, or in a dry run would do."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class StepKind(StrEnum):
    """What a file states."""

    RULE = "rule"
    TARGET = "target"


@dataclass(frozen=True, slots=True)
class Step:
    """What was done to one rule or target, and its effects."""

    name: str
    action: str  # removed, changed, created
    kind: StepKind = StepKind.RULE
    fields: list[str] = field(default_factory=list)
    runs_planned: int = 0
    runs_cancelled: int = 0
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Part:
    """Of the rules, or of the targets. `kept` are those that the file does not name."""

    steps: Sequence[Step] = ()
    kept: Sequence[str] = ()
    unchanged: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """All of it; `difference` is a unified diff of both as YAML, as far as the file states them."""

    steps: list[Step]
    kept: list[str]
    kept_targets: list[str]
    unchanged: int
    difference: str

    @property
    def may_rename(self) -> bool:
        """Whether it looks as if a rule was renamed."""
        actions = {step.action for step in self.steps if step.kind is StepKind.RULE}
        return "created" in actions and bool(self.kept or "removed" in actions)
