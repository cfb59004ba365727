"""The embedded PostgreSQL hangs: it accepts connections and answers nothing, while the service still answers."""

import asyncio
import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from app.inbox.intake import ANSWER_SECONDS
from app.serving import running
from app.simulator import Simulator
from tests.api.deliveries import delivery, event
from tests.database import FOLDER_VARIABLE
from tests.service import make_settings
from tests.until import until

# What a busy machine may add. Stripe gives up later than that, and the server stays frozen.
SLACK_SECONDS = 10.0


@contextmanager
def stopped(data: Path) -> Iterator[None]:
    """The server and all its processes stand still."""
    postmaster = int((data / "postmaster.pid").read_text().splitlines()[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    pids = [postmaster, *map(int, children)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.slow
async def test_deliveries_get_their_503_in_time_and_the_process_answers_meanwhile(simulator: Simulator) -> None:
    # Given a service whose own PostgreSQL stands still
    folder = Path(os.environ[FOLDER_VARIABLE]) / f"private-{uuid.uuid4().hex}"
    folder.mkdir(mode=0o711)
    settings = make_settings("", simulator, TALLYHOOK_DATA_DIR=folder)
    async with running(settings) as service, httpx.AsyncClient(base_url=service.url or "", timeout=60) as stripe:
        url = "/webhooks/stripe"
        assert (await stripe.post(url, **delivery())).status_code == 200
        with stopped(folder / "postgres"):
            # When a delivery comes
            delivering = asyncio.create_task(stripe.post(url, **delivery(event("evt_2"))))
            lives = 0
            while not delivering.done():
                assert (await stripe.get("/health/live")).status_code == 200
                lives += 1

            # Then it is answered before Stripe gives up, and the process is seen to live all the while
            answer = await delivering
            assert answer.status_code == 503
            assert answer.elapsed.total_seconds() < ANSWER_SECONDS + SLACK_SECONDS
            assert lives > 5

        # and when the server continues, so does everything
        async def taken() -> bool:
            return (await stripe.post(url, **delivery(event("evt_2")))).status_code == 200

        await until(taken)
