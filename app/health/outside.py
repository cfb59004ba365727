"""Checks of outside systems: the file store, Stripe's clock, the webhook endpoints.

The timetable runs them, in one process at a time, and stores the results; `/health` and `/metrics` show those,
and `tallyhook doctor` runs the checks at once. Each has a function that looks, and a `@check` below that shows the
stored result.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.rows import fetch
from app.errors import NotNow, StoreAway
from app.files import FileStore
from app.health import listening, rows
from app.health.endpoints import webhook_endpoint as examine_endpoint
from app.health.registry import View, check
from app.health.results import Check, Status, degraded, failing, ok, worst
from app.health.text import span
from app.resources import Resources
from app.settings import Settings
from app.stripe_api.signatures import SIGNATURE_TOLERANCE_SECONDS
from app.stripe_api.webhook_endpoints import read_clock

# How often each check runs. Listing endpoints counts against Stripe's read limit.
STORE_EVERY_SECONDS = 300.0
STRIPE_EVERY_SECONDS = 3600.0
# A result older than this many periods says nothing about now.
MISSED_LOOKS = 3
# A fifth of the webhooks' tolerance: a drifting clock should be noticed before they are refused.
CLOCK_DEGRADED_SECONDS = 60
# Webhooks within this time show that an endpoint leads here: report types advance twice a day.
ARRIVING_WITHIN = timedelta(days=2)


async def look_at_store(res: Resources) -> None:
    """Check the file store, and keep the result. Raises NotNow if it fails, so that it is checked again soon."""
    found = await examine_store(res.files)
    async with res.sessions.begin() as session:
        await keep(session, "file_store", [found])
    if found.status is not Status.OK:
        raise NotNow(found.detail)


async def look_at_stripe(res: Resources) -> None:
    """Check the clock, and the webhook endpoint of every account that takes webhooks; keep the results."""
    clock = await examine_clock(res.settings)
    async with res.sessions.begin() as session:
        heard = await rows.heard(session)
        now = await rows.now(session)
        needed = await listening.needs(session)
    arriving = {row.account for row in heard if now - row.last_at < ARRIVING_WITHIN}
    accounts = [slug for slug in sorted(res.stripe.accounts) if res.settings.accounts[slug].webhook_secrets]
    endpoints = [
        await examine_endpoint(res.stripe, slug, url=None, arriving=slug in arriving, needs=needed.get(slug))
        for slug in accounts
    ]
    async with res.sessions.begin() as session:
        await keep(session, "clock", [clock])
        await keep(session, "webhook_endpoint", endpoints)


async def examine_store(files: FileStore) -> Check:
    """Whether files can be written, read and deleted."""
    try:
        await files.probe()
    except StoreAway as error:
        advice = "check TALLYHOOK_FILE_STORE, its credentials and free space; ready runs are stored once it works"
        return failing("file_store", f"files cannot be stored: {error}", advice)
    return ok("file_store", f"files can be written, read and deleted in {files.base or 'the database'}")


async def examine_clock(settings: Settings) -> Check:
    """This machine's clock against Stripe's: webhooks are believed only within 300 s of being signed."""
    try:
        theirs = await read_clock(settings)
    except NotNow as error:
        advice = "check the network, a proxy, and STRIPE_API_BASE"
        return degraded("clock", f"the clock could not be compared with Stripe's: {error}", advice)
    return _clock((datetime.now(UTC) - theirs).total_seconds(), "Stripe's")


def _clock(seconds: float, whose: str) -> Check:
    off = round(seconds)
    way = "ahead of" if off > 0 else "behind"
    detail = f"the clock of {socket.gethostname()} is {abs(off)} s {way} {whose}"
    advice = "synchronize the clock with NTP (chrony, systemd-timesyncd)"
    refused = f"webhooks are refused beyond {SIGNATURE_TOLERANCE_SECONDS} s"
    if abs(off) > SIGNATURE_TOLERANCE_SECONDS:
        return failing("clock", f"{detail}: {refused}", advice)
    if abs(off) > CLOCK_DEGRADED_SECONDS:
        return degraded("clock", f"{detail}: {refused}", advice)
    return ok("clock", f"the clock of {socket.gethostname()} agrees with {whose}")


@dataclass(frozen=True, slots=True)
class Kept:
    """The newest result of a check."""

    name: str
    account: str
    status: str
    detail: str
    advice: str | None
    looked_at: datetime


async def keep(session: AsyncSession, name: str, found: Sequence[Check]) -> None:
    """Replace what was kept of this check."""
    await session.execute(_FORGET, {"name": name, "accounts": [one.account or "" for one in found]})
    for one in sorted(found, key=lambda one: one.account or ""):
        values = {"name": name, "account": one.account or "", "status": one.status.value, "detail": one.detail}
        await session.execute(_KEEP, {**values, "advice": one.advice, "by": socket.gethostname()})


@check
async def file_store(view: View) -> Check:
    """Whether files can be kept."""
    return await _shown(view, "file_store", every_seconds=STORE_EVERY_SECONDS)


@check
async def clock(view: View) -> Check:
    """Whether the clocks of Stripe, the database and this machine agree."""
    own = _clock((datetime.now(UTC) - view.now).total_seconds(), "the database's")
    if own.status is not Status.OK:
        return own
    return await _shown(view, "clock", every_seconds=STRIPE_EVERY_SECONDS)


@check
async def webhook_endpoint(view: View) -> Check:
    """Whether Stripe sends webhooks here."""
    return await _shown(view, "webhook_endpoint", every_seconds=STRIPE_EVERY_SECONDS)


async def _kept(view: View) -> list[Kept]:
    accounts = ["", *view.settings.accounts]
    return await fetch(view.session, Kept, _KEPT, {"accounts": accounts, "limit": rows.MOST_COUNTED})


async def _shown(view: View, name: str, *, every_seconds: float) -> Check:
    """The kept results as one check: the worst of its accounts, with a sentence for each that is not ok."""
    looks = [one for one in await view.once(_kept) if one.name == name]
    if not looks:
        return ok(name, "not checked yet: a worker does so when it starts")
    age = view.now - min(one.looked_at for one in looks)
    if age > timedelta(seconds=MISSED_LOOKS * every_seconds):
        return degraded(name, f"not checked for {span(age)}", "is a worker running, and its log free of errors?")
    bad = [one for one in looks if one.status != Status.OK] or looks[:1]
    status = worst([Check(name, Status(one.status), "") for one in bad])
    said = "; ".join(f"{one.account}: {one.detail}" if one.account else one.detail for one in bad)
    account = bad[0].account if len(bad) == 1 and bad[0].account else None
    advice = next((one.advice for one in bad if one.status == status and one.advice), None)
    return Check(name, status, said, advice, account)


_FORGET = text("delete from kept_checks where name = :name and account <> all(cast(:accounts as text[]))")
_KEEP = text("""
insert into kept_checks (name, account, status, detail, advice, looked_by)
values (:name, :account, :status, :detail, :advice, :by)
on conflict (name, account) do update set status = excluded.status, detail = excluded.detail,
    advice = excluded.advice, looked_by = excluded.looked_by, looked_at = now()
""")
_KEPT = text("""
select name, account, status, detail, advice, looked_at from kept_checks
where account = any(cast(:accounts as text[])) order by name, account limit :limit
""")
