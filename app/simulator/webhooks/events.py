"""Makes events and hands them to the sender, for every endpoint that wants them."""

import asyncio
import random
from collections.abc import Iterable
from typing import Any

from app.simulator.faults import EVENT_FAULTS, Subject
from app.simulator.ids import new_id
from app.simulator.state.model import Account, Delivery, Endpoint, Event
from app.simulator.state.world import World

OF_THE_EVENT = frozenset({"event_never_made", "event_twin"})
OF_A_DELIVERY = EVENT_FAULTS - OF_THE_EVENT

Carrying = list["asyncio.Task[None]"]
"""The deliveries on their way; empty before a server runs."""


def emit(
    world: World,
    account: Account,
    *,
    kind: str,
    about: dict[str, Any],
    previous: dict[str, Any] | None = None,
    owner: str | None = None,
    livemode: bool | None = None,
) -> Carrying:
    """Sends an event about an object and lists it, unless a fault prevents that."""
    content = {"object": about} if previous is None else {"object": about, "previous_attributes": previous}
    subject = Subject(event=kind, account=account.name, report_type=str(about.get("report_type") or about.get("id")))
    faults = world.faults.strike(OF_THE_EVENT, subject)
    if "event_never_made" in faults:
        return []
    carrying: Carrying = []
    for _ in range(2 if "event_twin" in faults else 1):
        event = Event(
            id=new_id("evt"),
            type=kind,
            created=world.clock.unix(),
            livemode=account.livemode if livemode is None else livemode,
            content=content,
            owner=owner,
        )
        account.events.add(event)
        carrying += _deliver(world, account, event, subject)
    return carrying


def _deliver(world: World, account: Account, event: Event, subject: Subject) -> Carrying:
    event.deliveries = [Delivery(event, endpoint, account) for endpoint in _wanting(account, event)]
    carrying: Carrying = []
    for delivery in list(event.deliveries):
        carrying += _hand_over(world, delivery, subject)
    return carrying


def _hand_over(world: World, delivery: Delivery, subject: Subject) -> Carrying:
    """Hands a delivery to the sender, changed by faults."""
    about = Subject(
        event=subject.event,
        account=subject.account,
        report_type=subject.report_type,
        endpoint=delivery.endpoint.url,
    )
    faults = world.faults.strike(OF_A_DELIVERY, about)
    delivery.wrong_secret = "event_wrong_secret" in faults
    if "event_stale" in faults:
        delivery.signed_seconds_ago = faults["event_stale"].seconds
    if "event_lost" in faults:
        delivery.status = "lost"
        return []
    if "event_held" in faults:
        delivery.status = "held"
        return []
    late = faults["event_late"].seconds if "event_late" in faults else 0.0
    copies = [delivery]
    if "event_doubled" in faults:
        copies.append(Delivery(delivery.event, delivery.endpoint, delivery.account))
        delivery.event.deliveries.append(copies[1])
    tasks = [world.sender.send(copy, delay=late) for copy in copies]
    return [task for task in tasks if task is not None]


def release(world: World, *, order: str | list[str] = "made") -> list[Delivery]:
    """Sends what is held back: in the order `made`, `reversed` or `random`, or in that of the given event ids
    (then only those)."""
    held = [delivery for delivery in _all_deliveries(world.accounts.values()) if delivery.status == "held"]
    if isinstance(order, list):
        held = [delivery for wanted in order for delivery in held if delivery.event.id == wanted]
    elif order == "reversed":
        held.reverse()
    elif order == "random":
        random.shuffle(held)
    elif order != "made":
        raise ValueError("`order` is made, reversed, random or a list of event ids")
    for delivery in held:
        delivery.status = "pending"
    world.sender.send_in_turn(held)
    return held


def resend(world: World, account: Account, event_id: str) -> list[Delivery]:
    """Delivers a listed event again to every endpoint that wants it now."""
    event = account.events.get(event_id)
    if event is None:
        raise LookupError(f"there is no event {event_id!r}")
    again = [Delivery(event, endpoint, account) for endpoint in _wanting(account, event)]
    event.deliveries += again
    for delivery in again:
        world.sender.send(delivery)
    return again


def _wanting(account: Account, event: Event) -> list[Endpoint]:
    return [endpoint for endpoint in account.endpoints.values() if endpoint.wants(event)]


def _all_deliveries(accounts: Iterable[Account]) -> list[Delivery]:
    return [delivery for account in accounts for event in account.events for delivery in event.deliveries]
