"""Stripe's webhooks by hand: the story decides which are delivered, lost, doubled or late."""

import time

import orjson

from app.errors import Unavailable
from app.inbox.intake import Intake
from app.simulator import Simulator
from app.simulator.state.model import Event
from app.simulator.webhooks.signatures import signature_header
from tests.service import WEBHOOK_SECRET

API_VERSION = "2026-10-28.endive"


class Post:
    """The events of one account, and which of them the service has said yes to."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._done: set[str] = set()  # acknowledged, or lost for good

    def waiting(self) -> list[Event]:
        """The events that were neither acknowledged nor lost, oldest first."""
        return [event for event in self._simulator.events if event.id not in self._done]

    def lose(self, event: Event) -> None:
        """Stripe will never deliver this one (again)."""
        self._done.add(event.id)

    async def deliver(self, intake: Intake, event: Event) -> None:
        """One delivery, signed just now; one that is not acknowledged waits for the next."""
        body = orjson.dumps(event.rendered(API_VERSION))
        signature = signature_header(body, [WEBHOOK_SECRET], at=int(time.time()))
        account = intake.account("default")
        assert account is not None
        try:
            await intake.accept(body, signature, account)
        except Unavailable:
            return
        self._done.add(event.id)

    async def deliver_all(self, intake: Intake) -> None:
        """Everything that waits, in the order in which it was made."""
        for event in self.waiting():
            await self.deliver(intake, event)
