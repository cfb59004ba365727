"""Runs whose files are waiting at Stripe."""

from app.resources import Resources
from app.runs.download import claim_downloads
from app.runs.transfer import DownloadClaim
from app.simulator import Simulator
from tests.runs.stories import (
    everything_is_due,
    one_due_run,
)
from tests.service import (
    look_up_due,
    only_run,
    request_due,
)


async def one_ready_run(res: Resources, simulator: Simulator) -> None:
    """A run whose file is waiting at Stripe."""
    await one_due_run(res, simulator)
    await request_due(res)
    await everything_is_due(res)
    await look_up_due(res)
    assert (await only_run(res))["state"] == "ready"


async def claim_download(res: Resources, *, big: bool = False) -> DownloadClaim:
    (claim,) = await claim_downloads(res, 10, big=big)
    return claim


def content(simulator: Simulator) -> bytes:
    """The bytes of the newest file at Stripe."""
    return simulator.content(simulator.files[-1])
