"""What the `runs` commands do, over the same functions as the admin API."""

import hashlib
import os
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sqlalchemy import RowMapping, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.api.runs import shown, shown_in_full
from app.api.schemas.runs import RunDetailOut, RunOut
from app.cli.runs.view import progress
from app.cli.session import actor, opened
from app.db.models import Rule
from app.errors import Conflict, Gone, NotFound, TallyhookError
from app.resources import Resources
from app.runs import listing, manual
from app.runs.listing import RunFilters
from app.vocabulary import RunState


@dataclass(frozen=True, slots=True)
class Wanted:
    """Selects runs; `rule` is a name or an id."""

    state: RunState | None = None
    rule: str | None = None
    report_type: str | None = None
    account: str | None = None
    connected_account: str | None = None


@dataclass(frozen=True, slots=True)
class Saved:
    """A downloaded file."""

    path: Path
    size: int
    sha256: str


async def find(wanted: Wanted, *, limit: int) -> tuple[list[RunOut], Mapping[uuid.UUID, str]]:
    """The runs, newest first, and the names of their rules by id."""
    async with opened() as res, res.sessions() as session:
        filters = await _filters(session, wanted)
        found = await shown(session, await listing.list_runs(session, filters, limit=limit), res.claim_terms)
        rules = {run.rule_id for run in found}
        named = await session.execute(select(Rule.id, Rule.name).where(Rule.id.in_(rules)))
        return found, {row.id: row.name for row in named}


async def read(run_id: uuid.UUID) -> RunDetailOut:
    """One run, with its history. Raises NotFound."""
    async with opened() as res, res.sessions() as session:
        return await shown_in_full(session, run_id, res.claim_terms)


async def retry(run_ids: Sequence[uuid.UUID]) -> int:
    """Retry these runs, all or none. Raises NotFound, Conflict."""
    async with opened() as res, res.sessions.begin() as session:
        for run_id in run_ids:
            await manual.retry(session, run_id, attempts=res.settings.max_run_attempts, by=actor())
    return len(run_ids)


async def retry_matching(wanted: Wanted) -> int:
    """Retry every run that matches; returns how many."""
    async with opened() as res:
        async with res.sessions() as session:
            filters = await _filters(session, wanted)
        return await manual.retry_matching(res, filters, by=actor())


async def download(run_id: uuid.UUID, output: Path | None, *, force: bool) -> Saved:
    """Write a run's file under a temporary name, verify it, then rename it. Raises Conflict, Gone, TallyhookError."""
    async with opened() as res:
        async with res.sessions() as session:
            run = await listing.get_run(session, run_id)
        _check_there(run)
        path = _place(output, run["file_filename"])
        if path.exists() and not force:
            raise TallyhookError(f"{path} exists already: use --force to replace it, or --output for another name")
        try:
            await _write(res, run, path)
        except OSError as error:
            raise TallyhookError(f"{path} cannot be written: {error.strerror or error}") from error
        return Saved(path, run["file_size"], run["file_sha256"])


async def _write(res: Resources, run: RowMapping, path: Path) -> None:
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        with part.open("xb") as opened_part:
            await _fill(res, run, opened_part)
            os.fsync(opened_part.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


async def _fill(res: Resources, run: RowMapping, part: IO[bytes]) -> None:
    digest, written = hashlib.sha256(), 0
    with progress(run["file_filename"], total=run["file_size"]) as advance:
        async for piece in res.files.read(run["file_id"], run["file_location"], start=0, stop=run["file_size"]):
            part.write(piece)
            digest.update(piece)
            written += len(piece)
            advance(len(piece))
    if (written, digest.hexdigest()) != (run["file_size"], run["file_sha256"]):
        raise TallyhookError(f"the stored file of run {run['id']} is not what it was: its size or SHA-256 differs")


def _check_there(run: RowMapping) -> None:
    if run["file_id"] is None:
        raise Conflict(f"run {run['id']} has no file: it is {run['state']}")
    if run["file_removed_at"] is not None:
        raise Gone(
            f"the file of run {run['id']} was removed on {run['file_removed_at']:%F}: {run['file_removed_reason']}"
        )


def _place(output: Path | None, filename: str) -> Path:
    return output / filename if output is not None and output.is_dir() else output or Path(filename)


async def _filters(session: AsyncSession, wanted: Wanted) -> RunFilters:
    rule_id = None if wanted.rule is None else await _rule_id(session, wanted.rule)
    return RunFilters(wanted.state, rule_id, wanted.report_type, wanted.account, wanted.connected_account)


async def _rule_id(session: AsyncSession, rule: str) -> uuid.UUID:
    """The rule with this name, a deleted one if there is no other; or with this id."""
    with suppress(ValueError):
        return uuid.UUID(rule)
    newest = Rule.deleted_at.desc().nulls_first()
    found = (await session.execute(select(Rule.id).where(Rule.name == rule).order_by(newest).limit(1))).scalar()
    if found is None:
        raise NotFound(f"there is no rule {rule!r}")
    return found
