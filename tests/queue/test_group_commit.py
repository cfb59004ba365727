"""The outcomes of many calls are recorded in one transaction, and one bad outcome spoils no other."""

import asyncio

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.queue.group_commit import GROUP_LIMIT
from app.resources import Resources
from tests.service import execute, fetch


@pytest.fixture(autouse=True)
async def table(res: Resources) -> None:
    await execute(res, "create table noted (item text)")


class Writer:
    """Records items; remembers which were given together, and can be made to wait."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.began = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def write(self, session: AsyncSession, items: list[str]) -> None:
        self.groups.append(items)
        self.began.set()
        await self.go_on.wait()
        for item in items:
            await session.execute(text("insert into noted values (:item)"), {"item": item})
        if "bad" in items:
            raise ValueError("a bug of ours")
        if "cut" in items:
            await session.execute(text("select pg_terminate_backend(pg_backend_pid())"))


async def noted(res: Resources) -> list[str]:
    return sorted(row["item"] for row in await fetch(res, "select item from noted"))


async def test_what_comes_in_during_a_commit_is_written_by_the_next_one_together(res: Resources) -> None:
    writer = Writer()
    items = [f"{number:03}" for number in range(GROUP_LIMIT + 20)]

    await asyncio.gather(*(res.group_commit.record("default", writer.write, item) for item in items))

    assert await noted(res) == items
    assert len(writer.groups) < 5
    assert max(len(group) for group in writer.groups) == GROUP_LIMIT


async def test_of_many_only_the_one_at_fault_suffers(res: Resources) -> None:
    writer = Writer()
    items = ["1", "2", "bad", "3"]

    outcomes = await asyncio.gather(
        *(res.group_commit.record("default", writer.write, item) for item in items), return_exceptions=True
    )

    assert [type(outcome) for outcome in outcomes] == [type(None), type(None), ValueError, type(None)]
    assert await noted(res) == ["1", "2", "3"]


async def test_an_error_of_the_database_reaches_every_caller_and_nothing_is_written(res: Resources) -> None:
    writer = Writer()

    outcomes = await asyncio.gather(
        *(res.group_commit.record("default", writer.write, item) for item in ("1", "2", "cut")), return_exceptions=True
    )

    # The first came alone, before there was another to wait with.
    assert outcomes[0] is None
    assert all(isinstance(outcome, Exception) for outcome in outcomes[1:])
    assert await noted(res) == ["1"]


class PipelineWriter(Writer):
    """Turns a cancellation into an error, as the driver does in the middle of a pipeline."""

    async def write(self, session: AsyncSession, items: list[str]) -> None:
        try:
            await super().write(session, items)
        except asyncio.CancelledError:
            raise psycopg.OperationalError("sending query failed") from None


@pytest.mark.parametrize("writes", [Writer, PipelineWriter])
@pytest.mark.parametrize("who", [0, 1, 2])
async def test_a_cancelled_caller_does_not_cancel_the_others(res: Resources, who: int, writes: type[Writer]) -> None:
    writer = writes()
    writer.go_on.clear()
    tasks = [asyncio.create_task(res.group_commit.record("default", writer.write, str(number))) for number in range(3)]
    await writer.began.wait()

    tasks[who].cancel()
    await asyncio.sleep(0)
    writer.go_on.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(outcomes[who], asyncio.CancelledError)
    assert await noted(res) == [str(number) for number in range(3) if number != who]
