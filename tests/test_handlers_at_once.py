"""Workers that empty the inbox at the same moment, and hear of the same things: they never deadlock.

Who comes first is decided by a call that the test holds, or by a lock, never by time.
"""

import asyncio
import json
from datetime import date
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import text

from app import handlers, report_types
from app.accounts import connected, payouts, reconciliations
from app.queue import timetable
from app.resources import Resources
from app.rules.slices import work_slice
from app.runs import lookup, settle
from app.simulator import Simulator
from app.upkeep.connected_accounts import read_lists
from app.upkeep.reconcile import reconcile
from tests.api.conftest import client_of
from tests.runs.stories import another_process, attempts, days_due, one_due_run, somebody_waits_for_a_lock, states
from tests.service import REPORT_TYPE, add_rule, at, execute, fetch, request_due, unpublished

SUCCEEDED, PAID = "reporting.report_run.succeeded", "payout.reconciliation_completed"
CHANGED, LEFT = "account.updated", "account.application.deauthorized"
CONNECTED = "connected_account_balance_change_from_activity.itemized.3"
PAYOUTS = "payout_reconciliation.by_id.itemized.4"


async def store(res: Resources, account: str, type: str, about: dict[str, Any], *, named: str | None = None) -> None:
    """An event about this object in the inbox; with `named`, the account that it names, it is only a hint."""
    hint = {"hint": True, "account": named} if named else {}
    await execute(
        res,
        "insert into events (account, stripe_event_id, type, object_id, payload, payload_sha256, status)"
        " values (:account, gen_random_uuid(), :type, :object_id, :payload, '', 'pending')",
        account=account,
        type=type,
        object_id=None if named else about["id"],
        payload=json.dumps({**hint, "data": {"object": about}}),
    )


async def drain_twice(res: Resources, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str) -> None:
    """Two workers take two events each; the first stops behind its first call of this function until the other waits
    for it, or has come to its end.
    """
    stopped, go_on = asyncio.Event(), asyncio.Event()
    call = getattr(module, name)

    async def stopping(*args: Any, **values: Any) -> Any:
        answer = await call(*args, **values)
        if not stopped.is_set():
            stopped.set()
            await go_on.wait()
        return answer

    monkeypatch.setattr(module, name, stopping)
    monkeypatch.setattr(handlers, "BATCH", 2)
    first = asyncio.create_task(handlers.drain(res))
    await stopped.wait()
    second = asyncio.create_task(handlers.drain(res))
    waits = asyncio.create_task(somebody_waits_for_a_lock(res))
    await asyncio.wait({second, waits}, return_when=asyncio.FIRST_COMPLETED)
    waits.cancel()
    go_on.set()
    await asyncio.gather(first, second)
    assert await fetch(res, "select 1 from events where status <> 'handled'") == []


