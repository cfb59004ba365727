"""Sets up logging for a process: one line per record on stderr, from every library, with all secrets redacted.

The style is one wide event per finished step: `log.info("run.stored", run_id=run.id, bytes=size)`.
"""

import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from json import dumps
from typing import Any
from urllib.parse import quote

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor

from app.settings.others import SHORTEST_SECRET, secrets_of_others

REDACTED = "[redacted]"

_SECRET_FIELDS = frozenset({"authorization", "proxy-authorization", "api_key", "password"})
# The first group is kept, to show what was redacted.
_SECRET_SHAPES = [
    # Stripe itself shows keys as sk_live_****1234 in its messages.
    re.compile(r"()(?:sk|rk)_(?:live|test|org)_[\w*]+"),
    re.compile(r"()whsec_[\w+/=-]+"),
    re.compile(
        r"""(authorization(?:["']\s*,|["']?\s*[:=])\s*(?:b?["'])?(?>(?:(?:bearer|basic)\s+)?))"""
        r"""(?!\[redacted])[^\s"',;}\]]+""",
        re.IGNORECASE,
    ),
    # Anything shorter than a token is an English word: "basic authentication".
    re.compile(r"(\b(?:bearer|basic)\s+)[\w.~+/=:-]{16,}", re.IGNORECASE),
    re.compile(r"(\w://[^\s:/?#@]*:)[^\s/?#]+(?=@)"),
    re.compile(r"(\bpassword=)[^\s&;]+", re.IGNORECASE),
    # PostgreSQL shows the beginning of every value of a row that it refuses.
    re.compile(r"(\bFailing row contains )\(.*?\)\.(?=\n|$)", re.DOTALL),
]
# Whatever a pattern finds contains one of these, in any case. Most texts contain none, and skip the patterns.
_SECRET_HINTS = ("sk_", "rk_", "whsec_", "authorization", "bearer", "basic", "://", "password=", "failing row")
# What readers look for first.
_FIRST = ("timestamp", "level", "event")
# At INFO they repeat what our lines say, once per request; at DEBUG SQLAlchemy shows whole rows.
_TALKATIVE = ("httpx", "httpcore", "stripe", "sqlalchemy.engine")


class _KnownSecrets:
    """The values that must never be logged: one set per process, like logging itself."""

    values: frozenset[str] = frozenset()
    pattern: re.Pattern[str] | None = None


def redact(text: str) -> str:
    """The text without anything that is, or looks like, a secret: for logs and stored messages."""
    if not _may_hold_secrets(text):
        return text
    if _KnownSecrets.pattern is not None:
        text = _KnownSecrets.pattern.sub(REDACTED, text)
    for shape in _SECRET_SHAPES:
        text = shape.sub(rf"\1{REDACTED}", text)
    return text


def _may_hold_secrets(text: str) -> bool:
    if _KnownSecrets.pattern is not None and _KnownSecrets.pattern.search(text):
        return True
    # Beyond ASCII, patterns that ignore case match more than the lower-cased text shows.
    lowered = text.lower()
    return not text.isascii() or any(hint in lowered for hint in _SECRET_HINTS)


def configure_logs(*, json: bool | None = None, secrets: Iterable[str] = ()) -> None:
    """Send every record, structlog's and the standard library's, to stderr in one form; may be called again.

    `json` defaults to whether stderr is not a terminal. `secrets`, and those that other libraries read from
    the environment, are redacted wherever they appear, in any encoding.
    """
    _know([*secrets, *secrets_of_others(os.environ)])
    as_json = not sys.stderr.isatty() if json is None else json
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*before, ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(ProcessorFormatter(processors=_last_steps(as_json), foreign_pre_chain=before))
    _hand_everything_to(handler)


def _last_steps(as_json: bool) -> list[Processor]:
    return [
        ProcessorFormatter.remove_processors_meta,
        structlog.processors.StackInfoRenderer(),
        # Rendered without local variables, and before the redaction so that it is redacted too.
        structlog.processors.format_exc_info,
        _redact_fields,
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]


def _hand_everything_to(handler: logging.Handler) -> None:
    # When a record cannot be written, logging would print it raw, secrets included.
    logging.raiseExceptions = False
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)


def know_too(secrets: Iterable[str]) -> None:
    """Redact these from now on as well: accounts are added while a process runs."""
    if not _KnownSecrets.values.issuperset(new := list(secrets)):
        _know([*_KnownSecrets.values, *new])


def _know(secrets: Iterable[str]) -> None:
    _KnownSecrets.values = frozenset(secrets)
    # Values with a secret's shape are redacted by shape: else a list of thousands of keys is searched for each text.
    shapeless = {secret for secret in _KnownSecrets.values if len(secret) >= SHORTEST_SECRET and not _has_shape(secret)}
    spellings = {spelling for secret in shapeless for spelling in _spellings(secret)}
    longest_first = sorted(spellings, key=len, reverse=True)
    _KnownSecrets.pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def _has_shape(secret: str) -> bool:
    return _spellings(secret) == {secret} and any(shape.fullmatch(secret) for shape in _SECRET_SHAPES[:2])


def _spellings(secret: str) -> set[str]:
    """The secret as such, and as it appears in a URL, in JSON and in a Python literal."""
    return {secret, quote(secret, safe=""), dumps(secret)[1:-1], repr(secret)[1:-1]}


def _redact_fields(_logger: Any, _method: str, fields: EventDict) -> EventDict:
    ordered = {name: fields[name] for name in _FIRST if name in fields} | dict(fields)
    texts: list[str] = []

    def note(text: str) -> str:
        texts.append(text)
        return text

    # One search through all texts of a line: nearly all are clean, and searching each text took a third of the time.
    cleaned = _cleaned_fields(ordered, note)
    return _cleaned_fields(ordered, redact) if _may_hold_secrets("\n".join(texts)) else cleaned


def _cleaned_fields(fields: Mapping[Any, object], clean: Callable[[str], str]) -> dict[str, Any]:
    return {clean(str(name)): _cleaned(value, clean, name=str(name)) for name, value in fields.items()}


def _cleaned(value: object, clean: Callable[[str], str], *, name: str = "") -> object:
    """The value as JSON can carry it; other types become text first, so that every text in it is cleaned."""
    if name.lower() in _SECRET_FIELDS:
        return REDACTED
    match value:
        case str():
            return clean(str(value))
        case None | bool() | int() | float():
            return value
        case Mapping():
            return _cleaned_fields(value, clean)
        case list() | tuple() | set() | frozenset():
            return [_cleaned(item, clean) for item in value]
        case _:
            return clean(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))
