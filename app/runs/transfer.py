"""Transfers the bytes of one file, resuming where an earlier try stopped, and checks them against the announcement."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import KeyRefused, Mismatch, NotNow, WrongPart
from app.files import FileFacts, FileMetadata, FileWriter
from app.queue.claims import Claim, lock_claim
from app.resources import Resources
from app.stripe_api.objects import StripeFile
from app.vocabulary import CallKind, RunState

log = structlog.get_logger()

# After a break, a connection that brought at least this much is resumed at once; others wait their turn.
WORTH_GOING_ON_BYTES = 1024 * 1024
# A file that brings fewer bytes than this in this many seconds is too slow to keep its slot.
LEAST_RATE_BYTES = 64 * 1024
LEAST_RATE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class NamedRun:
    """What a file is named after; the interval is in UTC, its days are local to `timezone` (None: UTC)."""

    run_id: uuid.UUID
    report_type: str
    account: str
    connected_account: str | None
    interval_start: datetime | None
    interval_end: datetime | None
    timezone: str | None
    parameters: Mapping[str, Any]
    revision: int


@dataclass(frozen=True, slots=True)
class DownloadClaim(Claim):
    """A ready run and its file at Stripe; `partial_id` names what an earlier try has left of it here."""

    rule_id: uuid.UUID | None
    report_type: str
    connected_account: str | None
    interval_start: datetime | None
    interval_end: datetime | None
    timezone: str | None
    parameters: dict[str, Any]
    window_key: str | None
    revision: int
    recheck: bool
    planned_at: datetime
    stripe_file_id: str
    file_url: str | None
    file_size: int | None
    file_name: str | None
    file_expires_at: datetime | None
    file_type: str | None
    partial_id: uuid.UUID | None

    @property
    def file(self) -> StripeFile:
        """The file, as Stripe announced it."""
        return StripeFile(
            self.stripe_file_id, self.file_url, self.file_size, self.file_name, self.file_expires_at, self.file_type
        )

    @property
    def named(self) -> NamedRun:
        """What the file is named after."""
        return NamedRun(**{name: getattr(self, name) for name in NamedRun.__slots__})


@asynccontextmanager
async def fenced(res: Resources, claim: DownloadClaim) -> AsyncIterator[AsyncSession]:
    """A transaction in which the run is guaranteed to be still ours. Raises `Overtaken`."""
    async with res.sessions.begin() as session:
        await lock_claim(session, claim, RunState.READY)
        yield session


async def transfer(res: Resources, claim: DownloadClaim) -> tuple[FileWriter, FileFacts]:
    """Everything but the last step: afterwards the file is complete and has the right size, but is not visible yet.

    What arrived before an error is kept, unless it does not match Stripe's file. Raises Mismatch, and what the
    Stripe client raises.
    """
    kind = kind_of(claim.file)
    name = file_name(claim.named, kind)
    metadata = FileMetadata(
        claim.run_id, claim.rule_id, claim.account, claim.report_type, claim.stripe_file_id, name, kind.media_type
    )
    writer = res.files.writer(metadata, lambda: fenced(res, claim))
    try:
        return writer, await _all_of_it(res, claim, writer)
    except BaseException:
        await writer.abort()
        raise


async def _all_of_it(res: Resources, claim: DownloadClaim, writer: FileWriter) -> FileFacts:
    if claim.partial_id is not None:
        await writer.resume(res.sessions, claim.partial_id)
    try:
        await _fetch(res, claim, writer)
    except (NotNow, KeyRefused) as error:
        if not isinstance(error, WrongPart):
            await writer.checkpoint()
        raise
    return await writer.facts()


async def _fetch(res: Resources, claim: DownloadClaim, writer: FileWriter) -> None:
    furthest = writer.position
    # A writer that died after the last piece has left nothing to fetch.
    while writer.position != claim.file.size or claim.file.size == 0:
        try:
            await _fetch_rest(res, claim, writer)
        except NotNow as error:
            gained, furthest = writer.position - furthest, max(furthest, writer.position)
            if gained < WORTH_GOING_ON_BYTES or not await _may_call_again(res, claim):
                raise
            log.info("run.download_goes_on", at=writer.position, error=str(error))
            await asyncio.sleep(res.backoff.seconds(0, at_least=error.after))
        else:
            return


async def _fetch_rest(res: Resources, claim: DownloadClaim, writer: FileWriter) -> None:
    async with res.stripe.open_file(claim.account, claim.file, start=writer.position) as stream:
        if stream.start != writer.position:
            await writer.restart()  # Stripe sends the whole file instead of the rest
        expected = stream.size if claim.file.size is None else claim.file.size
        rate = _LeastRate(asyncio.get_running_loop().time())
        async for piece in stream.pieces:
            rate.check(len(piece), asyncio.get_running_loop().time())
            if expected is not None and writer.position + len(piece) > expected:
                raise Mismatch(f"received more than the announced {expected} bytes")
            await writer.write(piece)
    if expected is not None and writer.position != expected:
        raise Mismatch(f"received {writer.position} bytes, but {expected} were announced")


@dataclass(slots=True)
class _LeastRate:
    """Watches the speed: a file that is too slow gives its slot to others, and is resumed later."""

    began: float
    got: int = 0

    def check(self, size: int, now: float) -> None:
        """Count received bytes. Raises NotNow when there were too few for too long."""
        self.got += size
        if now - self.began < LEAST_RATE_SECONDS:
            return
        if self.got < LEAST_RATE_BYTES:
            raise NotNow(f"the download is too slow: {self.got} bytes in {now - self.began:.0f} s; it will be resumed")
        self.began, self.got = now, 0


async def _may_call_again(res: Resources, claim: DownloadClaim) -> bool:
    async with res.sessions.begin() as session:
        return bool(await res.limiter.take(session, claim.account, CallKind.FILES, wanted=1))


@dataclass(frozen=True, slots=True)
class FileKind:
    """The kind of a file: its extension and media type."""

    ending: str
    media_type: str


_KINDS = {"csv": "text/csv", "zip": "application/zip", "json": "application/json", "txt": "text/plain"}


def kind_of(file: StripeFile) -> FileKind:
    """The kind that Stripe states; otherwise by the extension of its name at Stripe, and CSV by default."""
    ending = (file.filename or "").rpartition(".")[2].lower()
    word = (file.type or (ending if ending in _KINDS else "csv")).lower()
    safe = re.sub(r"[^a-z0-9]", "", word)[:8] or "bin"
    return FileKind(safe, _KINDS.get(word, "application/octet-stream"))


def file_name(run: NamedRun, kind: FileKind) -> str:
    """`<type>_<account>_<first day>_<last day>_<zone>_<what it is filtered by>_<id>.<ending>`.

    Readable, free of characters that need quoting, and unique: the days are local and both inside the window, as in
    Stripe's Dashboard; a bound that is not a midnight is given with its time; the end of the run's id makes the name
    unique.
    """
    parts = [run.report_type, run.account, run.connected_account, *_window(run)]
    parts += [run.parameters.get(name) for name in _TOLD_APART_BY]
    parts.append(f"r{run.revision}" if run.revision > 1 else None)
    stem = re.sub(r"[^A-Za-z0-9._+-]+", "-", "_".join(str(part) for part in parts if part))
    return f"{stem[:_LONGEST_STEM]}_{run.run_id.hex[-_ID_DIGITS:]}.{kind.ending}"


# Parameters that filter the rows of a report; the others are about columns and formatting.
_TOLD_APART_BY = ("payout", "reporting_category", "fee_category", "currency")
# The random end of a UUID: with everything before it equal, two runs collide once in 10^14.
_ID_DIGITS = 12
# File systems allow 255 bytes, and an object store's key contains the file's id as well.
_LONGEST_STEM = 180


def _window(run: NamedRun) -> list[str]:
    start, end, zone = run.interval_start, run.interval_end, ZoneInfo(run.timezone or "UTC")
    bounds = [_day_or_time(start, zone, last=False)] if start is not None else []
    bounds += [_day_or_time(end, zone, last=True)] if end is not None else []
    return [*bounds, zone.key] if bounds else []


def _day_or_time(bound: datetime, zone: ZoneInfo, *, last: bool) -> str:
    """The day that begins, or with `last` ends, at the bound; with the time if it lies within a day."""
    before, after = (bound - timedelta(microseconds=1)).astimezone(zone), bound.astimezone(zone)
    if before.date() == after.date():
        return f"{after:%Y-%m-%dT%H%M%S}"
    return f"{before if last else after:%Y-%m-%d}"
