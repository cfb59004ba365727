"""The simulator's objects as plain JSON values, for the control routes and `state`."""

from dataclasses import asdict
from functools import singledispatch
from typing import Any

from app.simulator.faults import Fault
from app.simulator.state.connected import ConnectedAccount, PayoutObject, RestatedWindow
from app.simulator.state.model import Account, ApiKey, Delivery, Endpoint, Event, ReportFile, ReportType, Run
from app.simulator.state.world import CallRecord, World

SHOWN = 200
"""How many of each kind `state` lists, the newest; the counts are of all."""


@singledispatch
def plain(value: Any) -> Any:
    """Any result of a command, as JSON values."""
    return value


@plain.register(list)
def _(value: list[Any]) -> Any:
    return [plain(item) for item in value]


@plain.register
def _(value: Fault) -> Any:
    return asdict(value)


@plain.register
def _(value: ReportType) -> Any:
    return value.rendered() | {
        "live_only": value.live_only,
        "strict_bounds": value.strict_bounds,
        "rows_per_day": value.rows_per_day,
        "bytes": value.bytes,
        "outcome": value.outcome,
        "delay": value.delay,
        "parameters": {"required": sorted(value.required), "optional": sorted(value.optional)},
    }


@plain.register
def _(value: Run) -> Any:
    return value.rendered() | {"idempotency_key": value.idempotency_key, "owner": value.owner}


@plain.register
def _(value: ReportFile) -> Any:
    return value.rendered() | {"run": value.run_id, "report_type": value.recipe.report_type}


@plain.register
def _(value: Endpoint) -> Any:
    return value.rendered() | {"connect": value.connect, "secrets": [asdict(secret) for secret in value.secrets]}


@plain.register
def _(value: Delivery) -> Any:
    return {
        "event": value.event.id,
        "type": value.event.type,
        "endpoint": value.endpoint.id,
        "url": value.endpoint.url,
        "status": value.status,
        "tries": value.tries,
    }


@plain.register
def _(value: Event) -> Any:
    return {
        "id": value.id,
        "type": value.type,
        "created": value.created,
        "about": value.content["object"].get("id"),
        "pending_webhooks": value.pending_webhooks,
    }


@plain.register
def _(value: ApiKey) -> Any:
    return {
        "secret": value.secret,
        "account": value.account.name,
        "permissions": sorted(value.permissions),
        "revoked": value.revoked,
    }


@plain.register
def _(value: ConnectedAccount | PayoutObject) -> Any:
    return value.rendered()


@plain.register
def _(value: RestatedWindow) -> Any:
    return asdict(value)


@plain.register
def _(value: CallRecord) -> Any:
    return asdict(value)


@plain.register
def _(value: Account) -> Any:
    deliveries = [delivery for event in value.events for delivery in event.deliveries]
    return {
        "name": value.name,
        "id": value.id,
        "livemode": value.livemode,
        "keys": [plain(key) for key in value.keys],
        "report_types": [plain(kind) for kind in value.report_types.values()],
        "connected": [plain(connected) for connected in list(value.connected)[-SHOWN:]],
        "restatements": [plain(window) for window in value.restatements],
        "endpoints": [plain(endpoint) for endpoint in value.endpoints.values()],
        "counts": {
            "runs": len(value.runs),
            "files": len(value.files),
            "events": len(value.events),
            "deliveries": len(deliveries),
        },
        "runs": [plain(run) for run in list(value.runs)[-SHOWN:]],
        "files": [plain(file) for file in list(value.files.values())[-SHOWN:]],
        "events": [plain(event) for event in list(value.events)[-SHOWN:]],
        "deliveries": [plain(delivery) for delivery in deliveries[-SHOWN:]],
    }


def state_of(world: World, account: str | None) -> dict[str, Any]:
    """Everything, of one account or of all."""
    chosen = list(world.accounts.values()) if account is None else [world.account(account)]
    return {
        "now": world.clock.now(),
        "clock_stopped": world.clock.stopped,
        "base_url": world.base_url,
        "settings": asdict(world.settings),
        "accounts": [plain(item) for item in chosen],
        "faults": [plain(rule) for rule in world.faults.rules],
        "calls_by_route": dict(world.journal.counts),
        "creates": [plain(record) for record in world.journal.creates],
        "calls": [plain(record) for record in list(world.journal.calls)[-SHOWN:]],
    }
