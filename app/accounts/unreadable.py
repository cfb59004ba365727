"""Remembers which items of Stripe's lists could not be read: the newest reading of each list, for `/health`."""

from collections.abc import Sequence
from typing import Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

Kind = Literal["report_type", "report_run"]


async def note(session: AsyncSession, account: str, kind: Kind, skipped: Sequence[str]) -> None:
    """Record what is wrong with the items of a list that was just read; nothing, if all could be read."""
    values = {"account": account, "kind": kind, "number": len(skipped), "example": next(iter(skipped), None)}
    await session.execute(_NOTE if skipped else _FORGET, values)


_NOTE = text("""
insert into unreadable_items as known (account, kind, number, example, first_at, last_at)
values (:account, :kind, :number, :example, clock_timestamp(), clock_timestamp())
on conflict (account, kind) do update
    set number = excluded.number, example = excluded.example, last_at = excluded.last_at
""")
_FORGET = text("delete from unreadable_items where account = :account and kind = :kind")
