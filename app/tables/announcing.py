"""Announcements about the numbers: two of them differ, or a report's columns changed, which is also stored."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch
from app.tables.amounts import difference
from app.tables.checks.results import NewVerdict, Verdict, difference_text
from app.tables.columns import changed_text
from app.targets import notices
from app.targets.messages import NewMessage, announce, as_time, has_targets, window_data
from app.vocabulary import MessageType


@dataclass(frozen=True, slots=True)
class _Headers:
    """The header of a file, and of the newest earlier window of its rule."""

    load_id: int
    rule_id: uuid.UUID
    rule_name: str
    account: str
    report_type: str
    header: list[str]
    before: list[str]

    @property
    def added(self) -> list[str]:
        """Columns that the file has, and the previous one lacks."""
        return [name for name in self.header if name not in self.before]

    @property
    def removed(self) -> list[str]:
        """Columns that the file lacks, and the previous one has."""
        return [name for name in self.before if name not in self.header]


async def announce_differences(session: AsyncSession, new: Sequence[NewVerdict]) -> None:
    """Announce new verdicts that two numbers differ, or that numbers announced to differ now agree."""
    if not new or not await has_targets(session):
        return
    differ = [one for one in new if one.finding.verdict is Verdict.DIFFERS]
    agree = {one.subject: one for one in new if one.finding.verdict is Verdict.AGREES}
    lasting = await notices.begin(session, MessageType.CHECK_DIFFERS, [one.subject for one in differ])
    over = await notices.end(session, MessageType.CHECK_DIFFERS, agree)
    messages = [_message(one, "began", lasting[one.subject]) for one in differ]
    messages += [_message(one, "ended", over[one.subject]) for one in agree.values() if one.subject in over]
    await announce(session, messages)


def _message(new: NewVerdict, state: str, since: datetime) -> NewMessage:
    found, window = new.finding, new.finding.window_of
    by_how_much = None
    if found.left is not None and found.right is not None:
        by_how_much = difference(found.left, found.right)
    by = "" if by_how_much is None else f"{by_how_much:f}"
    about = f"{new.check} {found.currency}".strip()
    data = {
        "check": new.check,
        "state": state,
        "account": window.account,
        "connected_account": window.connected_account,
        "report_type": window.report_type,
        "window": window_data(window.interval_start, window.interval_end, window.timezone),
        "interval_start": as_time(window.interval_start),
        "interval_end": as_time(window.interval_end),
        "currency": found.currency,
        "difference": by,
        "reason": found.reason,
        "text": f"{about} agrees again" if state == "ended" else difference_text(about, by_how_much, found.reason),
    }
    loads = "-".join(str(load.id) for load in found.loads)
    # A difference that ended may come back with the same files.
    key = f"{MessageType.CHECK_DIFFERS}/{new.subject}/{since.timestamp():.6f}/{state}/{loads}/{by}"
    return NewMessage(MessageType.CHECK_DIFFERS, data, key, window.account, window.rule_id)


async def announce_changed_columns(session: AsyncSession, load_ids: Sequence[int]) -> None:
    """Store and announce which of these files have columns other than the previous file's."""
    headers = await fetch(session, _Headers, _HEADERS, {"ids": list(load_ids)})
    found = [one for one in headers if one.added or one.removed]
    changes = [{"id": one.load_id, "added": one.added, "removed": one.removed} for one in found]
    await session.execute(_CHANGED, {"ids": list(load_ids), "changes": json.dumps(changes)})
    await announce(session, [_changed(one) for one in found])


def _changed(found: _Headers) -> NewMessage:
    added, removed = found.added, found.removed
    data = {
        "rule_id": str(found.rule_id),
        "rule_name": found.rule_name,
        "account": found.account,
        "report_type": found.report_type,
        "added": added,
        "removed": removed,
        "text": f"{found.rule_name}: {changed_text(added, removed)}",
    }
    key = f"{MessageType.COLUMNS_CHANGED}/{found.load_id}/{','.join(added)}/{','.join(removed)}"
    return NewMessage(MessageType.COLUMNS_CHANGED, data, key, found.account, found.rule_id)


_HEADERS = text("""
select loads.id as load_id, loads.rule_id, rules.name as rule_name, loads.account, loads.report_type, loads.header,
    earlier.header as before
from loads join rules on rules.id = loads.rule_id cross join lateral (
    select header from loads as before where before.table_name = loads.table_name and before.account = loads.account
        and before.rule_id = loads.rule_id and before.header is not null
        and before.connected_account is not distinct from loads.connected_account
        and before.interval_end <= loads.interval_start
    order by before.interval_end desc, before.revision desc limit 1
) as earlier
where loads.id = any(:ids) and loads.header is not null and loads.header <> earlier.header
order by loads.id
""")
# If the columns are again those of the previous file, as after its new revision, nothing is kept.
_CHANGED = text("""
update loads set added_columns = changed.added, removed_columns = changed.removed
from loads as one left join jsonb_to_recordset(cast(:changes as jsonb))
    as changed(id bigint, added text[], removed text[]) on changed.id = one.id
where loads.id = one.id and one.id = any(:ids) and (changed.added, changed.removed)
    is distinct from (loads.added_columns, loads.removed_columns)
""")
