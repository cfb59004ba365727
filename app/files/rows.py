"""The row of a file: begun, finished, dropped. Until it says `stored_at`, nobody sees the file."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.files.chunker import FileFacts


@dataclass(frozen=True, slots=True)
class About:
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


async def begin_all(session: AsyncSession, files: Mapping[uuid.UUID, About]) -> None:
    """Begin these files anew, by their ids: what earlier, broken downloads left of their runs' files is removed."""
    if not files:
        return
    abouts = list(files.values())
    await session.execute(_DROP_PARTIALS, {"run_ids": [about.run_id for about in abouts]})
    columns = {f"{name}s": [getattr(about, name) for about in abouts] for name in _COLUMNS}
    await session.execute(_BEGIN, {"ids": list(files), **columns})


async def finish_all(session: AsyncSession, files: Mapping[uuid.UUID, FileFacts]) -> None:
    """These files are whole: from the commit on they are visible, and never changed."""
    values = {
        "ids": list(files),
        "sizes": [facts.size for facts in files.values()],
        "sha256s": [facts.sha256 for facts in files.values()],
        "line_counts": [facts.line_count for facts in files.values()],
    }
    await session.execute(_FINISH, values)


async def drop_partial(session: AsyncSession, run_id: uuid.UUID) -> None:
    """Remove what a download that is given up, or begun anew, has left. A whole file is never touched."""
    await session.execute(_DROP_PARTIALS, {"run_ids": [run_id]})


_BEGIN = text("""
insert into files (id, run_id, rule_id, account, stripe_file_id, filename, media_type, location)
select * from unnest(cast(:ids as uuid[]), cast(:run_ids as uuid[]), cast(:rule_ids as uuid[]),
    cast(:accounts as text[]), cast(:stripe_file_ids as text[]), cast(:filenames as text[]),
    cast(:media_types as text[]), cast(:locations as text[]))
""")
_FINISH = text("""
update files set size = whole.size, sha256 = whole.sha256, stored_at = now(),
    line_count = case when files.media_type like 'text/%' then whole.line_count end
from unnest(cast(:ids as uuid[]), cast(:sizes as bigint[]), cast(:sha256s as text[]), cast(:line_counts as bigint[]))
    as whole(id, size, sha256, line_count)
where files.id = whole.id and stored_at is null
""")
# Whoever still writes such an object does so under a place that nobody else ever uses.
_DROP_PARTIALS = text("""
with dropped as (delete from files where run_id = any(:run_ids) and stored_at is null returning location)
insert into dropped_objects (location) select location from dropped where location is not null
""")
