"""Keep each event of Stripe exactly once: verify, judge, insert-or-nothing, and answer only after the commit.

Deliveries that arrive while a commit is under way are committed together, in one statement (measured: twice to six
times as many a second as one by one). The table of events is the inbox: no job is made, one NOTIFY per group.
"""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import orjson
import structlog

from app import tracing
from app.db.engine import DATABASE_TROUBLE, make_engine, raw_connection
from app.errors import TallyhookError
from app.metrics import Metrics
from app.queue import CHANNEL
from app.settings import Account, Settings
from app.stripe_signatures import fingerprint, verify
from app.vocabulary import EventStatus, Lane

log = structlog.get_logger()

# The event types that mean something to us; `handlers.py` says what (a test keeps the two equal).
USED_TYPES = frozenset(
    {"reporting.report_type.updated", "reporting.report_run.succeeded", "reporting.report_run.failed"}
)

# One commit in flight while the next group fills.
WRITERS = 2
GROUP_LIMIT = 200
# More than this waiting means that the database does not follow: 503, and Stripe delivers again.
QUEUE_LIMIT = 2000
# Stripe must have its answer within 5 s when the database is away (contract §4).
ANSWER_SECONDS = 4.5
# After that nobody waits for the commit any more: a connection that does not answer by then is given up.
TRANSACTION_SECONDS = 5.0


class Unverified(TallyhookError):
    """The delivery is not to be believed, or no event: nothing is kept. The message is the reason."""


class Unavailable(TallyhookError):
    """The event could not be committed: Stripe should deliver it again."""


@dataclass(frozen=True, slots=True)
class IncomingEvent:
    """An event as it is kept; `payload` is the signed text, or None for types that we do not use."""

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


