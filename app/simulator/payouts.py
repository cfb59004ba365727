"""Payouts in the API, from the same ledger as the reports, and the event that announces their reconciliation."""

from collections.abc import Iterator

from app.simulator.availability import latest_published
from app.simulator.ids import new_id
from app.simulator.recipes import business_of
from app.simulator.reports import ledger
from app.simulator.reports.ledger import DAY, Payout
from app.simulator.state.collection import Collection
from app.simulator.state.connected import PayoutObject
from app.simulator.state.model import Account
from app.simulator.state.world import World
from app.simulator.webhooks.events import emit

LONGEST_LIST = 400 * DAY


def payouts_of(world: World, account: Account, *, owner: str | None, since: int) -> Collection[PayoutObject]:
    """Those created since an instant, at most the last 400 days, in order of creation."""
    now = world.clock.unix()
    found = [*_automatic(world, account, owner=owner, start=max(since, now - LONGEST_LIST), end=now + 1)]
    found += [payout for payout in account.manual_payouts if payout.owner == owner and payout.created >= since]
    listed: Collection[PayoutObject] = Collection()
    for payout in sorted(found, key=lambda payout: payout.created):
        listed.add(payout)
    return listed


def add_manual(
    world: World, account: Account, *, amount: int, currency: str, created: int | None, owner: str | None
) -> PayoutObject:
    """A payout made by hand: it is in the list, but in no report."""
    made = world.clock.unix() if created is None else created
    payout = PayoutObject(
        id=new_id("po"),
        created=made,
        amount=amount,
        currency=currency,
        arrival_date=made + DAY,
        status="paid" if made + DAY <= world.clock.unix() else "in_transit",
        reconciliation_status="not_applicable",
        livemode=account.livemode,
        automatic=False,
        owner=owner,
    )
    account.manual_payouts.append(payout)
    return payout


def tell_reconciled(world: World, account: Account, *, owner: str | None, until: int) -> int:
    """Announces (`payout.reconciliation_completed`) the automatic payouts up to `until` that were not announced yet
    (the first time: those of one day); returns how many."""
    since = account.payouts_announced.get(owner or "", until - DAY)
    due = list(_automatic(world, account, owner=owner, start=since + 1, end=until + 1))
    account.payouts_announced[owner or ""] = max(since, until)
    for payout in due:
        about = payout.rendered() | {"reconciliation_status": "completed"}
        emit(world, account, kind="payout.reconciliation_completed", about=about, owner=owner)
    return len(due)


def _automatic(world: World, account: Account, *, owner: str | None, start: int, end: int) -> Iterator[PayoutObject]:
    business = business_of(world, account, connected=owner or "")
    now, itemized = world.clock.unix(), _itemized_up_to(world, account)
    for payout in ledger.payouts(business, start, end):
        yield _listed(payout, now=now, completed=payout.at <= itemized, livemode=account.livemode, owner=owner)


def _itemized_up_to(world: World, account: Account) -> int:
    """How far the newest payout reconciliation reaches."""
    kinds = [kind for name, kind in account.report_types.items() if name.startswith("payout_reconciliation.itemized.")]
    return max((kind.data_available_end for kind in kinds), default=latest_published(world))


def _listed(payout: Payout, *, now: int, completed: bool, livemode: bool, owner: str | None) -> PayoutObject:
    return PayoutObject(
        id=payout.identifier,
        created=payout.at,
        amount=payout.amount,
        currency=payout.currency,
        arrival_date=payout.at + DAY,
        status="paid" if payout.at + DAY <= now else "in_transit",
        reconciliation_status="completed" if completed else "in_progress",
        livemode=livemode,
        owner=owner,
    )
