"""Download the file of a finished Stripe run: "ready" → "stored", streamed in bounded memory, verified before it shows.

Pieces are committed as they arrive, under the fence of the claim. The last commit contains the last pieces, the facts
of the file and the move to "stored" together, so that a file is either complete or invisible.
"""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import files, report_types
from app.accounts import holds
from app.db.batch import Batch, answer_by_driver, fetch_by_driver
from app.db.rows import fetch_first
from app.errors import Mismatch, Refused, StoreAway, WrongPart
from app.files import FileFacts, FileWriter
from app.observability import log_lines
from app.queue.claims import FREE, back_off, lock_claims
from app.resources import ClaimTerms, Resources
from app.runs import moves
from app.runs.moves import Move, RunError
from app.runs.put_off import puts_off
from app.runs.settle import BIG_BYTES
from app.runs.transfer import DownloadClaim, fenced, transfer
from app.runs.turns import claim_in_turn, claiming
from app.tables import loads
from app.tables.loading import have_same_rows
from app.tables.loads import StoredRun
from app.vocabulary import AttemptOutcome, CallKind, ErrorKind, Lane, RunState

# How often a file that does not match Stripe's announcement is fetched before the attempt fails (docs/reliability.md).
MOST_MISMATCHES = 10


@dataclass(frozen=True, slots=True)
class _Due:
    """A ready run, and whether its account's files are held."""

    id: uuid.UUID
    is_held: bool


@dataclass(frozen=True, slots=True)
class _Before:
    """The file that a re-check is compared with."""

    file_id: uuid.UUID
    stripe_file_id: str
    sha256: str
    is_loaded: bool


async def claim_downloads(res: Resources, limit: int, *, big: bool) -> list[DownloadClaim]:
    """Claim up to `limit` ready runs with big files (or the others), oldest first."""

    async def claim(account: str, at_most: int) -> list[DownloadClaim]:
        async with claiming(res) as session:
            return await _claim_for_account(session, account, at_most, res.claim_terms, big=big)

    return await claim_in_turn(res, Lane.BIG_DOWNLOADS if big else Lane.DOWNLOADS, limit, claim)


async def _claim_for_account(
    session: AsyncSession, account: str, limit: int, terms: ClaimTerms, *, big: bool
) -> list[DownloadClaim]:
    values = {"account": account, "held_kind": CallKind.FILES.value, "big": big, "big_bytes": BIG_BYTES}
    due = await fetch_by_driver(session, _Due, _DUE, {**values, "limit": limit})
    may_be_held = any(one.is_held for one in due)
    permit = await holds.permit(session, account, CallKind.FILES, len(due), terms, may_be_held=may_be_held)
    if not permit.calls:
        return []
    taken = {
        "ids": [one.id for one in due[: permit.calls]],
        "worker": terms.lease.worker,
        "seconds": terms.lease.seconds,
    }
    claimed = await answer_by_driver(session, _CLAIM, taken)
    return [DownloadClaim(**row, probing=permit.probing) for row in claimed.mappings()]


@puts_off(CallKind.FILES)
async def download(res: Resources, claim: DownloadClaim) -> None:
    """Fetch, verify and store the file, and record the result."""
    try:
        size = await _store(res, claim)
        if size is None:
            log_lines.annotate(outcome="unchanged")
            return
    except (WrongPart, StoreAway) as error:
        log_lines.annotate(outcome=type(error).__name__, about=str(error))
        await _restart(res, claim, error)
    except Refused as refusal:
        log_lines.annotate(outcome="Refused", about=str(refusal))
        await _refused(res, claim, refusal)
    except Mismatch as mismatch:
        await _mismatched(res, claim, str(mismatch))
    else:
        res.metrics.stored_bytes.labels(claim.account).inc(size)
        res.metrics.stored_files.labels(claim.account).inc()
        if claim.rule_id is not None:
            res.metrics.availability_to_stored_seconds.observe(max(0.0, time.time() - claim.planned_at.timestamp()))
        log_lines.annotate(outcome="stored", bytes=size)


async def _store(res: Resources, claim: DownloadClaim) -> int | None:
    """Its size; None if a re-check brought what is stored already: no second copy is kept."""
    if claim.recheck:
        await _note_whose_file(res, claim)
    writer, facts = await transfer(res, claim)
    if claim.recheck and await _leave_unchanged(res, claim, writer, facts):
        return None
    # What is stored while tables are off is loaded once they are on: see `loads.owe_missing`.
    record = partial(_record_stored, into_tables=res.settings.tables == "on")
    await res.group_commit.record(("stored", claim.account), record, (claim, writer))
    return facts.size


async def _note_whose_file(res: Resources, claim: DownloadClaim) -> None:
    """Note whether Stripe made a file for a re-check, or only named the earlier one, which says nothing about its data.

    Done before the download, as an old file may be gone.
    """
    before = await _before(res, claim)
    if before is not None:
        same_file = claim.stripe_file_id == before.stripe_file_id
        async with res.sessions.begin() as session:
            await report_types.note_recheck(session, claim.account, claim.report_type, same_file=same_file)


async def _before(res: Resources, claim: DownloadClaim) -> _Before | None:
    async with fenced(res, claim) as session:
        return await fetch_first(session, _Before, _BEFORE, {"run_id": claim.run_id})


async def _leave_unchanged(res: Resources, claim: DownloadClaim, writer: FileWriter, facts: FileFacts) -> bool:
    """Cancel a re-check that brought what the newest stored revision has; False where something differs."""
    before = await _before(res, claim)
    if before is None or not await _is_same(res, before, writer, facts):
        return False
    async with fenced(res, claim) as session:
        return await moves.cancel(session, claim.run_id, reason="unchanged")


