"""From the rows to sentences: each check says how things stand and, where they do not stand well, what to do."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from app.api.health_facts import Facts
from app.api.health_schemas import CheckOut, RuleHealthOut, Status
from app.logs import redact
from app.settings import Settings

# An event is handled within a second as a rule; a worker that starts anew needs a few.
INBOX_AGE = timedelta(minutes=2)
# Longer than any back-off but the longest: whatever could be done for so long and was not, is stuck.
OVERDUE = timedelta(minutes=20)
# Reconciling may be put off by Stripe now and then.
MISSED_POLLS = 3
MOST_NAMES = 5


def checks_of(facts: Facts, settings: Settings, rules: Sequence[RuleHealthOut]) -> list[CheckOut]:
    """Every check that is about the rows."""
    return [
        _workers(facts),
        _inbox(facts),
        _overdue_runs(facts),
        _failed_runs(facts),
        _failed_events(facts),
        _freshness(rules),
        _credentials(facts, settings),
        _report_types(facts),
        _webhooks(facts, settings),
        _polling(facts, settings),
    ]


def _workers(facts: Facts) -> CheckOut:
    alive = [worker.name for worker in facts.workers if worker.alive]
    if alive:
        return _check("workers", f"{len(alive)} at work: {_names(alive)}")
    detail = "nobody works the queue: start `tallyhook worker`, or `tallyhook serve` without --no-worker"
    if facts.workers:
        last = facts.workers[0]
        detail += f"; {last.name} was last heard of {span(facts.queue.now - last.seen_at)} ago"
    return _check("workers", detail, Status.FAILING)


def _inbox(facts: Facts) -> CheckOut:
    if facts.queue.oldest_event is None:
        return _check("inbox", "every event is handled")
    age = facts.queue.now - facts.queue.oldest_event
    detail = f"{facts.queue.inbox} events are not handled yet, the oldest came {span(age)} ago"
    if age <= INBOX_AGE:
        return _check("inbox", detail)
    return _check("inbox", f"{detail}: see `reason` in GET /v1/events?status=pending", Status.DEGRADED)


def _overdue_runs(facts: Facts) -> CheckOut:
    late = [lane for lane in facts.lanes if facts.queue.now - lane.oldest > OVERDUE]
    if not late:
        return _check("overdue_runs", "no run stands still that could go on")
    found = [f"{lane.runs} {lane.lane}, the oldest due {span(facts.queue.now - lane.oldest)} ago" for lane in late]
    return _check("overdue_runs", f"runs stand still: {'; '.join(found)}; is a worker alive?", Status.DEGRADED)


def _failed_runs(facts: Facts) -> CheckOut:
    if not facts.queue.failed_runs:
        return _check("failed_runs", "none")
    detail = f"{facts.queue.failed_lately} in the last 24 hours, {facts.queue.failed_runs} in all"
    what = "see `error` in GET /v1/runs?state=failed, then retry or cancel them"
    return _check("failed_runs", f"{detail}: {what}", Status.DEGRADED)


def _failed_events(facts: Facts) -> CheckOut:
    if not facts.queue.failed_events:
        return _check("failed_events", "none")
    detail = f"{facts.queue.failed_events}: see `reason` in GET /v1/events?status=failed, then replay them"
    return _check("failed_events", detail, Status.DEGRADED)


def _freshness(rules: Sequence[RuleHealthOut]) -> CheckOut:
    late = sorted({rule.name for rule in rules if rule.status is not Status.OK})
    if not late:
        return _check("freshness", f"{len(rules)} enabled rules, none of them late" if rules else "no rule is enabled")
    return _check("freshness", f"late: {_names(late)}; `rules` says why", Status.DEGRADED)


def _credentials(facts: Facts, settings: Settings) -> CheckOut:
    if not any(account.api_key for account in settings.accounts.values()):
        return _check("credentials", "no account has a key: set STRIPE_API_KEY", Status.DEGRADED)
    found = [
        f"{account.account} may not {hold['call_kind']} ({redact(hold['reason'])})"
        for account in facts.accounts
        for hold in account.held or ()
    ]
    if not found:
        return _check("credentials", "no key is refused")
    return _check("credentials", f"Stripe refuses: {_names(found)}; `tallyhook doctor` says more", Status.DEGRADED)


def _report_types(facts: Facts) -> CheckOut:
    found = [
        f"{one.report_type} of {one.account} (rule {one.rule!r}): {redact(one.reason or 'Stripe has no data of it')}"
        for one in facts.missing
    ]
    if not found:
        return _check("report_types", "every type that a rule names has data")
    return _check("report_types", f"missing: {_names(found)}", Status.DEGRADED)


def _webhooks(facts: Facts, settings: Settings) -> CheckOut:
    untold = {one.account: one for one in facts.untold}
    found = []
    for account in facts.accounts:
        if not settings.accounts[account.account].webhook_secrets:
            found.append(f"{account.account}: has no signing secret, and so lives on polling alone")
        elif one := untold.get(account.account):
            found.append(
                f"{account.account}: data of {one.types} report types ({one.example}) moved and no webhook told of it; "
                "is reporting.report_type.updated selected by name? `tallyhook doctor` says"
            )
        else:
            found.append(f"{account.account}: {_last_webhook(facts, account.last_event_at)}")
    status = Status.DEGRADED if untold else Status.OK
    return _check("webhooks", "; ".join(found) or "no account is configured", status)


def _last_webhook(facts: Facts, at: datetime | None) -> str:
    return "no webhook of late" if at is None else f"the last webhook came {span(facts.queue.now - at)} ago"


def _polling(facts: Facts, settings: Settings) -> CheckOut:
    longest = timedelta(seconds=max(MISSED_POLLS * settings.reconcile_seconds, 300))
    since = facts.queue.reconciled_at or facts.queue.first_seen_at
    if since is not None and facts.queue.now - since > longest:
        detail = f"Stripe was last asked what it has {span(facts.queue.now - since)} ago"
        if facts.queue.reconciled_at is None:
            detail = "Stripe was never asked what it has"
        return _check("polling", f"{detail}: see `timetable.reconcile` in the log", Status.DEGRADED)
    return _check("polling", f"Stripe is asked what it has every {span(timedelta(seconds=settings.reconcile_seconds))}")


def _check(name: str, detail: str, status: Status = Status.OK) -> CheckOut:
    return CheckOut(name=name, status=status, detail=detail)


def _names(found: Sequence[str]) -> str:
    more = len(found) - MOST_NAMES
    return ", ".join(found[:MOST_NAMES]) + (f", and {more} more" if more > 0 else "")


def span(length: timedelta) -> str:
    """A length of time in one word and one number: `3 hours`."""
    seconds = max(0, int(length.total_seconds()))
    for name, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {name}s"
    return f"{seconds} seconds"
