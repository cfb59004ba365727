"""Rules as code: writes all rules as YAML, and applies a file of rules, all or nothing. `rules export|diff|apply` call
it."""

import json
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Response
from pydantic import Field, StrictBool, model_validator

from app.api.http.dependencies import CalledBy, Res, Session
from app.api.rule_apply import apply, as_text
from app.api.rule_file import read_rules
from app.api.schemas.common import In, Out
from app.rules import store

router = APIRouter(prefix="/v1", tags=["rules"])

YAML = "application/yaml"


class ApplyIn(In):
    """The wanted rules: as a list, or as the text of a YAML file."""

    rules: list[dict[str, Any]] | None = Field(default=None, description="Rules, as `POST /v1/rules` takes them.")
    yaml: str | None = Field(default=None, description="Instead of `rules`: a file as written by `GET /v1/rules.yaml`.")
    file: str = Field(default="rules", min_length=1, max_length=500, description="The file's name in messages.")
    prune: StrictBool = Field(default=False, description="Also remove rules that are not named.")
    dry_run: StrictBool = Field(default=False, description="Only report what would be done.")

    @model_validator(mode="after")
    def _one_of_both(self) -> "ApplyIn":
        if (self.rules is None) == (self.yaml is None):
            raise ValueError("needs `rules` or `yaml`, and not both")
        return self

    def text(self) -> str:
        """The rules as YAML, which includes JSON."""
        return self.yaml if self.yaml is not None else json.dumps({"rules": self.rules}, ensure_ascii=False)


class StepOut(Out):
    """What was done to one rule, or would be."""

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
    unchanged: int
    difference: str = Field(description="A unified diff of the rules as YAML.")
    may_rename: bool = Field(description="Whether a rule seems to be renamed, which creates a new rule.")


@router.get("/rules.yaml", response_class=Response, responses={200: {"content": {YAML: {}}}})
async def export_rules(session: Session) -> Response:
    """Every rule as YAML, ordered by name; equal rules make equal text."""
    return Response(as_text(await store.read_all(session)), media_type=YAML)


@router.post("/rules/apply")
async def apply_rules(res: Res, caller: CalledBy, asked: ApplyIn) -> AppliedOut:
    """Make the rules match the given ones, by name, in one transaction. Other rules stay, unless `prune`.

    422 with one line for each problem: then nothing has changed.
    """
    wanted = read_rules(asked.text(), file=asked.file)
    outcome = await apply(res, wanted, file=asked.file, by=caller.name, prune=asked.prune, dry_run=asked.dry_run)
    return AppliedOut.model_validate({**asdict(outcome), "may_rename": outcome.may_rename})
