"""Make and change a rule: a form with a preview of what it would request, checked by the API's schemas."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import select
from starlette.responses import Response

from app.api import rule_actions, rules
from app.api.rule_actions import PreviewIn, PreviewOut
from app.api.schemas.rules import RuleChange, RuleIn
from app.db.models import ReportType
from app.errors import BadInput, Conflict, FieldError, PreconditionFailed
from app.planning.report_types import takes_timezone
from app.rules import store
from app.rules.rule import known_zones
from app.sentences import count
from app.vocabulary import Cadence
from app.web.forms import checked
from app.web.visit import Visit, get, post

# The parameters with a field of their own; the others are JSON.
_TABLE_STATES = ("auto", "leading", "kept", "off")


async def show_new(visit: Visit) -> Response:
    """An empty form, or one for a chosen report."""
    given = {"account": "", "cadence": "daily", "timezone": "UTC", "enabled": "yes", "print_zone": "yes"}
    return await _form(visit, {**given, **visit.query})


async def show_change(visit: Visit) -> Response:
    """The form of a saved rule."""
    async with visit.res.sessions.begin() as session:
        rule = await store.find(session, visit.request.path_params["rule"])
    return await _form(visit, _fields(asdict(store.values_of(rule))) | {"version": str(rule.version)}, saved=rule.name)


async def make(visit: Visit) -> Response:
    """Preview or save a new rule."""
    form = await visit.form()
    try:
        values = _values(form)
        if form.get("do") != "save":
            return await _form(visit, form, preview=await _preview(visit, values))
        made = await rules.create_rule(visit.res, visit.caller, checked(RuleIn, values), Response())
    except (BadInput, Conflict) as error:
        return await _form(visit, form, problems=_problems(error))
    return visit.go(f"/rules/{made.id}", done=f"Rule created: {count(made.asks_for, 'report')} will be requested now.")


async def change(visit: Visit) -> Response:
    """Preview or save the changes; changes that others made in between are not overwritten."""
    form, name = await visit.form(), visit.request.path_params["rule"]
    async with visit.res.sessions.begin() as session:
        rule = await store.find(session, name)
    try:
        values = _values(form)
        if form.get("do") != "save":
            return await _form(
                visit, form, saved=rule.name, preview=await _preview(visit, values, rule_id=str(rule.id))
            )
        wanted, tag = checked(RuleChange, values), f'"{form.get("version", "")}"'
        answer = await rules.change_rule(
            visit.res, visit.caller, str(rule.id), wanted, response=Response(), if_match=tag
        )
    except (BadInput, Conflict, PreconditionFailed) as error:
        return await _form(visit, form, saved=rule.name, problems=_problems(error))
    return visit.go(
        f"/rules/{answer.id}", done=f"Rule changed: {count(answer.asks_for, 'report')} will be requested now."
    )


async def _form(
    visit: Visit,
    given: Mapping[str, str],
    *,
    saved: str | None = None,
    preview: PreviewOut | None = None,
    problems: list[tuple[str, str]] | None = None,
) -> Response:
    async with visit.res.sessions.begin() as session:
        query = select(ReportType.id).where(ReportType.data_available_end.is_not(None)).distinct()
        types = (await session.execute(query.order_by(ReportType.id).limit(200))).scalars().all()
    return visit.show(
        "rule_form.html",
        status=422 if problems else 200,
        given={name: given.get(name, "") for name in FIELDS},
        saved=saved,
        preview=preview,
        problems=problems or [],
        types=types,
        zones=sorted(known_zones()),
        cadences=list(Cadence),
        table_states=_TABLE_STATES,
        accounts=sorted(visit.res.settings.accounts),
    )


FIELDS = (
    "name", "account", "report_type", "enabled", "cadence", "timezone", "starts_on", "settle_hours", "print_zone",
    "currency", "columns", "parameters", "connected_accounts", "retention_days", "table_state", "recheck_days",
    "version",
)  # fmt: skip


async def _preview(visit: Visit, values: Mapping[str, Any], **saved: str) -> PreviewOut:
    async with visit.res.sessions.begin() as session:
        return await rule_actions.preview_rule(visit.res.settings, session, checked(PreviewIn, {**values, **saved}))


def _values(form: Mapping[str, str]) -> dict[str, Any]:
    """The form as the API's schema. Raises BadInput."""
    values: dict[str, Any] = {
        name: form[name].strip()
        for name in ("name", "account", "report_type", "cadence", "timezone", "starts_on")
        if form.get(name, "").strip()
    }
    values["enabled"] = form.get("enabled") == "yes"
    values["settle_hours"] = _number(form, "settle_hours", float) or 0.0
    values["retention_days"] = _number(form, "retention_days", int)
    values["connected_accounts"] = form.get("connected_accounts", "").replace(",", " ").split()
    values["recheck_days"] = [
        _whole("recheck_days", one) for one in form.get("recheck_days", "").replace(",", " ").split()
    ]
    if form.get("table_state"):
        values["table"] = {"state": form["table_state"]}
    values["parameters"] = _parameters(form, values)
    return values