async def test_hints_and_events_about_the_same_runs(
    res: Resources, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two reports whose ends arrive twice: by the endpoint of their account, and by one of an organization
    await days_due(res, simulator, 2)
    simulator.configure(outcome="hang")
    await request_due(res)
    ends = [simulator.finish_run(run.id).rendered() for run in list(simulator.runs)]
    for one, other in (ends, reversed(ends)):
        await store(res, "default", SUCCEEDED, {"id": one["id"]}, named="acct_own")
        await store(res, "default", SUCCEEDED, other)

    await drain_twice(res, monkeypatch, lookup, "look_up_soon")

    assert await states(res) == {"ready": 2}


async def test_hints_and_events_about_the_same_payouts(
    res: Resources, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = json.dumps({"shop": {"api_key": "sk_test_shop", "stripe_account": "acct_shop"}})
    async with another_process(res, simulator, STRIPE_ACCOUNTS=shop) as process:
        await add_rule(process, account="shop", report_type=PAYOUTS, cadence="every_payout", starts_on=date(2026, 3, 5))
        for one, other in (("po_1", "po_2"), ("po_2", "po_1")):
            await store(process, "shop", PAID, {"id": one}, named="acct_shop")
            await store(process, "shop", PAID, {"id": other})

        await drain_twice(process, monkeypatch, payouts, "look_soon")

    named = await fetch(res, "select id from payouts where connected_account = '' and look_at is not null order by id")
    assert [payout["id"] for payout in named] == ["po_1", "po_2"]


async def test_connected_accounts_that_change_and_leave(res: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given two connected accounts that are known: only their leaving is to be looked at
    for number in (1, 2):
        await execute(
            res,
            "insert into connected_accounts (account, id, source, stripe_created_at)"
            " values ('default', :id, 'list', now())",
            id=f"acct_{number}",
        )
    for one, other in (("acct_1", "acct_2"), ("acct_2", "acct_1")):
        await store(res, "default", CHANGED, {"id": one}, named=one)
        await store(res, "default", LEFT, {"id": "ca_1"}, named=other)

    await drain_twice(res, monkeypatch, connected, "look_soon")

    looked_at = await fetch(res, "select id from connected_accounts where look_at is not null order by id")
    assert [one["id"] for one in looked_at] == ["acct_1", "acct_2"]


async def test_connected_accounts_of_several_accounts(res: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given hints about two platforms' connected accounts, which the same entry of the timetable looks at
    await execute(res, "insert into accounts (slug) values ('another')")
    await store(res, "another", CHANGED, {"id": "acct_1"}, named="acct_1")
    await store(res, "default", CHANGED, {"id": "acct_2"}, named="acct_2")
    await store(res, "default", CHANGED, {"id": "acct_2"}, named="acct_2")

    await drain_twice(res, monkeypatch, connected, "look_soon")

    assert len(await fetch(res, "select 1 from timetable where name = 'connected_accounts'")) == 1


async def test_news_of_a_type_and_of_a_run_whose_answer_is_being_recorded(res: Resources, simulator: Simulator) -> None:
    # Given news of a report type and of a run, while the recorder of an answer has locked the run
    await one_due_run(res, simulator)
    await request_due(res)
    await store(res, "default", "reporting.report_type.updated", simulator.report_type(REPORT_TYPE).rendered())
    await store(res, "default", SUCCEEDED, simulator.runs[0].rendered())

    # When it comes to the type
    async with res.sessions.begin() as recording:
        await settle.lock_stripe_runs(recording, "default", [simulator.runs[0].id])
        draining = asyncio.create_task(handlers.drain(res))
        await somebody_waits_for_a_lock(res)
        await report_types.note_there(recording, "default", REPORT_TYPE)
    await draining

    # Then both come to their ends
    assert await fetch(res, "select 1 from events where status <> 'handled'") == []
    assert (await attempts(res))[0]["stripe_file_id"] is not None


@pytest.mark.parametrize("several", [False, True], ids=["a change", "an apply"])
async def test_a_batch_and_rules_for_which_stripe_is_asked_about_all_accounts(
    res: Resources, simulator: Simulator, several: bool
) -> None:
    # Given a batch that has locked the run of a connected account, which is being taken out of its rule
    unpublished(simulator, CONNECTED, until="2026-03-02")
    simulator.connect_account("acct_1", created=at("2026-01-01").timestamp())
    await reconcile(res)
    each = {"cadence": "daily", "starts_on": "2026-03-01", "connected": "each", "parameters": {"timezone": "Etc/UTC"}}
    one = {**each, "name": "one", "report_type": CONNECTED}
    unknown = {**each, "name": "another", "report_type": "connected_account_balance_change_from_activity.itemized.99"}
    async with client_of(res) as api:
        for rule in (one, unknown):
            assert (await api.post("/v1/rules", json=rule)).status_code == 201
        await read_lists(res)
        await work_slice(res)
        without = {"except": ["acct_1"]}
        change = (
            api.post("/v1/rules/apply", json={"rules": [{**unknown, **without}, {**one, **without}]})
            if several
            else api.patch("/v1/rules/one", json=without)
        )

        # When it comes to what the change hastens, too
        async with res.sessions.begin() as batch:
            await batch.execute(text("select from runs for no key update"))
            changing = asyncio.create_task(change)
            await somebody_waits_for_a_lock(res)
            await reconciliations.hasten(batch, "default")
            await timetable.hasten(batch, connected.TIMETABLE_ENTRY)
        answer = await changing

    # Then both come to their ends
    assert answer.status_code == 200, answer.text
    assert await states(res) == {"cancelled": 1}
