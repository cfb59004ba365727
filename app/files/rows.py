"""The row of a file: created, finished, dropped. Until `stored_at` is set, the file is invisible."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.batch import Batch
from app.files.chunker import FileFacts
from app.files.removal import DROP_PARTIALS


@dataclass(frozen=True, slots=True)
class FileMetadata:
    """Whose file it is, and what it is called."""

    run_id: uuid.UUID
    rule_id: uuid.UUID | None
    account: str
    report_type: str
    stripe_file_id: str
    filename: str
    media_type: str = "text/csv"
    location: str | None = None


_COLUMNS = ("run_id", "rule_id", "account", "stripe_file_id", "filename", "media_type", "location")


async def begin_all(session: AsyncSession, files: Mapping[uuid.UUID, FileMetadata]) -> None:
    """Begin these files, by id; the remains of earlier, broken downloads of the same runs are removed."""
    if not files:
        return
    begun = list(files.values())
    await session.execute(DROP_PARTIALS, {"run_ids": [file.run_id for file in begun]})
    columns = {f"{name}s": [getattr(file, name) for file in begun] for name in _COLUMNS}
    await session.execute(_BEGIN, {"ids": list(files), **columns})


def add_whole(batch: Batch, files: Mapping[uuid.UUID, tuple[FileMetadata, FileFacts]]) -> None:
    """Have the batch write these files, complete at once: `begin_all` and `add_finished` in one.

    From the commit on they are visible, and never change.
    """
    if not files:
        return
    columns = {f"{name}s": [getattr(metadata, name) for metadata, _ in files.values()] for name in _COLUMNS}
    facts = _facts({file_id: facts for file_id, (_, facts) in files.items()})
    batch.add(DROP_PARTIALS, {"run_ids": columns["run_ids"]})
    batch.add(_WHOLE, {**columns, **facts})


def add_finished(batch: Batch, files: Mapping[uuid.UUID, FileFacts]) -> None:
    """Have the batch mark these files as complete: from the commit on they are visible, and never change."""
    if files:
        batch.add(_FINISH, _facts(files))


def _facts(files: Mapping[uuid.UUID, FileFacts]) -> dict[str, list[Any]]:
    return {
        "ids": list(files),
        "sizes": [facts.size for facts in files.values()],
        "sha256s": [facts.sha256 for facts in files.values()],
        "line_counts": [facts.line_count for facts in files.values()],
    }


_BEGIN = text("""
insert into files (id, run_id, rule_id, account, stripe_file_id, filename, media_type, location)
select * from unnest(cast(:ids as uuid[]), cast(:run_ids as uuid[]), cast(:rule_ids as uuid[]),
    cast(:accounts as text[]), cast(:stripe_file_ids as text[]), cast(:filenames as text[]),
    cast(:media_types as text[]), cast(:locations as text[]))
""")
_WHOLE = text("""
insert into files (id, run_id, rule_id, account, stripe_file_id, filename, media_type, location, size, sha256,
    line_count, stored_at)
select id, run_id, rule_id, account, stripe_file_id, filename, media_type, location, size, sha256,
    case when media_type like 'text/%' then line_count end, now()
from unnest(cast(:ids as uuid[]), cast(:run_ids as uuid[]), cast(:rule_ids as uuid[]),
    cast(:accounts as text[]), cast(:stripe_file_ids as text[]), cast(:filenames as text[]),
    cast(:media_types as text[]), cast(:locations as text[]), cast(:sizes as bigint[]), cast(:sha256s as text[]),
    cast(:line_counts as bigint[]))
    as new(id, run_id, rule_id, account, stripe_file_id, filename, media_type, location, size, sha256, line_count)
""")
_FINISH = text("""
update files set size = whole.size, sha256 = whole.sha256, stored_at = now(),
    line_count = case when files.media_type like 'text/%' then whole.line_count end
from unnest(cast(:ids as uuid[]), cast(:sizes as bigint[]), cast(:sha256s as text[]), cast(:line_counts as bigint[]))
    as whole(id, size, sha256, line_count)
where files.id = whole.id and stored_at is null
""")
