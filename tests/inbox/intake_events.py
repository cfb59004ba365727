"""Events as Stripe sends them, signed, for a test's own intake."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import RowMapping

from app.inbox.intake import Intake
from app.resources import Resources
from app.settings import Settings
from app.simulator.webhooks.signatures import signature_header
from tests.service import WEBHOOK_SECRET, fetch

TYPE = "reporting.report_type.updated"


def an_event(**changes: Any) -> dict[str, Any]:
    """An event as Stripe sends it; the service has no use for its object."""
    event = {
        "id": "evt_1",
        "object": "event",
        "type": TYPE,
        "created": 1772323200,
        "livemode": False,
        "data": {"object": {"id": "balance.summary.1", "object": "reporting.report_type"}},
    }
    return {name: value for name, value in {**event, **changes}.items() if value is not ...}


def signed(body: bytes, *secrets: str, at: float | None = None) -> str:
    """The header that Stripe would send with this body."""
    return signature_header(body, secrets or [WEBHOOK_SECRET], at=int(time.time() if at is None else at))


async def accept(intake: Intake, event: Any = None, *, slug: str = "default", header: str | None = None) -> None:
    """Deliver one event."""
    body = event if isinstance(event, bytes) else json.dumps(an_event() if event is None else event).encode()
    account = intake.account(slug)
    assert account is not None
    await intake.accept(body, signed(body) if header is None else header, account)


async def kept(res: Resources) -> list[RowMapping]:
    """All kept events, in order."""
    return await fetch(res, "select * from events order by id")


@asynccontextmanager
async def intake_of(settings: Settings, url: str | None = None) -> AsyncIterator[Intake]:
    """An intake of its own."""
    assert settings.database_url is not None
    async with Intake(url or settings.database_url.get_secret_value(), settings) as intake:
        yield intake
