"""What `/health` says of signing secrets: which one signed last, so that a rotated one can go."""

import hashlib
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from app.resources import Resources, open_resources
from app.simulator import Simulator
from tests.api.conftest import client_of
from tests.inbox.intake_events import accept, an_event, signed
from tests.service import execute, make_settings

OLD, NEW = "whsec_the_old_one", "whsec_the_new_one"
MARKS = [hashlib.sha256(secret.encode()).hexdigest()[:4] for secret in (OLD, NEW)]


@pytest.fixture
async def rotating(database_url: str, simulator: Simulator) -> AsyncIterator[Resources]:
    """A service that takes two secrets."""
    settings = make_settings(database_url, simulator, STRIPE_WEBHOOK_SECRET=f"{OLD},{NEW}")
    async with open_resources(settings) as res:
        yield res


async def heard(res: Resources, id_: str, *, secret: str, hours_ago: int) -> None:
    event = an_event(id=id_)
    await accept(res.intake, event, header=signed(json.dumps(event).encode(), secret))
    values = {"hours": hours_ago, "id": id_}
    await execute(
        res, "update events set received_at = now() - :hours * interval '1 hour' where stripe_event_id = :id", **values
    )


async def said(api: httpx.AsyncClient) -> str:
    (found,) = [check for check in (await api.get("/health")).json()["checks"] if check["name"] == "webhook_secrets"]
    assert found["status"] == "ok"
    return str(found["detail"])


async def test_a_secret_that_was_rotated_out_can_go_a_day_later(rotating: Resources) -> None:
    async with client_of(rotating) as api:
        await heard(rotating, "evt_1", secret=OLD, hours_ago=26)
        assert "can go" not in await said(api)

        await heard(rotating, "evt_2", secret=NEW, hours_ago=3)

        assert await said(api) == (
            f"default: 1 of 2 (SHA-256 {MARKS[0]}…) signed its last webhook 26 hours ago; "
            f"default: 2 of 2 (SHA-256 {MARKS[1]}…) signed its last webhook 3 hours ago"
        )
        await heard(rotating, "evt_1", secret=OLD, hours_ago=28)
        assert "28 hours ago, while another one is in use: if it was rotated out, it can go" in await said(api)


async def test_a_secret_that_was_only_just_added_is_not_taken_for_an_old_one(rotating: Resources) -> None:
    async with client_of(rotating) as api:
        await heard(rotating, "evt_1", secret=OLD, hours_ago=2)

        assert f"2 of 2 (SHA-256 {MARKS[1]}…) signed none of the recent webhooks" in await said(api)
        assert "can go" not in await said(api)


async def test_no_secret_is_in_the_answer_or_in_a_row(rotating: Resources) -> None:
    async with client_of(rotating) as api:
        await heard(rotating, "evt_1", secret=OLD, hours_ago=2)

        assert "whsec" not in (await api.get("/health")).text
