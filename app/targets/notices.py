"""Lasting states: announced once when they begin and once when they end, however often they are checked.

A row remembers each announced state; insert-or-nothing announces a beginning once, however many processes check.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Executable, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch
from app.targets.messages import NewMessage, announce, as_time, has_targets
from app.vocabulary import MessageType

# The message type of the end of a state; by default the same type, with `state` "ended".
_ENDS = {
    MessageType.RULE_LATE: MessageType.RULE_ON_TIME,
    MessageType.ACCOUNT_HELD: MessageType.ACCOUNT_RELEASED,
}


@dataclass(frozen=True, slots=True)
class Lasting:
    """A current state. `subject` identifies it among others of its type; `ended` is the text at its end."""

    type: MessageType
    subject: str
    text: str
    ended: str
    account: str | None = None
    rule_id: UUID | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Notice:
    type: str
    subject: str
    since: datetime
    data: dict[str, Any]


async def announce_changes(session: AsyncSession, types: Collection[MessageType], now: Sequence[Lasting]) -> int:
    """Announce which states of these types began or ended since the last check; returns how many.

    Without targets nothing is remembered: the first target is sent the states that last by then.
    """
    if not await has_targets(session):
        return 0
    await session.execute(_LOCK)
    current = {(state.type.value, state.subject): state for state in now}
    rows = [{"type": type_, "subject": subject, "data": _kept(state)} for (type_, subject), state in current.items()]
    begun = await fetch(session, _Notice, _BEGIN, {"rows": orjson.dumps(rows).decode()})
    keys = {"types": [type_.value for type_ in types], "rows": orjson.dumps(rows).decode()}
    ended = await fetch(session, _Notice, _END, keys)
    messages = [_began(notice, current[notice.type, notice.subject]) for notice in begun]
    await announce(session, messages + [_ended(notice) for notice in ended])
    return len(begun) + len(ended)


async def begin(session: AsyncSession, type_: MessageType, subjects: Collection[str]) -> Mapping[str, datetime]:
    """Remember that states of these subjects were announced, by the caller's own messages; since when each lasts."""
    await _remember(session, type_, subjects)
    return await _since(session, _LASTING, type_, subjects)


async def end(session: AsyncSession, type_: MessageType, subjects: Collection[str]) -> Mapping[str, datetime]:
    """Forget those of these subjects whose state was announced: their end must be, too. Since when each lasted."""
    return await _since(session, _FORGET, type_, subjects)


async def _since(
    session: AsyncSession, statement: Executable, type_: MessageType, subjects: Collection[str]
) -> Mapping[str, datetime]:
    found = await fetch(session, _Notice, statement, {"type": type_.value, "subjects": list(subjects)})
    return {notice.subject: notice.since for notice in found}


async def once(session: AsyncSession, message: NewMessage, subject: str) -> bool:
    """Announce this only once, even after the message was pruned. Returns whether it was announced now."""
    if not await _remember(session, message.type, [subject]):
        return False
    await announce(session, [message])
    return True


async def _remember(session: AsyncSession, type_: MessageType, subjects: Collection[str]) -> list[_Notice]:
    rows: list[dict[str, Any]] = [{"type": type_.value, "subject": subject, "data": {}} for subject in subjects]
    return await fetch(session, _Notice, _BEGIN, {"rows": orjson.dumps(rows).decode()})


def _kept(state: Lasting) -> dict[str, Any]:
    return {
        "account": state.account,
        "rule_id": None if state.rule_id is None else str(state.rule_id),
        "ended": state.ended,
        **state.data,
    }


def _began(notice: _Notice, state: Lasting) -> NewMessage:
    since = as_time(notice.since)
    data = {**state.data, "account": state.account, "text": state.text, "state": "began", "since": since}
    return NewMessage(state.type, data, _key(state.type, notice, "began"), state.account, state.rule_id, notice.subject)


def _ended(notice: _Notice) -> NewMessage:
    type_ = MessageType(notice.type)
    rule_id = notice.data["rule_id"]
    without = {"ended", *(["rule_id"] if rule_id is None else [])}
    kept = {name: value for name, value in notice.data.items() if name not in without}
    data = {**kept, "text": notice.data["ended"], "state": "ended", "since": as_time(notice.since)}
    return NewMessage(
        _ENDS.get(type_, type_),
        data,
        _key(type_, notice, "ended"),
        notice.data["account"],
        None if rule_id is None else UUID(rule_id),
        notice.subject,
    )


def _key(type_: MessageType, notice: _Notice, what: str) -> str:
    return f"{type_}/{notice.subject}/{notice.since.timestamp():.6f}/{what}"


_LOCK = text("select pg_advisory_xact_lock(hashtext('tallyhook notices'))")
_BEGIN = text("""
insert into notices (type, subject, data)
select * from jsonb_to_recordset(cast(:rows as jsonb)) as new(type text, subject text, data jsonb)
on conflict (type, subject) do nothing returning type, subject, since, data
""")
_LASTING = text("select type, subject, since, data from notices where type = :type and subject = any(:subjects)")
_FORGET = text("""
delete from notices where type = :type and subject = any(:subjects) returning type, subject, since, data
""")
_END = text("""
delete from notices where type = any(:types) and not exists (
    select from jsonb_to_recordset(cast(:rows as jsonb)) as now(type text, subject text)
    where now.type = notices.type and now.subject = notices.subject
) returning type, subject, since, data
""")
