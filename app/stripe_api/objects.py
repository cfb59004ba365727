"""Stripe's objects as small frozen values, read tolerantly: event bodies may be years old, or newer than this code.

The same functions read an API answer and the object inside an event.
"""

import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from app.errors import Malformed


@dataclass(frozen=True, slots=True)
class ReportTypeInfo:
    """What a report type has data for: [available_start, available_end)."""

    id: str
    name: str | None
    version: int | None
    livemode: bool | None
    available_start: datetime
    available_end: datetime
    default_columns: list[str] | None
    updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class StripeFile:
    """A result file; `url` may be absent, and is never trusted (see `StripeClient.open_file`). `size` in bytes."""

    id: str
    url: str | None
    size: int | None
    filename: str | None
    expires_at: datetime | None
    type: str | None = None
    """Its type as Stripe names it: `csv`, or `zip` if the run requested `compress_file`."""


@dataclass(frozen=True, slots=True)
class StripeRun:
    """A `frr_…` object. `status` is pending, succeeded or failed; anything else is treated as pending."""

    id: str
    report_type: str
    parameters: dict[str, Any]
    created_at: datetime
    status: str
    error: str | None
    file: StripeFile | None


@dataclass(frozen=True, slots=True)
class ConnectedAccount:
    """An account that is connected to a platform; `name` is its public name, if any."""

    id: str
    created_at: datetime
    country: str | None
    name: str | None


@dataclass(frozen=True, slots=True)
class Payout:
    """A payout. Only automatic ones can be itemized, once `reconciliation` is `completed`; `arrives_on` is its date."""

    id: str
    created_at: datetime
    arrives_on: date
    automatic: bool
    reconciliation: str | None


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """Where Stripe delivers events to; `api_version` None means the account's default."""

    id: str
    url: str
    enabled: bool
    events: tuple[str, ...]
    api_version: str | None
    connect: bool = False  # it receives only events of connected accounts


@dataclass(frozen=True, slots=True)
class NewEndpoint:
    """A newly created endpoint: the only answer in which Stripe shows the signing secret."""

    endpoint: WebhookEndpoint
    secret: str = field(repr=False)


def report_type_from(value: dict[str, Any]) -> ReportTypeInfo:
    """Read a `reporting.report_type` object. Raises `Malformed`."""
    version = value.get("version")
    columns = value.get("default_columns")
    return ReportTypeInfo(
        id=_text(value, "id"),
        name=_optional_text(value, "name"),
        version=int(str(version)) if str(version).isdecimal() and len(str(version)) < 9 else None,
        livemode=value.get("livemode") if isinstance(value.get("livemode"), bool) else None,
        available_start=_time(value, "data_available_start"),
        available_end=_time(value, "data_available_end"),
        default_columns=[_kept(str(column)) for column in columns] if isinstance(columns, list) else None,
        updated_at=_optional_time(value, "updated"),
    )


def stripe_run_from(value: dict[str, Any]) -> StripeRun:
    """Read a `reporting.report_run` object. Raises `Malformed`."""
    parameters, result = value.get("parameters"), value.get("result")
    return StripeRun(
        id=_text(value, "id"),
        report_type=_text(value, "report_type"),
        parameters=_kept(parameters) if isinstance(parameters, dict) else {},
        created_at=_time(value, "created"),
        status=_text(value, "status"),
        error=_optional_text(value, "error"),
        file=_file_from(result) if isinstance(result, dict) else None,
    )


def connected_account_from(value: dict[str, Any]) -> ConnectedAccount:
    """Read an `account` object. Raises `Malformed`."""
    profile, settings = value.get("business_profile"), value.get("settings")
    dashboard = settings.get("dashboard") if isinstance(settings, dict) else None
    names = [
        _optional_text(profile, "name") if isinstance(profile, dict) else None,
        _optional_text(dashboard, "display_name") if isinstance(dashboard, dict) else None,
    ]
    return ConnectedAccount(
        id=_text(value, "id"),
        created_at=_time(value, "created"),
        country=_optional_text(value, "country"),
        name=next((name for name in names if name), None),
    )


def payout_from(value: dict[str, Any]) -> Payout:
    """Read a `payout` object. Raises `Malformed`."""
    automatic = value.get("automatic")
    if not isinstance(automatic, bool):
        raise Malformed("`automatic` is neither true nor false")
    return Payout(
        id=_text(value, "id"),
        created_at=_time(value, "created"),
        arrives_on=_time(value, "arrival_date").date(),
        automatic=automatic,
        reconciliation=_optional_text(value, "reconciliation_status"),
    )


def webhook_endpoint_from(value: dict[str, Any]) -> WebhookEndpoint:
    """Read a `webhook_endpoint` object. Raises `Malformed`."""
    events = value.get("enabled_events")
    return WebhookEndpoint(
        id=_text(value, "id"),
        url=_text(value, "url"),
        enabled=_text(value, "status") == "enabled",
        events=tuple(str(name) for name in events) if isinstance(events, list) else (),
        api_version=_optional_text(value, "api_version"),
        connect=_optional_text(value, "application") is not None,
    )


def new_endpoint_from(value: dict[str, Any]) -> NewEndpoint:
    """Read the answer to the creation of a `webhook_endpoint`. Raises `Malformed`."""
    return NewEndpoint(webhook_endpoint_from(value), _text(value, "secret"))


def _file_from(value: dict[str, Any]) -> StripeFile:
    size = value.get("size")
    return StripeFile(
        id=_text(value, "id"),
        url=_optional_text(value, "url"),
        size=size if isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**63 else None,
        filename=_optional_text(value, "filename"),
        expires_at=_optional_time(value, "expires_at"),
        type=_optional_text(value, "type"),
    )


def _text(value: dict[str, Any], name: str) -> str:
    found = _optional_text(value, name)
    if not found:
        raise Malformed(f"`{name}` is missing")
    return found


def _optional_text(value: dict[str, Any], name: str) -> str | None:
    found = value.get(name)
    return found if isinstance(found, str) and _can_be_kept(found) else None


_NOT_KEPT = re.compile("[\x00\ud800-\udfff]")


def _can_be_kept(text: str) -> bool:
    """Whether PostgreSQL can store the text: no NUL and no lone surrogate. Stripe sends neither."""
    return _NOT_KEPT.search(text) is None


def _kept(value: Any) -> Any:
    """The value without texts that PostgreSQL cannot store."""
    match value:
        case str():
            return value if _can_be_kept(value) else "".join(filter(_can_be_kept, value))
        case dict():
            return {_kept(name): _kept(inner) for name, inner in value.items()}
        case list():
            return [_kept(inner) for inner in value]
        case _:
            return value


def _time(value: dict[str, Any], name: str) -> datetime:
    found = _optional_time(value, name)
    if found is None:
        raise Malformed(f"`{name}` is not a time")
    return found


def _optional_time(value: dict[str, Any], name: str) -> datetime | None:
    found = value.get(name)
    if not isinstance(found, int) or isinstance(found, bool):
        return None
    try:
        return datetime.fromtimestamp(found, UTC)
    except (ValueError, OverflowError, OSError):
        return None
