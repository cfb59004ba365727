"""What a process that only works the queue shows on its own port."""

import httpx
import pytest

from app.probes import build_probes
from app.resources import Resources
from app.serving import running
from app.simulator import Simulator
from tests.api.conftest import BASE_URL, bearer
from tests.ports import held_port
from tests.service import ADMIN_TOKEN, READ_TOKEN, make_settings
from tests.until import until
from tests.worker.workers import worker_process


async def test_a_worker_shows_its_health_and_metrics_and_nothing_else(res: Resources) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(build_probes(res)), base_url=BASE_URL) as client:
        admin = bearer(ADMIN_TOKEN)

        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/metrics")).status_code == 401
        assert "tallyhook_build_info" in (await client.get("/metrics", headers=bearer(READ_TOKEN))).text
        assert (await client.get("/health", headers=admin)).status_code == 200
        assert (await client.post("/webhooks/stripe", content=b"{}")).status_code == 404
        for path in ("/v1/rules", "/v1/runs", "/openapi.json", "/docs"):
            assert (await client.get(path, headers=admin)).status_code == 404, path


async def test_a_worker_is_ready_once_it_was_seen_at_work(database_url: str, simulator: Simulator) -> None:
    async with (
        running(make_settings(database_url, simulator), app=build_probes) as service,
        httpx.AsyncClient(base_url=str(service.url), timeout=30, trust_env=False) as client,
    ):

        async def ready() -> bool:
            return (await client.get("/health/ready")).status_code == 200

        await until(ready)
        checks = (await client.get("/health/ready")).json()["checks"]

    assert {check["name"]: check["status"] for check in checks}["worker"] == "ok"


@pytest.mark.slow
async def test_the_command_listens_where_it_is_told(res: Resources, simulator: Simulator) -> None:
    with held_port() as port:
        async with (
            worker_process(res, simulator, "--port", str(port)),
            httpx.AsyncClient(timeout=30, trust_env=False) as client,
        ):

            async def counted() -> bool:
                try:
                    answer = await client.get(f"http://127.0.0.1:{port}/metrics", headers=bearer(ADMIN_TOKEN))
                except httpx.ConnectError:
                    return False
                return "tallyhook_stripe_requests_total" in answer.text

            await until(counted)
