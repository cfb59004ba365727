"""The doctor in this process: what it finds, by name; and what a healthy service has."""

from app.cli.doctor.command import examine_with
from app.health.results import Check
from app.resources import Resources
from app.settings import Settings
from app.simulator import Simulator
from tests.service import execute

URL = "https://reports.example.com/webhooks/stripe"


async def findings(settings: Settings, url: str | None = URL) -> dict[str, Check]:
    """What the doctor finds, by name; of several with one name the last."""
    found, _ = await examine_with(settings, url, fix=False)
    return {one.name: one for one in found}


def statuses(found: dict[str, Check]) -> dict[str, str]:
    """The names of what is not ok, and how bad it is."""
    return {name: one.status.value for name, one in found.items() if one.status != "ok"}


async def make_healthy(res: Resources, simulator: Simulator) -> None:
    """A worker that reported just now, and the endpoint registered as it should be."""
    await execute(res, "insert into workers (id, host, pid) values (gen_random_uuid(), 'here', 1)")
    simulator.add_endpoint(URL)