async def _is_same(res: Resources, before: _Before, writer: FileWriter, facts: FileFacts) -> bool:
    """The same bytes or, if the earlier file is in a table, the same rows, in any order of rows and columns."""
    if before.sha256 == facts.sha256:
        return True
    if not before.is_loaded or res.settings.tables == "off":
        return False
    await writer.checkpoint()
    return await have_same_rows(res, before.file_id, writer.ending().file_id, facts.size)


async def _record_stored(
    session: AsyncSession, stored: Sequence[tuple[DownloadClaim, FileWriter]], *, into_tables: bool
) -> None:
    """The lock comes first, by itself: a claim that was overtaken writes nothing. The rest is sent as one batch."""
    claims = [claim for claim, _ in stored]
    endings = [writer.ending() for _, writer in stored]
    await lock_claims(session, claims, RunState.READY)
    batch = Batch(session)
    await files.begin_finishing(batch, endings)
    made = [Move(claim.run_id, "the file is complete", claim.attempt) for claim in claims]
    moving = moves.begin_moves(batch, made, to=RunState.STORED)
    attempts = [(claim.run_id, claim.attempt) for claim in claims]
    moves.add_ends(batch, attempts, outcome=AttemptOutcome.STORED)
    holds.add_accepted(batch, claims[0].account, CallKind.FILES)
    if into_tables:
        loads.add_owed(batch, [_as_stored(claim, end.file_id) for claim, end in zip(claims, endings, strict=True)])
    await batch.send()
    await moves.finish_moves(session, moving)


def _as_stored(claim: DownloadClaim, file_id: uuid.UUID) -> StoredRun:
    known = {field.name: getattr(claim, field.name) for field in fields(StoredRun) if field.name != "file_id"}
    return StoredRun(file_id=file_id, **known)


async def _restart(res: Resources, claim: DownloadClaim, error: WrongPart | StoreAway) -> None:
    """The stored part is not the beginning of Stripe's file, or cannot be resumed: start over."""
    after = error.after if isinstance(error, WrongPart) else None
    async with fenced(res, claim) as session:
        await files.drop_partial(session, claim.run_id)
        await back_off(session, claim, res.backoff.seconds(claim.tries, at_least=after), str(error))


async def _refused(res: Resources, claim: DownloadClaim, refusal: Refused) -> None:
    if refusal.status not in (404, 410):
        await _mismatched(res, claim, refusal.message)
        return
    error = RunError(ErrorKind.FILE_GONE, refusal.message, refusal.request_id)
    async with fenced(res, claim) as session:
        await holds.accepted(session, claim.account, CallKind.FILES)
        await moves.try_again_or_fail(session, claim.run_id, claim.attempt, error)


async def _mismatched(res: Resources, claim: DownloadClaim, message: str) -> None:
    async with fenced(res, claim) as session:
        known = {"run_id": claim.run_id, "number": claim.attempt}
        count = (await session.execute(_COUNT_MISMATCH, known)).scalar_one()
        if count >= MOST_MISMATCHES:
            error = RunError(ErrorKind.FILE_MISMATCH, message)
            await moves.try_again_or_fail(session, claim.run_id, claim.attempt, error)
        else:
            # The stored part itself may be wrong.
            await files.drop_partial(session, claim.run_id)
            await back_off(session, claim, res.backoff.seconds(claim.tries), message)
    log_lines.annotate(outcome="Mismatch", about=message, times=count)


# The most recently refused run comes last: each probe of a held account uses a different run.
_DUE = text(f"""
select runs.id, {holds.IS_HELD} as is_held
from runs join attempts on attempts.run_id = runs.id and attempts.number = runs.attempt
where runs.account = :account and state = 'ready' and due_at <= clock_timestamp()
  and {FREE}
  and (coalesce(attempts.file_size, 0) >= :big_bytes) = :big
order by refused_at nulls first, due_at, runs.id limit :limit for update of runs skip locked
""")  # noqa: S608 - of constants only
_CLAIM = text("""
with claimed as (
    update runs set lease_until = clock_timestamp() + make_interval(secs => :seconds), leased_by = :worker,
        fence = fence + 1
    where id = any(:ids) and state = 'ready' returning *
)
select claimed.id as run_id, claimed.account, claimed.attempt, claimed.fence, claimed.tries, claimed.report_type,
    claimed.connected_account, claimed.parameters, claimed.interval_start, claimed.interval_end, claimed.timezone,
    claimed.window_key, claimed.revision, claimed.recheck, claimed.rule_id, claimed.planned_at, claimed.caused_by,
    claimed.traceparent,
    attempts.stripe_file_id, attempts.file_url, attempts.file_size, attempts.file_name, attempts.file_expires_at,
    attempts.file_type,
    partial.id as partial_id
from claimed join attempts on attempts.run_id = claimed.id and attempts.number = claimed.attempt
left join files as partial on partial.run_id = claimed.id and partial.stripe_file_id = attempts.stripe_file_id
    and partial.stored_at is null and partial.location is null
""")
_BEFORE = text("""
select files.id as file_id, files.stripe_file_id, files.sha256, coalesce(loads.state = 'loaded', false) as is_loaded
from runs as checked join runs on runs.rule_id = checked.rule_id
    and runs.window_key = checked.window_key and runs.connected_account is not distinct from checked.connected_account
    and runs.revision < checked.revision and runs.state = 'stored'
join files on files.run_id = runs.id and files.stored_at is not null
left join loads on loads.run_id = runs.id
where checked.id = :run_id order by runs.revision desc limit 1
""")
_COUNT_MISMATCH = text("""
update attempts set mismatches = mismatches + 1 where run_id = :run_id and number = :number returning mismatches
""")
