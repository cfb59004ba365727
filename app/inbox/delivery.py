"""Reads a delivery: verifies it against the account's secrets, and decides whether it is for us."""

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from app.errors import RejectedDelivery
from app.observability import tracing
from app.settings import Account
from app.stripe_api.signatures import fingerprint, header_fault, verify
from app.vocabulary import ACCOUNT_EVENTS, EventStatus, EventType

_USED_TYPES = frozenset(EventType)
_OF_CONNECTED_ONLY = frozenset(ACCOUNT_EVENTS)


@dataclass(frozen=True, slots=True)
class IncomingEvent:
    """An event as it is stored.

    `payload` is the signed text; None for types that we do not use; for a hint, an event that only says where to look
    (docs/decisions/0018), no more than what it is about.
    """

    account: str
    stripe_event_id: str
    type: str
    object_id: str | None
    livemode: bool | None
    created: datetime | None
    payload: str | None
    payload_sha256: str
    status: EventStatus
    reason: str | None
    signed_with: str
    traceparent: str | None


class Members:
    """The configured accounts of a platform or an organization: their events arrive at its endpoint and name them."""

    def __init__(self, accounts: Iterable[Account]) -> None:
        self._accounts: dict[tuple[str, str], list[Account]] = {}
        for account in accounts:
            for field, named in (("account", account.stripe_account), ("context", account.stripe_context)):
                if named is not None:
                    self._accounts.setdefault((field, named), []).append(account)

    def of(self, event: Mapping[str, Any]) -> Account | None:
        """The account that is named in the event, in its mode if it has that; None if none is configured."""
        found = [
            account
            for field in ("account", "context")
            if isinstance(named := event.get(field), str)
            for account in self._accounts.get((field, named), ())
        ]
        return next(
            (account for account in found if account.livemode is event.get("livemode")), next(iter(found), None)
        )


def check_header(signature: str, *, now: float) -> None:
    """Refuse what can be refused before the body is read. Raises RejectedDelivery."""
    fault = header_fault(signature, now=now)
    if fault is not None:
        raise RejectedDelivery(fault)


def read_event(
    body: bytes, signature: str, account: Account, members: Members | None = None, *, now: float
) -> IncomingEvent:
    """The event in a delivery to this account's path, verified. Raises RejectedDelivery."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        check_header(signature, now=now)
        raise RejectedDelivery("not_utf8") from error
    secret = verify(text, signature, _secrets_of(account), now=now)
    if secret is None:
        check_header(signature, now=now)
        raise RejectedDelivery("bad_signature")
    try:
        event = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RejectedDelivery("not_json") from error
    return _judge(event, text, account, members, secret=secret)


def _judge(event: object, text: str, account: Account, members: Members | None, *, secret: str) -> IncomingEvent:
    if not isinstance(event, dict) or event.get("object") not in ("event", "v2.core.event"):
        raise RejectedDelivery("not_an_event")
    if not _is_name(event.get("id")) or not _is_name(event.get("type")):
        raise RejectedDelivery("no_id_or_type")
    of_another = _named(event) is not None
    member = members.of(event) if members is not None and of_another else None
    hint = of_another and (member is None or secret not in _secrets_of(member))
    account = member or account
    reason = _why_ignored(event, account, of_connected=of_another and member is None)
    used = reason not in ("thin_event", "unused_type")
    payload = text if used else None
    return IncomingEvent(
        account=account.slug,
        stripe_event_id=event["id"],
        type=event["type"],
        object_id=None if hint else _object_id(event),
        livemode=event.get("livemode") if isinstance(event.get("livemode"), bool) else None,
        created=_created(event.get("created")),
        payload=_hint(event) if used and hint else payload,
        payload_sha256=hashlib.sha256(text.encode()).hexdigest(),
        status=EventStatus.PENDING if reason is None else EventStatus.IGNORED,
        reason=reason,
        signed_with=fingerprint(secret),
        traceparent=tracing.traceparent(),
    )


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 255 and value.isprintable()


def _secrets_of(account: Account) -> tuple[str, ...]:
    return tuple(secret.get_secret_value() for secret in account.webhook_secrets)


def _named(event: Mapping[str, Any]) -> object:
    """The account that the event names, if it is not the endpoint's own."""
    return event.get("account") if event.get("account") is not None else event.get("context")


def _hint(event: Mapping[str, Any]) -> str:
    """Where to look: what the event claims is not kept, so that all one can do is ask Stripe."""
    about = {"id": event["id"], "type": event["type"], "hint": True, "account": _named(event)}
    return orjson.dumps({**about, "data": {"object": {"id": _object_id(event)}}}).decode()


def _why_ignored(event: Mapping[str, Any], account: Account, *, of_connected: bool) -> str | None:
    if event["object"] == "v2.core.event":
        return "thin_event"
    if event["type"] not in _USED_TYPES or (event["type"] in _OF_CONNECTED_ONLY and not of_connected):
        return "unused_type"
    # Its data is not the platform's; and an organization's context says whose it is, but not who connected it.
    unclear = event["type"] == EventType.REPORT_TYPE_UPDATED or not _is_name(event.get("account"))
    if of_connected and unclear:
        return "connected_account"
    if account.livemode is not None and event.get("livemode") is (not account.livemode):
        return "wrong_mode"
    return None


def _object_id(event: Mapping[str, Any]) -> str | None:
    data = event.get("data")
    found = data.get("object") if isinstance(data, dict) else None
    name = found.get("id") if isinstance(found, dict) else None
    return name if event["type"] in _USED_TYPES and _is_name(name) else None


def _created(value: object) -> datetime | None:
    # Thin events write it as text. A year beyond 9999 is not a date, but no reason to refuse an event.
    if isinstance(value, str):
        with suppress(ValueError, OverflowError):
            created = datetime.fromisoformat(value)
            return None if created.tzinfo is None else created.astimezone(UTC)
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 253_402_300_800:
        return None
    return datetime.fromtimestamp(value, UTC)
