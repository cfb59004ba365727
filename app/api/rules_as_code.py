"""Rules and targets as code: all of them as YAML, and a file applied, all or nothing.

`rules export|diff|apply` and `targets export|diff|apply` call it.
"""

import json
from dataclasses import asdict, replace
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import Field, StrictBool, model_validator

from app.api.as_code.applied import StepKind
from app.api.as_code.apply import apply, as_text
from app.api.as_code.file import read_file
from app.api.http.dependencies import CalledBy, Res, Session
from app.api.schemas.common import In, Out

router = APIRouter(prefix="/v1", tags=["rules"])

YAML = "application/yaml"


class Only(StrEnum):
    """One of the lists of a file, without the other."""

    RULES = "rules"
    TARGETS = "targets"


class ApplyIn(In):
    """The wanted rules and targets: as lists, or as the text of a YAML file.

    What is not stated does not change, `prune` or not: a file without `targets` leaves all targets alone.
    """

    rules: list[dict[str, Any]] | None = Field(default=None, description="Rules, as `POST /v1/rules` takes them.")
    targets: list[dict[str, Any]] | None = Field(default=None, description="Targets, as `POST /v1/targets` takes them.")
    yaml: str | None = Field(default=None, description="In place of both: a file as `GET /v1/rules.yaml` writes it.")
    file: str = Field(default="rules", min_length=1, max_length=500, description="The file's name in messages.")
    prune: StrictBool = Field(default=False, description="Also remove what is not named.")
    only: Only | None = Field(default=None, description="Take only this list of the file.")
    dry_run: StrictBool = Field(default=False, description="Only report what would be done.")

    @model_validator(mode="after")
    def _one_of_both(self) -> "ApplyIn":
        if (self.rules is None and self.targets is None) == (self.yaml is None):
            raise ValueError("needs `rules`, `targets` or both, or else `yaml`")
        return self

    def text(self) -> str:
        """A file as YAML, which includes JSON."""
        lists = {"rules": self.rules, "targets": self.targets}
        given = {name: value for name, value in lists.items() if value is not None}
        return self.yaml if self.yaml is not None else json.dumps(given, ensure_ascii=False)


class StepOut(Out):
    """What was done to one rule or target, or would be."""

    kind: StepKind
    name: str
    action: str = Field(description="`removed`, `changed` or `created`.")
    fields: list[str] = Field(description="What differed.")
    runs_planned: int
    runs_cancelled: int
    warnings: list[str]


class AppliedOut(Out):
    """What was done, or would be; nothing if `steps` is empty."""

    steps: list[StepOut]
    kept: list[str] = Field(description="Rules that were not named and stay; `prune` removes them.")
    kept_targets: list[str] = Field(description="The same for targets.")
    unchanged: int
    difference: str = Field(description="Of rules and targets as YAML, as a unified diff.")
    may_rename: bool = Field(description="Whether a rule seems to have been renamed; it counts as a new rule.")


@router.get("/rules.yaml", response_class=Response, responses={200: {"content": {YAML: {}}}})
async def export_rules(
    session: Session, only: Annotated[Only | None, Query(description="One of the two lists alone.")] = None
) -> Response:
    """Every rule and target as YAML, ordered by name; equal contents give equal text. It holds no secrets."""
    text = await as_text(session, rules=only is not Only.TARGETS, targets=only is not Only.RULES)
    return Response(text, media_type=YAML)


@router.post("/rules/apply")
async def apply_rules(res: Res, caller: CalledBy, asked: ApplyIn) -> AppliedOut:
    """Make the rules and targets match those given (by name), in one transaction. Others stay, unless `prune`.

    422 with one line for each problem: then nothing has changed. Which rule leads a table is decided once, after all
    changes: 409 with a line for each table that two of them lead. 403 for a target without `accounts` if the token is
    limited to some.
    """
    wanted = read_file(asked.text(), file=asked.file)
    if asked.only is Only.RULES:
        wanted = replace(wanted, targets=None)
    elif asked.only is Only.TARGETS:
        wanted = replace(wanted, rules=None)
    outcome = await apply(res, wanted, file=asked.file, by=caller.name, prune=asked.prune, dry_run=asked.dry_run)
    return AppliedOut.model_validate({**asdict(outcome), "may_rename": outcome.may_rename})
