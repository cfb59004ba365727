"""`tallyhook demo`: the whole flow on this machine, without a Stripe account, shown as it happens.

The simulator plays Stripe over real HTTP; database, service and worker are real. The demo itself only does what a
user would: it creates rules and downloads files through the admin API.
"""

import asyncio
import hashlib
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx
from rich.console import Console

from app.cli.demo.client import client_of, pages
from app.cli.demo.numbers import show_numbers
from app.cli.demo.story import Story, show_stored
from app.cli.demo.troubles import Trouble, second_worker, troubles
from app.planning.planner import Availability, Schedule, due_windows
from app.serving import Running, running
from app.settings import load_settings
from app.simulator import Simulator, serve
from app.vocabulary import Cadence, Role
from app.web import sessions
from app.web.login_links import link_address

HALF_DAY = timedelta(hours=12)  # Stripe publishes twice a day
HISTORY = timedelta(days=400)  # how far the simulated data reaches back
STEP_SECONDS = 0.8  # how long half a simulated day takes
RUN_SECONDS = 0.3  # how long a simulated run stays pending
PATIENCE_SECONDS = 90.0
_A_DAY_MINUTES = 24 * 60.0


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample rule; `days` back from the first simulated day is where it starts."""

    name: str
    report_type: str
    cadence: Cadence
    timezone: str
    days: int = 0


SAMPLES = (
    Sample("activity-los-angeles", "balance_change_from_activity.itemized.7", Cadence.DAILY, "America/Los_Angeles"),
    Sample("balance-los-angeles", "balance.summary.1", Cadence.DAILY, "America/Los_Angeles"),
    Sample("payouts-lord-howe", "payouts.itemized.5", Cadence.DAILY, "Australia/Lord_Howe"),
    Sample("reconciliation-live", "payout_reconciliation.itemized.7", Cadence.EVERY_UPDATE, "UTC"),
    Sample("ending-balance-tokyo", "ending_balance_reconciliation.summary.1", Cadence.DAILY, "Asia/Tokyo"),
    Sample("payouts-weekly-london", "payouts.summary.1", Cadence.WEEKLY, "Europe/London", 14),
    Sample("activity-monthly", "balance_change_from_activity.summary.1", Cadence.MONTHLY, "America/New_York", 62),
)


async def play(stop: asyncio.Event, *, once: bool, days: int, port: int) -> list[str]:
    """Play the demo until it ends, or until `stop` is set; returns what went wrong."""
    console = Console()
    first = datetime.combine(datetime.now(UTC).date() - timedelta(days=days), datetime.min.time(), UTC)
    simulator = _stripe_with_data(until=first)
    token, secret = secrets.token_urlsafe(32), "whsec_" + secrets.token_hex(16)
    console.print("Starting PostgreSQL, the Stripe simulator and the service …")
    with _data_dir() as folder:
        async with serve(simulator) as stripe_url:
            environ = _environ(folder, simulator, stripe_url=stripe_url, token=token, secret=secret)
            settings = load_settings(environ, env_file=None)
            async with (
                running(settings, port=port) as service,
                client_of(str(service.url), token) as client,
                second_worker(environ) as worker,
            ):
                simulator.add_endpoint(f"{service.url}/webhooks/stripe", secrets=[secret])
                page = None if once else await _page_address(service)
                with Story(console, service.res, page) as story:
                    tricks = troubles(simulator, worker)
                    failures = await _play(client, simulator, tricks, story=story, first=first, days=days, stop=stop)
                if stop.is_set():
                    return failures
                await show_numbers(console, client, service.res, stop)
                await show_stored(console, client, url=None if once else str(service.url), token=token)
                if page is not None and not stop.is_set():
                    console.print(f"\nLook at it: {page}", highlight=False, soft_wrap=True)
                    console.print("\nLook around; Ctrl-C ends the demo and removes its data.")
                    await stop.wait()
    return failures


def _stripe_with_data(*, until: datetime) -> Simulator:
    simulator = Simulator(delay=RUN_SECONDS)
    for sample in SAMPLES:
        kind = simulator.report_type(sample.report_type)
        kind.data_available_start = int((until - HISTORY).timestamp())
        kind.data_available_end = int(until.timestamp())
    return simulator


async def _page_address(service: Running) -> str:
    """An address that logs in once by itself: `#go` makes the page press its button."""
    async with service.res.sessions.begin() as session:
        link, _ = await sessions.make_link(
            session, name="demo", role=Role.ADMIN, origin="demo", by="demo", minutes=_A_DAY_MINUTES
        )
    return f"{link_address(str(service.url), link)}#go"


async def _play(
    client: httpx.AsyncClient,
    simulator: Simulator,
    tricks: Sequence[Trouble],
    *,
    story: Story,
    first: datetime,
    days: int,
    stop: asyncio.Event,
) -> list[str]:
    """Play a few days in fast motion; returns what is wrong at the end."""
    for sample in SAMPLES:
        await _add_rule(client, sample, first.date())
    for step in range(1, 2 * days + 1):
        if stop.is_set():
            return []
        reached = first + step * HALF_DAY
        story.tell(f"Stripe has data until {reached:%Y-%m-%d %H:%M} UTC")
        if step <= len(tricks):
            story.tell(tricks[step - 1].line, style="bold red")
            tricks[step - 1].make()
        for sample in SAMPLES:
            simulator.advance(sample.report_type, to=reached)
        await story.follow(STEP_SECONDS)
    availability = Availability(first - HISTORY, first + 2 * days * HALF_DAY)
    owed = {sample.name: _owed(sample, first.date(), availability) for sample in SAMPLES}
    await story.follow_until_stored(sum(owed.values()), patience=PATIENCE_SECONDS, stop=stop)
    if stop.is_set():
        return []
    return await _check(client, simulator, owed)


async def _add_rule(client: httpx.AsyncClient, sample: Sample, first: date) -> None:
    rule = {
        "name": sample.name,
        "report_type": sample.report_type,
        "cadence": sample.cadence,
        "timezone": sample.timezone,
        "starts_on": (first - timedelta(days=sample.days)).isoformat(),
        "parameters": {"timezone": sample.timezone if sample.timezone != "UTC" else "Etc/UTC"},
    }
    (await client.post("/v1/rules", json=rule)).raise_for_status()


def _owed(sample: Sample, first: date, availability: Availability) -> int:
    """How many files the rule owes at the end; each advance makes one for `every_update`, unless two are seen
    together."""
    if sample.cadence is Cadence.EVERY_UPDATE:
        return 0
    schedule = Schedule(sample.cadence, sample.timezone, first - timedelta(days=sample.days), timedelta(0))
    return len(due_windows(schedule, availability, planned_until=None))


async def _check(client: httpx.AsyncClient, simulator: Simulator, owed: dict[str, int]) -> list[str]:
    """Download every file through the API and compare it with what the simulator made."""
    names = {rule["id"]: rule["name"] async for rule in pages(client, "/v1/rules")}
    made = {file.id: file for file in simulator.files}
    stored = dict.fromkeys(owed, 0)
    failures = []
    async for run in pages(client, "/v1/runs"):
        if run["state"] != "stored":
            failures.append(f"run {run['id']} is {run['state']}")
            continue
        stored[names[run["rule_id"]]] += 1
        body = (await client.get(f"/v1/runs/{run['id']}/file")).content
        original = b"".join(made[run["file"]["stripe_file_id"]].content.chunks())
        if body != original or hashlib.sha256(body).hexdigest() != run["file"]["sha256"]:
            failures.append(f"the file of run {run['id']} is not what Stripe made")
    failures += [f"{name} has {stored[name]} of {count} files" for name, count in owed.items() if stored[name] < count]
    return failures


class _data_dir:
    """A temporary folder of the demo, readable for the account that root lends to PostgreSQL."""

    def __enter__(self) -> Path:
        self._folder = Path(tempfile.mkdtemp(prefix="tallyhook-demo-"))
        self._folder.chmod(0o711)
        return self._folder

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _environ(folder: Path, simulator: Simulator, *, stripe_url: str, token: str, secret: str) -> dict[str, str]:
    return {
        "TALLYHOOK_DATA_DIR": str(folder),
        "STRIPE_API_KEY": next(iter(simulator.world.keys)),
        "STRIPE_WEBHOOK_SECRET": secret,
        "STRIPE_API_BASE": stripe_url,
        "STRIPE_FILES_BASE": stripe_url,
        "TALLYHOOK_ADMIN_TOKEN": token,
        # Recovery must be visible: what takes minutes elsewhere takes seconds here.
        "TALLYHOOK_RECONCILE_SECONDS": "4",
        "TALLYHOOK_PENDING_POLL_SECONDS": "4",
        "TALLYHOOK_STALLED_AFTER_SECONDS": "4",
        "TALLYHOOK_RETRY_MAX_SECONDS": "4",
    }
