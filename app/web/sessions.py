"""Who is logged in: a row per session, found by the SHA-256 of a random id that only the browser has.

A session ends with its origin: once its token is removed from the settings, it is over.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app import audit
from app.api.http.tokens import Caller
from app.db.rows import fetch_first, fetch_one
from app.vocabulary import Role

SESSION_HOURS = 12
LINK_MINUTES = 5.0


@dataclass(frozen=True, slots=True)
class Login:
    """The user of a session or a link; `origin` is the token or link behind it (`Caller.origin`)."""

    name: str
    role: str
    accounts: list[str] | None
    origin: str
    expires_at: datetime


async def begin(session: AsyncSession, caller: Caller) -> str:
    """Log somebody in; returns the id that only the browser keeps."""
    return await _begin(session, caller.name, caller.role, caller.origin)


async def find(session: AsyncSession, session_id: str) -> Login | None:
    """The session of this id, unless it is over."""
    return await fetch_first(session, Login, _FIND, {"id": _digest(session_id)})


async def end(session: AsyncSession, session_id: str) -> None:
    """Log out."""
    await session.execute(_END, {"id": _digest(session_id)})


async def make_link(
    session: AsyncSession, *, name: str, role: Role, origin: str, by: str, minutes: float = LINK_MINUTES
) -> tuple[str, datetime]:
    """A link that logs in once as `name`: its id, and when it expires. Noted in the audit."""
    link = secrets.token_urlsafe(32)
    values = {"id": _digest(link), "name": name, "role": role.value, "origin": origin, "minutes": minutes}
    made = await fetch_one(session, Login, _MAKE_LINK, values)
    await audit.note(session, actor=by, action="login_link.made", subject=name, after={"role": role.value})
    return link, made.expires_at


async def look_at_link(session: AsyncSession, link: str) -> Login | None:
    """The user that a link logs in; reading it does not use it up."""
    return await fetch_first(session, Login, _LOOK_AT_LINK, {"id": _digest(link)})


async def use_link(session: AsyncSession, link: str) -> str | None:
    """Log in by a link; returns the session's id, or None if the link was used or is too old."""
    used = await fetch_first(session, Login, _USE_LINK, {"id": _digest(link)})
    return None if used is None else await _begin(session, used.name, used.role, used.origin)


async def _begin(session: AsyncSession, name: str, role: str, origin: str) -> str:
    session_id = secrets.token_urlsafe(32)
    values = {"id": _digest(session_id), "name": name, "role": str(role), "origin": origin, "hours": SESSION_HOURS}
    await session.execute(_PRUNE)
    await session.execute(_PRUNE_LINKS)
    await session.execute(_BEGIN, values)
    await audit.note(session, actor=name, action="session.began")
    return session_id


def _digest(random_id: str) -> str:
    return hashlib.sha256(random_id.encode(errors="surrogatepass")).hexdigest()


_BEGIN = text("""
insert into web_sessions (id_sha256, name, role, origin, expires_at)
values (:id, :name, :role, :origin, clock_timestamp() + make_interval(hours => :hours))
""")
_FIND = text("""
select name, role, accounts, origin, expires_at from web_sessions
where id_sha256 = :id and expires_at > clock_timestamp()
""")
_END = text("delete from web_sessions where id_sha256 = :id")
_MAKE_LINK = text("""
insert into login_links (id_sha256, name, role, origin, expires_at)
values (:id, :name, :role, :origin, clock_timestamp() + make_interval(secs => 60 * cast(:minutes as float8)))
returning name, role, accounts, origin, expires_at
""")
_LOOK_AT_LINK = text("""
select name, role, accounts, origin, expires_at from login_links
where id_sha256 = :id and expires_at > clock_timestamp()
""")
_USE_LINK = text("""
delete from login_links where id_sha256 = :id and expires_at > clock_timestamp()
returning name, role, accounts, origin, expires_at
""")
# Sessions that are over are deleted at logins, a few at a time.
_PRUNE = text("""
delete from web_sessions where id_sha256 in (
    select id_sha256 from web_sessions where expires_at < clock_timestamp() limit 100 for update skip locked)
""")
_PRUNE_LINKS = text("""
delete from login_links where id_sha256 in (
    select id_sha256 from login_links where expires_at < clock_timestamp() limit 100 for update skip locked)
""")
