"""Brings the bytes of one file over, from where an earlier try stopped; checked against what Stripe announced."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import KeyRefused, NotNow, WrongPart
from app.files import About, FileFacts, FileWriter
from app.queue.claims import Claim, lock_claim
from app.resources import Resources
from app.runs.file_names import file_name
from app.stripe_api.objects import StripeFile
from app.vocabulary import CallKind, RunState

log = structlog.get_logger()

# A connection that brought at least this much is worth going on with at once; one that did not waits its turn.
WORTH_GOING_ON_BYTES = 1024 * 1024


class Mismatch(Exception):
    """The download ended, and is not what `result.size` announced; or the answer was no file at all."""


@dataclass(frozen=True, slots=True)
class DownloadClaim(Claim):
    """A ready run and its file at Stripe."""

    file: StripeFile
    about: RowMapping  # what the file is named after; only in the step, where a failure is this run's alone


@asynccontextmanager
async def fenced(res: Resources, claim: DownloadClaim) -> AsyncIterator[AsyncSession]:
    """A transaction in which the run is certainly still ours to download. Raises `Overtaken`."""
    async with res.sessions.begin() as session:
        await lock_claim(session, claim, RunState.READY)
        yield session


async def transfer(res: Resources, claim: DownloadClaim) -> tuple[FileWriter, FileFacts]:
    """Everything but the end: the file is here, whole and of the right size, and nobody sees it yet.

    What came before trouble is kept, unless it does not fit to what Stripe has. Raises Mismatch and what the door
    raises.
    """
    run = claim.about
    about = About(claim.run_id, run["rule_id"], claim.account, run["report_type"], claim.file.id, file_name(run))
    writer = res.files.writer(about, lambda: fenced(res, claim))
    try:
        return writer, await _all_of_it(res, claim, writer)
    except BaseException:
        await writer.abort()
        raise


async def _all_of_it(res: Resources, claim: DownloadClaim, writer: FileWriter) -> FileFacts:
    if claim.about["partial_id"] is not None:
        await writer.go_on(res.sessions, claim.about["partial_id"])
    try:
        await _fetch(res, claim, writer)
    except (NotNow, KeyRefused) as trouble:
        if not isinstance(trouble, WrongPart):
            await writer.keep()
        raise
    return await writer.facts()


async def _fetch(res: Resources, claim: DownloadClaim, writer: FileWriter) -> None:
    furthest = writer.position
    # Whoever died between the last piece and the end has left nothing to ask for.
    while writer.position != claim.file.size or claim.file.size == 0:
        try:
            await _fetch_rest(res, claim, writer)
        except NotNow as trouble:
            gained, furthest = writer.position - furthest, max(furthest, writer.position)
            if gained < WORTH_GOING_ON_BYTES or not await _may_call_again(res, claim):
                raise
            log.info("run.download_goes_on", at=writer.position, error=str(trouble))
            await asyncio.sleep(res.backoff.seconds(0, at_least=trouble.after))
        else:
            return


async def _fetch_rest(res: Resources, claim: DownloadClaim, writer: FileWriter) -> None:
    async with res.stripe.open_file(claim.account, claim.file, start=writer.position) as stream:
        if stream.start != writer.position:
            await writer.begin_anew()  # the whole file comes, where its rest was asked for
        expected = stream.size if claim.file.size is None else claim.file.size
        async for piece in stream.pieces:
            if expected is not None and writer.position + len(piece) > expected:
                raise Mismatch(f"more than the {expected} bytes that were announced came")
            await writer.take(piece)
    if expected is not None and writer.position != expected:
        raise Mismatch(f"{writer.position} bytes came, {expected} were announced")


async def _may_call_again(res: Resources, claim: DownloadClaim) -> bool:
    async with res.sessions.begin() as session:
        return bool(await res.limiter.take(session, claim.account, CallKind.FILES, wanted=1))
