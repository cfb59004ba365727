"""The file of a rule's window by local date, for clients that have days instead of run ids."""

import re
from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import TypeAdapter, ValidationError
from starlette.responses import Response

from app.api.http.dependencies import Res
from app.api.run_file import ANSWERS, Form, answer_with_file
from app.api.schemas.common import DAY, ConnectedAccount, Moment
from app.api.schemas.rules import RuleRef
from app.errors import BadInput, FieldError
from app.rules import store, windows
from app.rules.rule import connected_of
from app.sentences import sentence

router = APIRouter(prefix="/v1/rules", tags=["rules"])

When = Annotated[
    str,
    Path(description="A local date (`2026-10-01`), a time (`2026-10-01T09:30:00Z`), or `latest`."),
]
Account = Annotated[
    ConnectedAccount | None,
    Query(description="One of the rule's connected accounts; if one file holds all of them, only its lines."),
]
_MOMENT: TypeAdapter[datetime] = TypeAdapter(Moment)


@router.get("/{rule_id}/files/{date}", response_class=Response, responses=ANSWERS, name="download_file_by_date")
@router.head("/{rule_id}/files/{date}", response_class=Response, include_in_schema=False)
async def download_by_date(
    res: Res,
    rule_id: RuleRef,
    when: Annotated[When, Path(alias="date")],
    request: Request,
    *,
    connected_account: Account = None,
    form: Form = "csv",
) -> Response:
    """The newest stored revision of the window that holds this date, like the run's own file route. 404 if the rule
    owes no such window. 409 with the reason while it is owed and not stored, and with a list if several windows or
    connected accounts match."""
    async with res.sessions.begin() as session:
        rule = await store.find(session, rule_id)
        # A run for all connected accounts has no account of its own: the account's lines are picked from its file.
        kind = connected_of(rule)
        of_run = None if kind == "together" else connected_account
        if when == "latest":
            run_id = await windows.latest_file(session, rule, of_run)
        else:
            run_id = await windows.file_at(session, rule, _when(when), of_run, res.claim_terms)
    return await answer_with_file(res, run_id, request, form, connected_account)


def _when(given: str) -> date | datetime:
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", given, re.ASCII):
        return _day(given)
    try:
        moment = _MOMENT.validate_python(given)
    except ValidationError as error:
        form = "must be a date like 2026-10-01, a time like 2026-10-01T09:30:00Z, or `latest`"
        raise BadInput(FieldError("date", form)) from error
    _day(moment.date())  # a time lies on one of the days that may be asked for
    return moment


def _day(given: str | date) -> date:
    try:
        return DAY.validate_python(given)
    except ValidationError as error:
        raise BadInput(FieldError("date", sentence(error.errors()[0]))) from error