def read_event(body: bytes, signature: str, account: Account, *, now: float) -> IncomingEvent:
    """The event in a delivery, verified and judged. Raises `Unverified`."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise Unverified("not_utf8") from error
    secrets = tuple(secret.get_secret_value() for secret in account.webhook_secrets)
    secret = verify(text, signature, secrets, now=now)
    if secret is None:
        raise Unverified("bad_signature")
    try:
        event = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Unverified("not_json") from error
    return _judge(event, text, account, signed_with=fingerprint(secret))


def _judge(event: object, text: str, account: Account, *, signed_with: str) -> IncomingEvent:
    if not isinstance(event, dict) or event.get("object") not in ("event", "v2.core.event"):
        raise Unverified("not_an_event")
    if not _is_name(event.get("id")) or not _is_name(event.get("type")):
        raise Unverified("no_id_or_type")
    reason = _why_ignored(event, account)
    used = event["type"] in USED_TYPES and event["object"] == "event"
    return IncomingEvent(
        account=account.slug,
        stripe_event_id=event["id"],
        type=event["type"],
        object_id=_object_id(event),
        livemode=event.get("livemode") if isinstance(event.get("livemode"), bool) else None,
        created=_created(event.get("created")),
        payload=text if used else None,
        payload_sha256=hashlib.sha256(text.encode()).hexdigest(),
        status=EventStatus.PENDING if reason is None else EventStatus.IGNORED,
        reason=reason,
        signed_with=signed_with,
        traceparent=tracing.traceparent(),
    )


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 255 and value.isprintable()


def _why_ignored(event: Mapping[str, Any], account: Account) -> str | None:
    if event["object"] == "v2.core.event":
        return "thin_event"
    if event["type"] not in USED_TYPES:
        return "unused_type"
    if event.get("account") is not None or event.get("context") is not None:
        return "connected_account"
    if account.livemode is not None and event.get("livemode") is (not account.livemode):
        return "wrong_mode"
    return None


def _object_id(event: Mapping[str, Any]) -> str | None:
    data = event.get("data")
    found = data.get("object") if isinstance(data, dict) else None
    name = found.get("id") if isinstance(found, dict) else None
    return name if event["type"] in USED_TYPES and _is_name(name) else None


def _created(value: object) -> datetime | None:
    # orjson reads JSON's own numbers only; years beyond 9999 are no date, and no reason to refuse an event.
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 253_402_300_800:
        return None
    return datetime.fromtimestamp(value, UTC)


# List parameters are sent binary (%b): as text, psycopg would escape every quote in Python, and lose the gain.
_KEEP = """
with kept as (
    insert into events (account, stripe_event_id, type, object_id, livemode, stripe_created_at, payload,
        payload_sha256, status, reason, signed_with, traceparent)
    select * from unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::bool[], %b::timestamptz[], %b::text[],
        %b::text[], %b::text[], %b::text[], %b::text[], %b::text[])
    on conflict (account, stripe_event_id) do nothing returning status
), notified as (
    select pg_notify(%b, %b) from kept where status = 'pending' limit 1
)
select (select count(*) from kept), (select count(*) from notified)
"""
# Only what was never completed, and without waiting: a worker that has an event locked is handling it just now.
_HANDLE_AGAIN = """
with again as (
    update events set due_at = now(), status = 'pending', tries = 0
    from unnest(%b::text[], %b::text[]) as given(account, stripe_event_id) cross join lateral (
        select id from events as known
        where known.account = given.account and known.stripe_event_id = given.stripe_event_id
          and known.status in ('pending', 'failed') for update skip locked
    ) as not_completed
    where events.id = not_completed.id returning 1
)
select pg_notify(%b, %b) from again limit 1
"""


class Intake:
    """Takes deliveries from many requests at once and commits them in groups."""

    def __init__(self, url: str, settings: Settings, metrics: Metrics | None = None) -> None:
        self._metrics = metrics or Metrics()
        self._accounts = settings.accounts
        self._engine = make_engine(url, pool_size=WRITERS, transaction_seconds=TRANSACTION_SECONDS, autocommit=True)
        self._waiting: asyncio.Queue[tuple[IncomingEvent, asyncio.Future[None]]] = asyncio.Queue(QUEUE_LIMIT)
        self._writers: list[asyncio.Task[None]] = []
        self.refused: Counter[str] = Counter()  # deliveries that were not believed, by reason: a counter is all we keep

    async def __aenter__(self) -> Self:
        self._writers = [asyncio.create_task(self._write_groups()) for _ in range(WRITERS)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in self._writers:
            writer.cancel()
        await asyncio.gather(*self._writers, return_exceptions=True)
        await self._engine.dispose()

    def account(self, slug: str) -> Account | None:
        """The account of this name, if it has a signing secret."""
        account = self._accounts.get(slug)
        return account if account is not None and account.webhook_secrets else None

    async def accept(self, body: bytes, signature: str, account: Account) -> None:
        """Keep the event of this delivery; returns after the commit. Raises `Unverified`, `Unavailable`."""
        try:
            event = read_event(body, signature, account, now=time.time())
        except Unverified as error:
            self.refused[str(error)] += 1
            raise
        kept = asyncio.get_running_loop().create_future()
        try:
            self._waiting.put_nowait((event, kept))
            async with asyncio.timeout(ANSWER_SECONDS):
                await kept
        except (asyncio.QueueFull, TimeoutError) as error:
            raise Unavailable("the database does not answer") from error
        type_ = "other" if event.payload is None else event.type
        self._metrics.deliveries.labels(account.slug, type_, event.status.value).inc()

    async def _write_groups(self) -> None:
        writer = asyncio.current_task()
        # A connection that breaks just when its writer is cancelled shows as the database's trouble, and no more.
        while writer is not None and not writer.cancelling():
            group = [await self._waiting.get()]
            while len(group) < GROUP_LIMIT and not self._waiting.empty():
                group.append(self._waiting.get_nowait())
            outcome = await self._try_to_keep([event for event, _ in group])
            for _, kept in group:
                if not kept.done():
                    kept.set_result(None) if outcome is None else kept.set_exception(outcome)

    async def _try_to_keep(self, events: list[IncomingEvent]) -> Unavailable | None:
        try:
            await self._keep(events)
        except DATABASE_TROUBLE as error:
            log.warning("intake.database_away", error=type(error).__name__, events=len(events))
        except Exception:
            # A group's writer serves all later ones too: it outlives whatever one group does to it.
            log.exception("intake.crashed", events=len(events))
        else:
            return None
        return Unavailable("the database does not answer")

    async def _keep(self, events: list[IncomingEvent]) -> None:
        # Unique and in one order everywhere: two groups that share events cannot wait for each other in a circle.
        unique = {(event.account, event.stripe_event_id): event for event in events}
        rows = [_as_row(unique[key]) for key in sorted(unique)]
        # Each statement is a transaction of its own: what was kept is kept, and to handle it again can be asked again.
        async with self._engine.connect() as connection:
            raw = await raw_connection(connection)
            columns = [list(column) for column in zip(*rows, strict=True)]
            cursor = await raw.execute(_KEEP, (*columns, CHANNEL, Lane.INBOX.value))
            new, _ = await cursor.fetchone()
            if new < len(rows):
                await raw.execute(_HANDLE_AGAIN, (*columns[:2], CHANNEL, Lane.INBOX.value))
        # One line per commit: one per event would cost as much as keeping it.
        log.info("events.kept", event_ids=columns[1], new=new)


def _as_row(event: IncomingEvent) -> tuple[Any, ...]:
    return (
        event.account, event.stripe_event_id, event.type, event.object_id, event.livemode, event.created,
        event.payload, event.payload_sha256, event.status.value, event.reason, event.signed_with, event.traceparent,
    )  # fmt: skip
