"""Metrics say for each target how many messages are on their way, and since when."""

from app.resources import Resources
from app.simulator import Simulator
from tests.api.conftest import client_of
from tests.service import execute
from tests.targets.stories import add_target, store_reports

URL = "https://ledger.example.com/hook"


async def pending(res: Resources) -> dict[str, tuple[float, float]]:
    """By target, the number of messages and the age of the oldest."""
    async with client_of(res) as api:
        lines = (await api.get("/metrics")).text.splitlines()
    found: dict[str, list[float]] = {}
    for line in lines:
        if line.startswith("tallyhook_target_"):
            series, value = line.rsplit(" ", 1)
            found.setdefault(series.split('"')[1], []).append(float(value))
    return {name: (values[0], values[1]) for name, values in found.items()}


async def test_messages_on_their_way_are_counted_by_target(res: Resources, simulator: Simulator) -> None:
    await add_target(res, name="ledger", url=URL)
    await add_target(res, name="idle", url=URL, message_types=["run.failed"])
    off = await add_target(res, name="off", url=URL)
    await store_reports(res, simulator, days=2)
    await execute(res, "update messages set created_at = now() - interval '2 hours'")
    await execute(res, "update targets set enabled = false where id = :id", id=off.id)

    found = await pending(res)

    assert set(found) == {"ledger", "idle"}, "a disabled one waits for nobody"
    assert found["ledger"][0] >= 2
    assert 7200 <= found["ledger"][1] < 7260
    assert found["idle"] == (0, 0)
