"""START HERE: two lists with every lane of work and its step, and every piece of recurring work.

A lane looks for due rows, claims some, runs a step with each, and sleeps until it is woken (`queue/wakeups`) or
something becomes due.

To add a lane:
1. name it in `vocabulary.Lane`;
2. add a `Pool` to `lanes` below: `claim(res, limit)` takes up to `limit` due rows under a lease, in one statement, and
   returns a frozen dataclass for each; `step(res, claim)` does the work and records the result; `kind` says how such
   a claim is renewed, released, and marked after a crash; `line` is its line in the log; `slots` is how many one
   process has under way; `grace` is how many seconds a step may continue when the process ends;
   `next_due` are the queries for when the lane has something next: each yields one timestamp after `{since}`;
3. call `wake(session, Lane.X)` in the transaction that makes something due in it.

To add recurring work: write a function `work(res)` that returns True when there is more to do and raises NotNow when it
should be retried within a minute, and add an `Entry` to `timetable` below. `queue/timetable.make_due` makes it due
now.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from app import handlers
from app.accounts import catch_up, connected, identity, kept, payouts, reconciliations
from app.accounts.reconciliations import AccountClaim
from app.background import beside, outlive
from app.health import outside
from app.health.notices import announce_lasting
from app.queue import claims, processes
from app.queue.claims import Claim
from app.queue.wakeups import PATIENCE_SECONDS, POLL_SECONDS
from app.resources import Resources
from app.rules.rechecks import EVERY_SECONDS, plan_rechecks
from app.rules.slices import SLICES_DUE, work_slice
from app.runs.download import claim_downloads, download
from app.runs.lookup import claim_lookups, look_up
from app.runs.put_off import crashed
from app.runs.request import request_run
from app.runs.request_claim import claim_requests
from app.runs.transfer import DownloadClaim
from app.tables import loading, loads, publishing
from app.tables.loads import LoadClaim
from app.targets import deliveries
from app.targets.deliveries import DeliveryClaim
from app.targets.send import claim_deliveries, deliver
from app.targets.send import crashed as delivery_crashed
from app.upkeep import connected_accounts, reconcile, retention
from app.upkeep.payouts import read_lists as read_payouts
from app.upkeep.prune import prune
from app.vocabulary import RUN_STEPS, Lane
from app.worker.due import EVENTS_DUE, MISSING_TYPES_DUE, probe_due, rate_due, runs_due
from app.worker.lanes import GRACE_SECONDS, Claimed, Line, Loop, Pool, run
from app.worker.recurring import Entry, recurring
from app.worker.start import start

# How many Stripe calls one process has under way per lane; Stripe's own limits are enforced across all processes.
LOOKUPS_AT_ONCE = 4
DOWNLOADS_AT_ONCE = 8
BIG_DOWNLOADS_AT_ONCE = 2
# Retention counts in days.
RETENTION_SECONDS = 3600.0
PRUNE_SECONDS = 3600.0
SEAL_SECONDS = 3600.0

# Lasting states are announced within this time; for a refused key or a late rule a minute is fine.
NOTICES_SECONDS = 60.0
# A slow web server occupies one of these for 15 s at most, a slow mail server for a minute; a failing one has only one.
DELIVERIES_AT_ONCE = 32

RUNS: Claimed[Claim] = Claimed(renew=claims.renew, release=claims.release, crashed=crashed)
LOADS: Claimed[LoadClaim] = Claimed(renew=loads.renew, release=loads.release, crashed=loading.crashed)
ACCOUNTS: Claimed[AccountClaim] = Claimed(
    renew=reconciliations.renew, release=reconciliations.release, crashed=reconcile.crashed
)
DELIVERIES: Claimed[DeliveryClaim] = Claimed(
    renew=deliveries.renew, release=deliveries.release, crashed=delivery_crashed
)


def timetable(res: Resources) -> list[Entry]:
    """All recurring work."""
    return [
        Entry("reconcile", reconcile.begin_round, every=res.settings.reconcile_seconds),
        Entry(connected.TIMETABLE_ENTRY, connected_accounts.read_lists, every=connected_accounts.EVERY_SECONDS),
        Entry(payouts.TIMETABLE_ENTRY, read_payouts, every=res.settings.reconcile_seconds),
        Entry("file_store", outside.look_at_store, every=outside.STORE_EVERY_SECONDS),
        Entry("stripe_setup", outside.look_at_stripe, every=outside.STRIPE_EVERY_SECONDS),
        Entry("loads", loading.look_for_loads, every=loading.LOOK_SECONDS),
        Entry("rechecks", plan_rechecks, every=EVERY_SECONDS),
        Entry(retention.TIMETABLE_ENTRY, retention.remove_old_files, every=RETENTION_SECONDS),
        Entry("account_keys", kept.seal_again, every=SEAL_SECONDS),
        Entry("prune", prune, every=PRUNE_SECONDS),
        Entry("notices", announce_lasting, every=NOTICES_SECONDS),
    ]


def lanes(res: Resources) -> list[Loop | Pool[Any]]:
    """All lanes."""
    planned, requested, ready = (
        [runs_due(step.state), probe_due(step.call), *rate_due(res.limiter, step.call)] for step in RUN_STEPS
    )
    return [
        Loop(Lane.INBOX, handlers.drain, next_due=[EVENTS_DUE], batch=handlers.BATCH),
        Loop(Lane.RULES, work_slice, next_due=SLICES_DUE),
        Pool(
            Lane.REQUESTS,
            slots=res.requests_at_once,
            claim=claim_requests,
            step=request_run,
            kind=RUNS,
            line=_line("run.asked"),
            next_due=[*planned, MISSING_TYPES_DUE],
            grace=GRACE_SECONDS,
        ),
        Pool(
            Lane.LOOKUPS,
            slots=LOOKUPS_AT_ONCE,
            claim=claim_lookups,
            step=look_up,
            kind=RUNS,
            line=_line("run.looked_up"),
            next_due=requested,
            grace=GRACE_SECONDS,
        ),
        _downloads(Lane.DOWNLOADS, DOWNLOADS_AT_ONCE, next_due=ready),
        _downloads(Lane.BIG_DOWNLOADS, BIG_DOWNLOADS_AT_ONCE, next_due=ready),
        Loop(Lane.OBJECTS, publishing.publish_due, next_due=[publishing.next_due(res.settings.parquet_store)]),
        # The child does one at a time, which keeps a core busy; meanwhile the next one is claimed. An interrupted load
        # is rolled back, and needs no grace.
        Pool(
            Lane.LOADS,
            slots=2,
            claim=loading.claim_loads,
            step=loading.load,
            kind=LOADS,
            line=_load_line,
            next_due=[loads.DUE],
        ),
        Pool(
            Lane.DELIVERIES,
            slots=DELIVERIES_AT_ONCE,
            claim=claim_deliveries,
            step=deliver,
            kind=DELIVERIES,
            line=_delivery_line,
            next_due=[deliveries.NEXT_DUE],
            grace=GRACE_SECONDS,
        ),
        Pool(
            Lane.ACCOUNTS,
            slots=reconcile.ACCOUNTS_AT_ONCE,
            claim=reconciliations.claim_accounts,
            step=reconcile.ask,
            kind=ACCOUNTS,
            line=_account_line,
            next_due=[reconciliations.DUE],
        ),
        recurring(timetable(res)),
    ]


async def work(res: Resources) -> None:
    """Work every lane until `res.stopping` is set."""
    await start(res, timetable(res))
    # A run requested by another process wakes no lane here: look as often as the lookup setting says.
    poll_seconds = min(POLL_SECONDS, res.settings.pending_poll_seconds)
    try:
        async with beside(identity=identity.keep_confirming(res), accounts=kept.follow(res)):
            beat = partial(catch_up.move_marks, settings=res.settings)
            await run(res, lanes(res), poll_seconds=poll_seconds, beat=beat)
    finally:
        await loading.end_child(res)
        await outlive("worker", processes.say_gone(res.sessions, res.worker_id))


def _downloads(lane: Lane, slots: int, *, next_due: Sequence[str]) -> Pool[DownloadClaim]:
    # Another process resumes an interrupted download, so it needs no grace.
    return Pool(
        lane,
        slots=slots,
        claim=partial(claim_downloads, big=lane is Lane.BIG_DOWNLOADS),
        step=download,
        kind=RUNS,
        line=_line("run.fetched"),
        next_due=next_due,
        patience=PATIENCE_SECONDS,
    )


def _load_line(claim: LoadClaim) -> Line:
    ids = {"run_id": str(claim.run_id), "account": claim.account, "table": claim.table_name}
    return Line("file.loaded", {**ids, "caused_by": claim.caused_by}, parent=claim.traceparent)


def _line(name: str) -> Callable[[Claim], Line]:
    """The log line of a step that works on a run."""

    def line(claim: Claim) -> Line:
        ids = {"run_id": str(claim.run_id), "account": claim.account, "attempt": claim.attempt}
        return Line(name, {**ids, "caused_by": claim.caused_by}, parent=claim.traceparent)

    return line


def _account_line(claim: AccountClaim) -> Line:
    return Line("account.asked", {"account": claim.account, "caused_by": "timetable/reconcile"})


def _delivery_line(claim: DeliveryClaim) -> Line:
    ids = {"target": claim.target.name, "message_id": str(claim.messages[0].id), "messages": len(claim.messages)}
    return Line("delivery.tried", ids)