def _parameters(form: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    try:
        parameters = json.loads(form.get("parameters", "").strip() or "{}")
    except ValueError:
        raise BadInput(FieldError("/parameters", "is not valid JSON: check quotes, commas and braces")) from None
    if not isinstance(parameters, dict):
        raise BadInput(FieldError("/parameters", "must be a JSON object: {…}"))
    zone = values.get("timezone", "UTC")
    if form.get("print_zone") == "yes" and takes_timezone(values.get("report_type", "")):
        parameters.setdefault("timezone", "Etc/UTC" if zone == "UTC" else zone)
    if form.get("currency", "").strip():
        parameters["currency"] = form["currency"].strip()
    if form.get("columns", "").strip():
        parameters["columns"] = form["columns"].replace(",", " ").split()
    return parameters


def _number(form: Mapping[str, str], name: str, kind: type[int] | type[float]) -> float | int | None:
    written = form.get(name, "").strip()
    if not written:
        return None
    try:
        return kind(written)
    except ValueError:
        raise BadInput(FieldError(f"/{name}", "must be a number")) from None


def _whole(name: str, written: str) -> int:
    try:
        return int(written)
    except ValueError:
        raise BadInput(FieldError(f"/{name}", "must be whole numbers")) from None


def _fields(rule: Mapping[str, Any]) -> dict[str, str]:
    """A saved rule as the values of the form."""
    parameters = dict(rule["parameters"])
    currency, columns = parameters.pop("currency", ""), parameters.pop("columns", [])
    prints_zone = parameters.get("timezone") in (rule["timezone"], f"Etc/{rule['timezone']}")
    if prints_zone:
        del parameters["timezone"]
    plain = ("name", "account", "report_type", "cadence", "timezone", "starts_on")
    return {name: str(rule[name]) for name in plain} | {
        "enabled": "yes" if rule["enabled"] else "",
        "settle_hours": f"{rule['settle_hours']:g}" if rule["settle_hours"] else "",
        "retention_days": "" if rule["retention_days"] is None else str(rule["retention_days"]),
        "connected_accounts": "\n".join(rule["connected_accounts"]),
        "recheck_days": ", ".join(map(str, rule.get("recheck_days") or [])),
        "table_state": str((rule.get("table") or {}).get("state", "auto")),
        "print_zone": "yes" if prints_zone else "",
        "currency": str(currency),
        "columns": ", ".join(columns),
        "parameters": json.dumps(parameters, indent=2) if parameters else "",
    }


def _problems(error: Exception) -> list[tuple[str, str]]:
    if isinstance(error, BadInput):
        return [(one.pointer.strip("/").replace("_", " ").replace("/", ": "), one.detail) for one in error.errors]
    return [("", str(error))]


ROUTES = (
    get("/rules/new", show_new),
    post("/rules/new", make),
    get("/rules/{rule}/edit", show_change),
    post("/rules/{rule}/edit", change),
)
