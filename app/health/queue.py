"""The checks of the work itself: is it done, is it on time, and what needs somebody's decision?"""

from datetime import timedelta

from app.files import removal
from app.health import rows
from app.health.registry import View, check
from app.health.results import Check, Link, LinkKind, degraded, failing, ok
from app.health.text import names, span
from app.sentences import count

# An event is normally handled within a second; a worker that has just started needs a few.
INBOX_AGE = timedelta(minutes=2)
# Longer than any back-off but the longest: a run that has been free to continue for this long is stuck.
OVERDUE = timedelta(minutes=20)
# Retention runs every hour, and may have much to do.
REMOVED_WITHIN = timedelta(hours=3)
# Stripe may put off reconciling now and then.
MISSED_POLLS = 3

_TO_BE = {"requests": "to be requested", "lookups": "to be looked up", "downloads": "to be downloaded"}


@check
async def workers(view: View) -> Check:
    """Whether any process works the queue."""
    seen = await rows.workers(view.session, stalled_after_seconds=view.settings.stalled_after_seconds)
    alive = [worker.name for worker in seen if worker.alive]
    if alive:
        return ok("workers", f"{len(alive)} at work: {names(alive)}")
    last = f"{seen[0].name} last reported {span(view.now - seen[0].seen_at)} ago" if seen else "none has ever reported"
    advice = "start `tallyhook worker`, or `tallyhook serve` without --no-worker"
    return failing("workers", f"no process works the queue: {last}", advice)


@check
async def inbox(view: View) -> Check:
    """Whether events are handled soon."""
    found = await rows.inbox(view.session)
    if found.oldest_at is None:
        return ok("inbox", "every event is handled")
    age = view.now - found.oldest_at
    events = count(found.pending, "event", most=rows.MOST_COUNTED)
    detail = f"{events} not handled yet, the oldest arrived {span(age)} ago"
    if age <= INBOX_AGE:
        return ok("inbox", detail)
    advice = "is a worker running? the event's `reason` says why its handling failed"
    return degraded("inbox", detail, advice, link=Link(LinkKind.EVENTS, {"status": "pending"}))


@check
async def overdue_runs(view: View) -> Check:
    """Whether runs that wait only for a worker are stuck."""
    found = await rows.lanes(view.session, configured=sorted(view.settings.accounts))
    late = [lane for lane in found if view.now - lane.oldest > OVERDUE]
    if not late:
        return ok("overdue_runs", "every run that can proceed does")
    said = [f"{lane.runs} {_TO_BE[lane.lane]}, the oldest due {span(view.now - lane.oldest)} ago" for lane in late]
    advice = "is a worker running, and its log free of errors? Restart the workers"
    return degraded("overdue_runs", f"runs are stuck: {'; '.join(said)}", advice, link=Link(LinkKind.RUNS))


@check
async def failed_runs(view: View) -> Check:
    """Runs that were given up, and wait for somebody's decision."""
    found = await rows.failed_runs(view.session)
    if not found.number:
        return ok("failed_runs", "none")
    detail = f"{found.lately} in the last 24 hours, {count(found.number, 'run', most=rows.MOST_COUNTED)} in all"
    advice = "read `error`, then retry the runs, or cancel those that are not wanted"
    return degraded("failed_runs", detail, advice, link=Link(LinkKind.RUNS, {"state": "failed"}))


@check
async def failed_events(view: View) -> Check:
    """Events whose handling failed for good."""
    found = await rows.failed_events(view.session)
    if not found:
        return ok("failed_events", "none")
    detail = f"{count(found, 'event', most=rows.MOST_COUNTED)} could not be handled"
    advice = "`reason` says why; then replay them"
    return degraded("failed_events", detail, advice, link=Link(LinkKind.EVENTS, {"status": "failed"}))


@check
async def polling(view: View) -> Check:
    """Whether Stripe is polled, which finds what no webhook reported."""
    every = timedelta(seconds=view.settings.reconcile_seconds)
    longest = max(MISSED_POLLS * every, timedelta(minutes=5))
    accounts = [slug for slug, account in view.settings.accounts.items() if account.api_key]
    found = await rows.unpolled(view.session, accounts=accounts, seconds=longest.total_seconds())
    if not found:
        return ok("polling", f"Stripe is polled every {span(every)}")
    first, others = found[0], len(found) - 1
    about = f"polled about account {first.account}"
    last = f"was last {about} {span(view.now - first.since)} ago"
    detail = f"Stripe has never been {about}" if first.never else f"Stripe {last}"
    if others:
        detail += f", and about {count(others, 'other account')} too long ago"
    advice = "`account.asked` in the workers' log says what Stripe answered; `tallyhook doctor` asks Stripe now"
    if (await rows.heard_since(view.session, first.since)) is None:
        return failing("polling", f"{detail}, and no webhook has arrived since: no new data is noticed", advice)
    return degraded("polling", detail, advice)


@check
async def removed_files(view: View) -> Check:
    """Whether the bytes of removed files are gone."""
    found = await removal.undeleted(view.session, after=REMOVED_WITHIN, limit=rows.MOST_COUNTED + 1)
    if found.since is None:
        return ok("removed_files", "the bytes of every removed file are deleted")
    files = count(found.files, "removed file", most=rows.MOST_COUNTED)
    detail = f"the bytes of {files} are still there, the oldest was removed {span(view.now - found.since)} ago"
    advice = "`timetable.retention` in the workers' log says what the store answered; it must let Tallyhook delete"
    return degraded("removed_files", detail, advice)
