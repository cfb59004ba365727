"""A target's whole life on the command line, with a receiver that really gets its messages."""

from collections.abc import AsyncIterator

import pytest
from standardwebhooks import Webhook

from app.resources import Resources, open_resources
from app.simulator import Simulator
from tests.cli.conftest import Command
from tests.proofs.announced import SETTINGS
from tests.service import make_settings
from tests.targets.receivers import WebReceiver, web_receiver
from tests.targets.stories import send_due, states, store_reports


@pytest.fixture
async def res(database_url: str, simulator: Simulator) -> AsyncIterator[Resources]:
    async with open_resources(make_settings(database_url, simulator, **SETTINGS)) as res:
        yield res


@pytest.fixture
async def receiver() -> AsyncIterator[WebReceiver]:
    async with web_receiver() as receiver:
        yield receiver


async def test_a_target_is_made_tried_and_disabled_misses_nothing_and_is_removed(
    res: Resources, simulator: Simulator, receiver: WebReceiver, remote: Command
) -> None:
    made = (await remote("targets", "create", "ledger", "--to", receiver.url, "--json")).json()
    pinged = await remote("targets", "test", "ledger")
    rotated = await remote("targets", "rotate", "ledger")
    secret = await remote("targets", "secret", made["id"])

    assert "delivered:           True" in pinged.out
    Webhook(made["secret"]).verify(receiver.received[0].body, receiver.received[0].headers)
    assert (secret.out, rotated.out != f"{made['secret']}\n") == (rotated.out, True)

    off = await remote("targets", "disable", "ledger")
    await store_reports(res, simulator)
    missed = await states(res)
    on = await remote("targets", "enable", "ledger")
    recovered = await remote("targets", "recover", "ledger", "--since", "2026-01-01T00:00:00Z")
    await send_due(res)

    assert off.out == "ledger is disabled; its messages are kept as skipped\n"
    assert missed == [("run.stored", "skipped", 0)]
    assert on.out.startswith("ledger is enabled; ")
    assert recovered.out == "1 message will be sent again\n"
    assert receiver.types == ["ping", "run.stored"]

    removed = await remote("targets", "remove", "ledger")
    gone = await remote("targets", "test", "ledger")
    refused = await remote("targets", "create", "mail", "--kind", "webhook")

    assert removed.out == "removed ledger\n"
    assert gone.errors == "tallyhook: there is no target 'ledger'; `tallyhook targets list` shows them\n"
    assert (refused.code, refused.errors.startswith("tallyhook: ")) == (1, True)
