"""Checks that a target can work before it is saved; each problem says what to do about it."""

import ipaddress
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from app.errors import BadInput, FieldError
from app.settings import Settings
from app.targets import guard
from app.vocabulary import MessageType, TargetKind

_LOCAL_NAMES = ("localhost", "localhost.localdomain")


@dataclass(frozen=True, slots=True)
class NewTarget:
    """A target to save. `rule_ids` and `accounts`: None means all."""

    name: str
    kind: TargetKind
    url: str | None
    recipients: Sequence[str]
    message_types: Sequence[str]
    rule_ids: Sequence[uuid.UUID] | None
    accounts: Sequence[str] | None
    enabled: bool = True


def check(new: NewTarget, settings: Settings) -> None:
    """Whether a target can work. Raises BadInput."""
    problems = [*_CHECKS[new.kind](new, settings), *_unknown_types(new), *_unknown_accounts(new, settings)]
    if problems:
        raise BadInput(*problems)


def _webhook_problems(new: NewTarget, settings: Settings) -> list[FieldError]:
    problems = [FieldError("/recipients", "are for e-mail")] if new.recipients else []
    if not settings.signing_key:
        problems.append(FieldError("/kind", "webhooks are signed: set TALLYHOOK_SIGNING_KEY first"))
    return [*problems, *url_problems(new.url, settings)]


def url_problems(url: str | None, settings: Settings) -> list[FieldError]:
    """What is wrong with the URL of a webhook, as far as can be told without resolving its name."""
    try:
        parts = urlsplit(url or "")
        host, port = parts.hostname, parts.port
    except ValueError:
        return [FieldError("/url", "cannot be read: write it like https://host/path")]
    if parts.scheme not in ("http", "https") or not host or port == 0 or re.search(r"[\s\x00-\x1f]", url or ""):
        return [FieldError("/url", "must be https://host/path")]
    if parts.username or parts.password:
        return [FieldError("/url", "must not contain a user or password: targets are signed instead")]
    problems = []
    address = _address_in(host)
    opened = address is not None and guard.is_inside(address, settings.target_networks)
    is_local = host.rstrip(".").lower() in _LOCAL_NAMES and not settings.target_networks
    if settings.target_proxy is None and (
        is_local or (address is not None and not opened and not guard.is_public(address))
    ):
        problems.append(FieldError("/url", f"{host} is not a public address: see TALLYHOOK_TARGET_NETWORKS"))
    elif parts.scheme == "http" and not settings.target_networks:
        problems.append(FieldError("/url", "must be https: http is for networks that TALLYHOOK_TARGET_NETWORKS opens"))
    return problems


def _address_in(host: str) -> guard.Address | None:
    """The address that a host spells, including the short forms that libc accepts (127.1, 2130706433, 0x7f.1)."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    parts = host.rstrip(".").split(".")
    if len(parts) > 4 or not all(re.fullmatch(r"0[xX][0-9a-fA-F]+|[0-9]+", part) for part in parts):
        return None
    try:
        numbers = [int(part, 16 if part[:2].lower() == "0x" else 8 if part[0] == "0" and part != "0" else 10)
                   for part in parts]  # fmt: skip
    except ValueError:
        return None
    *heads, last = numbers
    value = sum(head << (24 - 8 * place) for place, head in enumerate(heads)) + last
    return ipaddress.IPv4Address(value) if value < 2**32 else None


def _email_problems(new: NewTarget, settings: Settings) -> list[FieldError]:
    problems = []
    if settings.smtp_url is None or settings.mail_from is None:
        problems.append(FieldError("/kind", "e-mail needs TALLYHOOK_SMTP_URL and TALLYHOOK_MAIL_FROM"))
    if new.url is not None:
        problems.append(FieldError("/url", "e-mail needs `recipients` instead"))
    if not new.recipients:
        problems.append(FieldError("/recipients", "name at least one address"))
    for index, recipient in enumerate(new.recipients):
        if not re.fullmatch(r"[^\s@<>,;\"]+@[^\s@<>,;\"]+", recipient):
            problems.append(FieldError(f"/recipients/{index}", "must be an address like books@example.com"))
    return problems


def _slack_problems(new: NewTarget, settings: Settings) -> list[FieldError]:
    problems = [FieldError("/recipients", "are for e-mail")] if new.recipients else []
    known = sorted(settings.slack_urls)
    if new.url not in settings.slack_urls:
        names = ", ".join(known) if known else "none yet"
        problems.append(FieldError("/url", f"must be the name of one of TALLYHOOK_SLACK_URLS ({names})"))
    return problems


def _folder_problems(new: NewTarget, settings: Settings) -> list[FieldError]:
    problems = [FieldError("/recipients", "are for e-mail")] if new.recipients else []
    url = (new.url or "").rstrip("/")
    allowed = [folder.rstrip("/") for folder in settings.target_folders]
    if ".." in url.split("/") or not any(url == folder or url.startswith(f"{folder}/") for folder in allowed):
        shown = ", ".join(allowed) if allowed else "none: set it first"
        problems.append(FieldError("/url", f"must be below one of TALLYHOOK_TARGET_FOLDERS ({shown})"))
    return problems


_CHECKS = {
    TargetKind.WEBHOOK: _webhook_problems,
    TargetKind.EMAIL: _email_problems,
    TargetKind.SLACK: _slack_problems,
    TargetKind.FOLDER: _folder_problems,
}


def _unknown_types(new: NewTarget) -> list[FieldError]:
    known = {"*", *(type_.value for type_ in MessageType)}
    return [
        FieldError(f"/message_types/{index}", f"{name!r} is not a message type: see GET /v1/message-types")
        for index, name in enumerate(new.message_types)
        if name not in known
    ]


def _unknown_accounts(new: NewTarget, settings: Settings) -> list[FieldError]:
    return [
        FieldError(f"/accounts/{index}", f"{slug!r} is not configured")
        for index, slug in enumerate(new.accounts or ())
        if slug not in settings.accounts
    ]
