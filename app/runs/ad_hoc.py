"""Ad-hoc runs, without a rule: validated, stored once per Idempotency-Key, then made like any other run."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app import audit, report_types
from app.db.models import Run, RunMove
from app.errors import BadInput, Conflict, FieldError
from app.ids import uuid7
from app.observability import log_lines
from app.planning.report_types import OWN_FIELDS, interval_need, is_latest, latest_of, run_parameters
from app.queue.wakeups import wake
from app.report_types import KnownType
from app.vocabulary import IntervalNeed, Lane, RunState


@dataclass(frozen=True, slots=True)
class AdHoc:
    """The requested run: its interval is `[start, end)`, in UTC and whole seconds, if the type takes one."""

    account: str
    report_type: str
    parameters: Mapping[str, Any]
    interval_start: datetime | None
    interval_end: datetime | None
    connected_account: str | None


def check(asked: AdHoc, accounts: Sequence[str]) -> None:
    """Refuse what can never work. Raises BadInput with a pointer per field."""
    errors = [
        FieldError(f"/parameters/{name}", f"belongs outside `parameters`: use the field `{name}`")
        for name in sorted(OWN_FIELDS & set(asked.parameters))
    ]
    if asked.account not in accounts:
        known = ", ".join(sorted(accounts)) or "none"
        errors.append(FieldError("/account", f"is not configured; known accounts: {known}"))
    errors += _interval_errors(asked)
    if errors:
        raise BadInput(*errors)


def _interval_errors(asked: AdHoc) -> list[FieldError]:
    need, start, end = interval_need(asked.report_type), asked.interval_start, asked.interval_end
    if need is IntervalNeed.NONE:
        given = {"/interval_start": start, "/interval_end": end}
        errors = [
            FieldError(at, "this type takes a payout instead") for at, value in given.items() if value is not None
        ]
        missing = [] if "payout" in asked.parameters else [FieldError("/parameters/payout", "is missing")]
        return errors + missing
    errors = []
    if need is IntervalNeed.RANGE and start is None:
        errors.append(FieldError("/interval_start", "is missing"))
    if end is None:
        errors.append(FieldError("/interval_end", "is missing"))
    if start is not None and end is not None and start >= end:
        errors.append(FieldError("/interval_end", "must be later than interval_start"))
    return errors


async def plan(
    session: AsyncSession, asked: AdHoc, *, attempts: int, by: str, request_key: str | None = None
) -> tuple[uuid.UUID, bool]:
    """Store the run as planned; returns its id, and whether it is new.

    A type that ends in `.latest` is resolved now. With a `request_key` every later request gets the first run made
    under it. Raises Conflict if that request was a different one, and BadInput if no version has data.
    """
    earlier = None if request_key is None else await _made_earlier(session, request_key)
    type_ = await _type_of(session, asked, earlier)
    asked = replace(asked, report_type=asked.report_type if type_ is None else type_.resolves_to or type_.id)
    values = _values(asked, type_, attempts) | ({} if request_key is None else {"window_key": request_key})
    if earlier is not None:
        _check_same(earlier, values)
        return earlier.id, False
    await session.execute(insert(Run).values(values))
    move = {"run_id": values["id"], "account": asked.account, "to_state": RunState.PLANNED.value, "attempt": 1}
    await session.execute(insert(RunMove).values({**move, "reason": f"requested by {by}"}))
    await audit.note(session, actor=by, action="run.created", subject=values["id"], after=asdict(asked))
    await wake(session, Lane.REQUESTS)
    return values["id"], True


async def _type_of(session: AsyncSession, asked: AdHoc, earlier: Run | None) -> KnownType | None:
    """What is known of its type. A request that comes again keeps the version that it was resolved to."""
    name = asked.report_type
    if earlier is not None and name == latest_of(earlier.report_type):
        name = earlier.report_type
    type_ = await report_types.read(session, asked.account, name)
    if is_latest(name) and type_ is None:
        detail = f"no version of it has data for {asked.account!r} yet: name one, or see GET /v1/report-types"
        raise BadInput(FieldError("/report_type", detail))
    return type_


def _values(asked: AdHoc, type_: KnownType | None, attempts: int) -> dict[str, Any]:
    parameters = run_parameters(
        asked.report_type,
        asked.parameters,
        start=asked.interval_start,
        end=asked.interval_end,
        connected_account=asked.connected_account,
        start_offset_seconds=0 if type_ is None else type_.start_offset(asked.interval_start),
    )
    return {
        "id": uuid7(),
        "account": asked.account,
        "report_type": asked.report_type,
        "connected_account": asked.connected_account,
        "interval_start": asked.interval_start,
        "interval_end": asked.interval_end,
        "parameters": parameters,
        "state": RunState.PLANNED.value,
        "attempts_granted": attempts,
        **log_lines.cause_of(asked.account),
    }


async def _made_earlier(session: AsyncSession, request_key: str) -> Run | None:
    # Held until the commit: of two requests with the same key, the second finds the first one's run.
    await session.execute(_LOCK_KEY, {"key": request_key})
    query = select(Run).where(Run.rule_id.is_(None), Run.window_key == request_key)
    return (await session.execute(query)).scalar_one_or_none()


def _check_same(run: Run, values: Mapping[str, Any]) -> None:
    asked = ("account", "report_type", "connected_account", "interval_start", "interval_end")
    if any(getattr(run, name) != values[name] for name in asked) or _without_start(run.parameters) != _without_start(
        values["parameters"]
    ):
        raise Conflict(f"this Idempotency-Key was used for a different request, which made run {run.id}: use a new key")


def _without_start(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters without the start, which a refusal may have moved since (`runs/refusals`)."""
    return {name: value for name, value in parameters.items() if name != "interval_start"}


_LOCK_KEY = text("select pg_advisory_xact_lock(hashtextextended(:key, 2))")
