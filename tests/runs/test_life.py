"""The life of a run, step by step, against the simulator."""

from app.resources import Resources
from app.simulator import Simulator
from app.upkeep.reconcile import reconcile
from tests.service import add_rule, at, fetch, history, only_run, unpublished, work_off


async def test_a_window_that_is_due_becomes_a_stored_file(res: Resources, simulator: Simulator) -> None:
    unpublished(simulator, until="2026-03-02")
    await reconcile(res)
    await add_rule(res)

    await work_off(res)

    run = await only_run(res)
    assert run["state"] == "stored"
    assert run["interval_start"] == at("2026-03-01")
    assert run["interval_end"] == at("2026-03-02")
    assert await history(res) == ["planned", "requested", "ready", "stored"]
    (file,) = await fetch(res, "select * from files")
    (made,) = simulator.files
    pieces = [piece async for piece in res.files.read(file["id"], file["location"], start=0, stop=file["size"])]
    assert b"".join(pieces) == b"".join(made.content.chunks())
    assert file["size"] == made.size
