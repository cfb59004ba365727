"""The form of a target: create one, or change it. Read and checked by the functions of the API."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from app.api import targets
from app.api.schemas.targets import TargetChange, TargetIn, TargetOut
from app.db.models import Rule
from app.errors import BadInput, Conflict, PreconditionFailed
from app.vocabulary import MessageType, TargetKind
from app.web.forms import checked
from app.web.visit import Visit, get, post

_FIELDS = ("name", "kind", "url", "recipients", "message_types", "rules", "version")
_NEW = {"kind": TargetKind.WEBHOOK, "message_types": "*"}


async def rule_names(session: AsyncSession, target: TargetOut) -> list[str] | None:
    """The names of the rules that a target is for; None: all of them."""
    if target.rules is None:
        return None
    query = select(Rule.name).where(Rule.id.in_(target.rules)).order_by(Rule.name)
    return list((await session.execute(query)).scalars())


async def show_new(visit: Visit) -> Response:
    """An empty form."""
    return _form(visit, _NEW)


async def make(visit: Visit) -> Response:
    """Make a target; its secret is shown once."""
    form = await visit.form()
    try:
        new = checked(TargetIn, {"kind": form.get("kind", ""), **_values(form)})
        made = await targets.create_target(visit.res, visit.caller, new, Response())
    except (BadInput, Conflict) as error:
        return _form(visit, form, _problems(error))
    if made.secret is not None:
        return visit.show("secret.html", secret=made.secret, target_id=made.id)
    return visit.go(f"/targets/{made.id}", done="Target created.")


async def show_change(visit: Visit) -> Response:
    """The form of an existing target."""
    async with visit.res.sessions.begin() as session:
        target = await targets.show_target(session, visit.request.path_params["target"], Response())
        names = await rule_names(session, target)
    given = {
        "name": target.name,
        "kind": target.kind,
        "url": target.url or "",
        "recipients": ", ".join(target.recipients),
        "message_types": ", ".join(target.message_types),
        "rules": ", ".join(names or []),
        "version": str(target.version),
    }
    return _form(visit, given, saved=target)


async def change(visit: Visit) -> Response:
    """Change a target, unless somebody else has changed it meanwhile."""
    form, target_id = await visit.form(), visit.request.path_params["target"]
    try:
        wanted = checked(TargetChange, _values(form))
        expected = f'"{form["version"]}"' if form.get("version", "").isdecimal() else None
        await targets.change_target(visit.res, visit.caller, target_id, wanted, response=Response(), if_match=expected)
    except (BadInput, Conflict, PreconditionFailed) as error:
        async with visit.res.sessions.begin() as session:
            target = await targets.show_target(session, target_id, Response())
        return _form(visit, {**form, "kind": target.kind}, _problems(error), saved=target)
    return visit.go(f"/targets/{target_id}", done="Target changed.")


def _values(form: Mapping[str, str]) -> dict[str, Any]:
    """The form's fields in the API's words."""
    rules = [name.strip() for name in form.get("rules", "").split(",") if name.strip()]
    lists = {name: form.get(name, "").replace(",", " ").split() for name in ("recipients", "message_types")}
    texts = {"name": form.get("name", "").strip(), "url": form.get("url", "").strip() or None}
    return {**texts, **lists, "rules": rules or None}


def _problems(error: Exception) -> list[tuple[str, str]]:
    if isinstance(error, BadInput):
        return [(one.pointer.strip("/"), one.detail) for one in error.errors]
    return [("", str(error))]


def _form(
    visit: Visit,
    given: Mapping[str, str],
    problems: Sequence[tuple[str, str]] = (),
    saved: TargetOut | None = None,
) -> Response:
    return visit.show(
        "target_form.html",
        status=422 if problems else 200,
        saved=saved,
        given={name: given.get(name, "") for name in _FIELDS},
        problems=problems,
        kinds=list(TargetKind),
        types=list(MessageType),
        settings=visit.res.settings,
    )


ROUTES = (
    get("/targets/new", show_new),
    post("/targets/new", make),
    get("/targets/{target:uuid}/edit", show_change),
    post("/targets/{target:uuid}/edit", change),
)
