"""Targets are notified when numbers differ or agree again and when a report's columns change, and only then."""

from collections.abc import AsyncIterator

import pytest

from app.resources import Resources, open_resources
from app.simulator import Simulator
from app.targets.notices import announce_changes
from app.vocabulary import MessageType
from tests.proofs.announced import SETTINGS
from tests.service import execute, fetch, make_settings
from tests.tables.stored import HEADER, day, line, load_all, rows, rule, stored_and_loaded
from tests.targets.examples import unlike_its_example
from tests.targets.receivers import WebReceiver, web_receiver
from tests.targets.stories import add_target, send_due

BROKEN = "txn_2,,usd,10.00,1.00,9.50,charge"


@pytest.fixture
async def receiver() -> AsyncIterator[WebReceiver]:
    async with web_receiver() as receiver:
        yield receiver


@pytest.fixture
async def res(database_url: str, simulator: Simulator) -> AsyncIterator[Resources]:
    async with open_resources(make_settings(database_url, simulator, **SETTINGS)) as res:
        yield res


def told(receiver: WebReceiver) -> list[tuple[str, str]]:
    return [(one.message["type"], one.message["data"]["text"]) for one in receiver.received]


async def test_a_difference_and_a_new_column_are_announced_once(tables: Resources, receiver: WebReceiver) -> None:
    await add_target(tables, url=receiver.url)
    rule_id = await rule(tables)
    await stored_and_loaded(tables, rows(line(1)), rule_id=rule_id)
    await send_due(tables)
    assert told(receiver) == []

    await stored_and_loaded(tables, rows(BROKEN), rule_id=rule_id, start=day(2))
    await stored_and_loaded(tables, rows(line(3) + ",x", header=HEADER + ",charge_id"), rule_id=rule_id, start=day(3))
    await execute(tables, "update loads set checks_due = true")
    await load_all(tables)
    await send_due(tables)

    assert told(receiver) == [
        ("check.differs", "row_net usd differs by 0.50"),
        ("columns.changed", "daily: new column charge_id"),
    ]
    assert [unlike_its_example(one.message) for one in receiver.received] == [[], []]


async def test_numbers_that_agree_again_are_announced_once(tables: Resources, receiver: WebReceiver) -> None:
    await add_target(tables, url=receiver.url, message_types=["check.differs"])
    rule_id = await rule(tables)
    await stored_and_loaded(tables, rows(BROKEN), rule_id=rule_id)

    for revision in (2, 3):
        await stored_and_loaded(tables, rows(line(2)), rule_id=rule_id, revision=revision)
        await send_due(tables)

    assert told(receiver) == [
        ("check.differs", "row_net usd differs by 0.50"),
        ("check.differs", "row_net usd agrees again"),
    ]
    assert [one.message["data"]["state"] for one in receiver.received] == ["began", "ended"]
    assert [unlike_its_example(one.message) for one in receiver.received] == [[], []]


async def test_a_difference_that_comes_back_in_the_same_file_is_announced_again(
    tables: Resources, receiver: WebReceiver
) -> None:
    await add_target(tables, url=receiver.url, message_types=["check.differs"])
    adds_up = "txn_3,,usd,10.00,1.00,8.50,charge"
    await stored_and_loaded(tables, rows(BROKEN, adds_up), rule_id=await rule(tables))

    for breaks in (0, 2, 0):
        await execute(tables, "update load_sums set net_breaks = :breaks", breaks=breaks)
        await execute(tables, "update loads set checks_due = true")
        await load_all(tables)
    await send_due(tables)

    assert [one.message["data"]["state"] for one in receiver.received] == ["began", "ended", "began", "ended"]


async def test_without_targets_nothing_is_written(tables: Resources) -> None:
    await stored_and_loaded(tables, rows(BROKEN), rule_id=await rule(tables))
    async with tables.sessions.begin() as session:
        await announce_changes(session, [MessageType.RULE_LATE], [])

    assert await fetch(tables, "select id::text from messages union all select subject from notices") == []
