"""A simulator that is served, a client that holds its key, and an endpoint that its events go to."""

from collections.abc import AsyncIterator

import httpx
import pytest

from app.simulator import Simulator, serve
from tests.simulator.receiver import Receiver, receiving

KEY = "sk_test_simulator_default"
SECRET = "whsec_for_tests"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as endpoint:
        yield endpoint


@pytest.fixture
async def simulator(receiver: Receiver) -> AsyncIterator[Simulator]:
    """Served, with one endpoint that wants all reporting events; retries follow quickly."""
    simulator = Simulator(delivery_base=0.001, delivery_most=0.01)
    simulator.add_endpoint(receiver.url, secrets=[SECRET])
    async with serve(simulator):
        yield simulator


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {KEY}"}
    # Without authorities to check, which take 50 ms to load and are not asked on plain HTTP.
    plain = httpx.AsyncClient(base_url=simulator.base_url, headers=headers, timeout=30, trust_env=False, verify=False)
    async with plain as client:
        yield client
