"""From the rows to sentences: each check says how things stand and, where they do not stand well, what to do."""

from collections.abc import Sequence
from datetime import timedelta

from app.api.schemas.health import CheckOut, RuleHealthOut, Status
from app.health.rows import Facts
from app.health.text import check, names, span
from app.health.webhooks import webhook_checks
from app.observability.logs import redact
from app.settings import Settings

# An event is handled within a second as a rule; a worker that starts anew needs a few.
INBOX_AGE = timedelta(minutes=2)
# Longer than any back-off but the longest: whatever could be done for so long and was not, is stuck.
OVERDUE = timedelta(minutes=20)
# Reconciling may be put off by Stripe now and then.
MISSED_POLLS = 3


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
        *webhook_checks(facts, settings),
        _polling(facts, settings),
    ]


def _workers(facts: Facts) -> CheckOut:
    alive = [worker.name for worker in facts.workers if worker.alive]
    if alive:
        return check("workers", f"{len(alive)} at work: {names(alive)}")
    detail = "nobody works the queue: start `tallyhook worker`, or `tallyhook serve` without --no-worker"
    if facts.workers:
        last = facts.workers[0]
        detail += f"; {last.name} was last heard of {span(facts.queue.now - last.seen_at)} ago"
    return check("workers", detail, Status.FAILING)


def _inbox(facts: Facts) -> CheckOut:
    if facts.queue.oldest_event is None:
        return check("inbox", "every event is handled")
    age = facts.queue.now - facts.queue.oldest_event
    detail = f"{facts.queue.inbox} events are not handled yet, the oldest came {span(age)} ago"
    if age <= INBOX_AGE:
        return check("inbox", detail)
    return check("inbox", f"{detail}: see `reason` in GET /v1/events?status=pending", Status.DEGRADED)


def _overdue_runs(facts: Facts) -> CheckOut:
    late = [lane for lane in facts.lanes if facts.queue.now - lane.oldest > OVERDUE]
    if not late:
        return check("overdue_runs", "no run stands still that could go on")
    found = [f"{lane.runs} {lane.lane}, the oldest due {span(facts.queue.now - lane.oldest)} ago" for lane in late]
    return check("overdue_runs", f"runs stand still: {'; '.join(found)}; is a worker alive?", Status.DEGRADED)


def _failed_runs(facts: Facts) -> CheckOut:
    if not facts.queue.failed_runs:
        return check("failed_runs", "none")
    detail = f"{facts.queue.failed_lately} in the last 24 hours, {facts.queue.failed_runs} in all"
    what = "see `error` in GET /v1/runs?state=failed, then retry or cancel them"
    return check("failed_runs", f"{detail}: {what}", Status.DEGRADED)


def _failed_events(facts: Facts) -> CheckOut:
    if not facts.queue.failed_events:
        return check("failed_events", "none")
    detail = f"{facts.queue.failed_events}: see `reason` in GET /v1/events?status=failed, then replay them"
    return check("failed_events", detail, Status.DEGRADED)


def _freshness(rules: Sequence[RuleHealthOut]) -> CheckOut:
    late = sorted({rule.name for rule in rules if rule.status is not Status.OK})
    if not late:
        return check("freshness", f"{len(rules)} enabled rules, none of them late" if rules else "no rule is enabled")
    return check("freshness", f"late: {names(late)}; `rules` says why", Status.DEGRADED)


def _credentials(facts: Facts, settings: Settings) -> CheckOut:
    if not any(account.api_key for account in settings.accounts.values()):
        return check("credentials", "no account has a key: set STRIPE_API_KEY", Status.DEGRADED)
    found = [
        f"{account.account} may not {hold['call_kind']} ({redact(hold['reason'])})"
        for account in facts.accounts
        for hold in account.held or ()
    ]
    if not found:
        return check("credentials", "no key is refused")
    return check("credentials", f"Stripe refuses: {names(found)}; `tallyhook doctor` says more", Status.DEGRADED)


def _report_types(facts: Facts) -> CheckOut:
    found = [
        f"{one.report_type} of {one.account} (rule {one.rule!r}): {redact(one.reason or 'Stripe has no data of it')}"
        for one in facts.missing
    ]
    if not found:
        return check("report_types", "every type that a rule names has data")
    return check("report_types", f"missing: {names(found)}", Status.DEGRADED)


def _polling(facts: Facts, settings: Settings) -> CheckOut:
    longest = timedelta(seconds=max(MISSED_POLLS * settings.reconcile_seconds, 300))
    since = facts.queue.reconciled_at or facts.queue.first_seen_at
    if since is not None and facts.queue.now - since > longest:
        detail = f"Stripe was last asked what it has {span(facts.queue.now - since)} ago"
        if facts.queue.reconciled_at is None:
            detail = "Stripe was never asked what it has"
        return check("polling", f"{detail}: see `timetable.reconcile` in the log", Status.DEGRADED)
    return check("polling", f"Stripe is asked what it has every {span(timedelta(seconds=settings.reconcile_seconds))}")
