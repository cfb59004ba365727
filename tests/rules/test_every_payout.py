"""A report of every automatic payout that Stripe has reconciled: with events, and without a single one."""

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest

from app import handlers
from app.accounts.payouts import DueList, note_read
from app.errors import NotNow
from app.health.judge import judge
from app.health.results import Check, Status
from app.resources import Resources, open_resources
from app.rules.slices import work_slice
from app.simulator import Simulator
from app.simulator.payouts import payouts_of
from app.simulator.state.connected import PayoutObject
from app.stripe_api import client
from app.stripe_api.client import StripeClient
from app.stripe_api.objects import Payout
from app.upkeep import connected_accounts, payouts
from app.upkeep.reconcile import reconcile
from app.web.month_counts import count_month
from tests.api.conftest import client_of
from tests.runs.stories import deliver, everything_is_due
from tests.service import (
    ADMIN_TOKEN,
    at,
    download_due,
    execute,
    fetch,
    look_up_due,
    make_settings,
    request_due,
    unpublished,
)
from tests.targets.stories import add_listener, months_told

TYPE = "payout_reconciliation.by_id.itemized.4"
OF_CONNECTED = f"connected_account_{TYPE}"
RULE = {"name": "payouts", "report_type": TYPE, "cadence": "every_payout", "starts_on": "2026-03-05"}


def reconciled(simulator: Simulator, *, until: str) -> None:
    """Stripe has the data of payouts until then."""
    for name in simulator.account().report_types:
        if "payout_reconciliation" in name:
            unpublished(simulator, name, until=until)


@pytest.fixture
async def admin(res: Resources, simulator: Simulator) -> Any:
    """The API on the morning of the 10th of March: payouts are reconciled until the 8th, and one was made by hand."""
    simulator.set_clock(to=at("2026-03-10T06:00").timestamp(), stopped=True)
    reconciled(simulator, until="2026-03-08")
    simulator.add_payout(10_000, "eur", created=at("2026-03-06T10:00").timestamp())
    await reconcile(res)
    async with client_of(res, ADMIN_TOKEN) as client:
        yield client


async def planned(res: Resources) -> None:
    """The lists are read, and what follows is planned."""
    await execute(res, "update payout_lists set read_at = read_at - interval '2 days'")
    while await payouts.read_lists(res):
        pass
    while await work_slice(res):
        pass


async def listed(simulator: Simulator, *, owner: str | None = None) -> dict[str, PayoutObject]:
    """What Stripe lists from the 5th of March on, by id."""
    found = simulator_payouts(simulator, owner)
    return {one.id: one for one in found if one.created >= at("2026-03-05").timestamp()}


def simulator_payouts(simulator: Simulator, owner: str | None) -> list[PayoutObject]:
    return list(payouts_of(simulator.world, simulator.account(), owner=owner, since=0))


async def keys(res: Resources) -> set[str]:
    """The payouts that have a run."""
    return {row["window_key"] for row in await fetch(res, "select window_key from runs")}


async def test_every_reconciled_payout_gets_its_report_without_any_event(
    res: Resources, admin: httpx.AsyncClient, simulator: Simulator
) -> None:
    made = await admin.post("/v1/rules", json=RULE)
    await planned(res)
    there = await listed(simulator)
    completed = {one.id for one in there.values() if one.reconciliation_status == "completed"}

    assert made.status_code == 201
    assert completed
    assert await keys(res) == completed != set(there)
    (by_hand,) = [one.id for one in there.values() if not one.automatic]
    assert by_hand not in await keys(res)
    (known,) = await fetch(res, "select automatic, reconciliation from payouts where id = :id", id=by_hand)
    assert (known["automatic"], known["reconciliation"]) == (False, "not_applicable")
    (warning,) = (await admin.post("/v1/rules/preview", json={"rule": "payouts"})).json()["warnings"]
    assert (warning["pointer"], warning["detail"].startswith("manual payouts: 1;")) == ("/cadence", True)

    reconciled(simulator, until="2026-03-09")
    await planned(res)
    await planned(res)
    now_completed = {one.id for one in (await listed(simulator)).values() if one.reconciliation_status == "completed"}
    assert await keys(res) == now_completed > completed
    while await request_due(res):
        simulator.set_clock(advance=3600)
        await everything_is_due(res)
        await look_up_due(res)
        await download_due(res)
    sent = [run.parameters for run in simulator.runs]
    assert sorted(str(one["payout"]) for one in sent) == sorted(now_completed)
    states = await fetch(res, "select distinct state from runs")
    assert [row["state"] for row in states] == ["stored"]


async def test_a_day_on_which_no_payout_arrives_has_no_file_and_says_so(
    res: Resources, admin: httpx.AsyncClient
) -> None:
    await admin.post("/v1/rules", json=RULE)
    await planned(res)
    await execute(res, "delete from runs where interval_start = '2026-03-08'")

    sunday = await admin.get("/v1/rules/payouts/files/2026-03-08")

    assert (sunday.status_code, "no payout that Stripe has reconciled arrived then" in sunday.text) == (404, True)


async def test_its_window_is_the_day_on_which_it_arrives(res: Resources, admin: httpx.AsyncClient) -> None:
    await admin.post("/v1/rules", json={**RULE, "timezone": "America/Los_Angeles"})
    await planned(res)

    shown = (await admin.get("/v1/runs", params={"limit": 1, "order": "-window"})).json()["data"][0]
    (payout,) = await fetch(res, "select arrives_on from payouts where id = :id", id=shown["parameters"]["payout"])
    assert shown["window"] == {
        "first": str(payout["arrives_on"]),
        "last": str(payout["arrives_on"]),
        "timezone": "America/Los_Angeles",
    }


async def test_an_event_makes_the_report_due_at_once_and_only_the_payout_is_read(
    res: Resources, admin: httpx.AsyncClient, simulator: Simulator
) -> None:
    await admin.post("/v1/rules", json=RULE)
    await planned(res)
    before, lists = await keys(res), simulator.world.journal.counts["list_payouts"]
    reconciled(simulator, until="2026-03-09")
    simulator.reconcile_payouts(until=at("2026-03-09").timestamp())
    for event in simulator.events:
        if event.type == "payout.reconciliation_completed":
            await deliver(res, event)
    await handlers.drain(res)
    assert await keys(res) == before

    await payouts.read_lists(res)
    await work_slice(res)

    assert len(await keys(res)) > len(before)
    assert simulator.world.journal.counts["list_payouts"] == lists
    assert simulator.world.journal.counts["retrieve_payout"] > 0


async def test_an_event_that_overtakes_a_page_of_the_list_is_not_lost(
    res: Resources, admin: httpx.AsyncClient, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await admin.post("/v1/rules", json=RULE)
    await planned(res)
    before = await keys(res)
    list_payouts = StripeClient.list_payouts

    async def overtaken(client: StripeClient, *given: Any, **named: Any) -> AsyncIterator[list[Payout]]:
        async for page in list_payouts(client, *given, **named):
            simulator.reconcile_payouts(until=at("2026-03-09").timestamp())
            for event in simulator.events:
                if event.type == "payout.reconciliation_completed":
                    await deliver(res, event)
            await handlers.drain(res)
            yield page

    with monkeypatch.context() as patched:
        patched.setattr(StripeClient, "list_payouts", overtaken)
        await planned(res)
    assert await keys(res) == before
    lists = simulator.world.journal.counts["list_payouts"]

    reconciled(simulator, until="2026-03-09")
    await payouts.read_lists(res)
    await work_slice(res)

    assert len(await keys(res)) > len(before)
    assert simulator.world.journal.counts["list_payouts"] == lists
    assert await fetch(res, "select 1 from payouts where look_at is not null") == []


@pytest.mark.parametrize(
    ("event", "trouble"),
    [(True, {"status": 500}), (True, {"status": 400}), (False, {"status": 500, "after": 1})],
    ids=["no list after an event", "a refused list after an event", "a list that broke off after its first page"],
)
async def test_a_payout_older_than_the_newest_one_known_is_found_by_the_next_list(
    res: Resources,
    admin: httpx.AsyncClient,
    simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    event: bool,
    trouble: dict[str, Any],
) -> None:
    # Given several payouts since the list was last read to its end, of which only the newest is known
    reconciled(simulator, until="2026-03-10T06:00")
    await admin.post("/v1/rules", json=RULE)
    await planned(res)
    before = await keys(res)
    await execute(res, "update payout_lists set read_at = :at", at=at("2026-03-10T06:00"))
    simulator.set_clock(to=at("2026-03-14T06:00").timestamp())
    reconciled(simulator, until="2026-03-14")
    if event:
        simulator.reconcile_payouts(until=at("2026-03-14").timestamp())
        await deliver(res, simulator.events[-1])
        await handlers.drain(res)
    monkeypatch.setattr(client, "LIST_PAGE", 1)
    simulator.inject("status", match={"path": "/v1/payouts$"}, **trouble)
    with suppress(NotNow):
        await payouts.read_lists(res)
    await work_slice(res)
    assert len(await keys(res)) == len(before) + 1

    # When the list is read again, then the others are known too
    await planned(res)
    there = (await listed(simulator)).values()
    assert await keys(res) == {one.id for one in there if one.reconciliation_status == "completed"}


@pytest.mark.parametrize("before", [True, False], ids=["a list that was read before", "a new one"])
async def test_a_payout_that_could_not_be_read_is_found_once_it_can_be(
    res: Resources, admin: httpx.AsyncClient, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    reconciled(simulator, until="2026-03-10T06:00")
    await admin.post("/v1/rules", json=RULE)
    if before:
        await planned(res)
    known = await keys(res)
    simulator.set_clock(to=at("2026-03-14T06:00").timestamp())
    reconciled(simulator, until="2026-03-14")
    completed = [one for one in (await listed(simulator)).values() if one.reconciliation_status == "completed"]
    odd = min((one for one in completed if one.id not in known), key=lambda one: one.created)
    rendered = PayoutObject.rendered
    with monkeypatch.context() as patched:
        patched.setattr(
            PayoutObject, "rendered", lambda one: rendered(one) | ({"automatic": None} if one.id == odd.id else {})
        )
        await planned(res)
    assert await keys(res) == {one.id for one in completed} - {odd.id}

    await planned(res)

    assert await keys(res) == {one.id for one in completed}


async def test_a_list_with_an_unreadable_item_is_read_from_its_start_once_a_day(
    res: Resources, admin: httpx.AsyncClient, simulator: Simulator
) -> None:
    await admin.post("/v1/rules", json=RULE)
    await planned(res)

    async def read_after(hours: int) -> int:
        before = simulator.world.journal.counts["list_payouts"]
        await execute(res, f"update payout_lists set read_at = clock_timestamp() - interval '{hours} hours'")
        await payouts.read_lists(res)
        return simulator.world.journal.counts["list_payouts"] - before

    assert await read_after(2) == 1
    await execute(res, "update payout_lists set read_from = null")
    assert [await read_after(hours) for hours in (2, 25, 2)] == [0, 1, 1]


async def test_payouts_of_connected_accounts_are_read_in_their_name(
    res: Resources, admin: httpx.AsyncClient, simulator: Simulator
) -> None:
    simulator.connect_account("acct_a", created=at("2026-01-01").timestamp())
    simulator.connect_account("acct_b", created=at("2026-01-01").timestamp())
    refused = await admin.post("/v1/rules", json={**RULE, "report_type": OF_CONNECTED})
    await admin.post("/v1/rules", json={**RULE, "report_type": OF_CONNECTED, "connected": "each"})
    await connected_accounts.read_lists(res)
    await planned(res)

    assert refused.json()["errors"][0]["pointer"] == "/connected"
    for owner in ("acct_a", "acct_b"):
        completed = {
            one.id
            for one in (await listed(simulator, owner=owner)).values()
            if one.automatic and one.reconciliation_status == "completed"
        }
        rows = await fetch(res, "select window_key, parameters from runs where connected_account = :owner", owner=owner)
        assert {row["window_key"] for row in rows} == completed
        assert {row["parameters"]["connected_account"] for row in rows} == {owner}


async def test_lists_that_stripe_refuses_are_shown_and_hold_up_no_other(
    res: Resources, admin: httpx.AsyncClient, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("acct_a", "acct_b", "acct_c"):
        simulator.connect_account(name, created=at("2026-01-01").timestamp())
    await admin.post("/v1/rules", json={**RULE, "report_type": OF_CONNECTED, "connected": "each"})
    await connected_accounts.read_lists(res)
    (key,) = simulator.world.keys
    permissions = set(simulator.world.keys[key].permissions)
    simulator.change_key(key, permissions=permissions - {"payouts"})
    await planned(res)
    monkeypatch.setattr(payouts, "LISTS_AT_ONCE", 2)
    await execute(res, "update payout_lists set read_at = read_at - interval '2 days'")

    more = [await payouts.read_lists(res) for _ in range(3)]

    assert more == [True, False, False]
    found = await check_of_lists(res)
    assert (found.status, "default: 3 lists (acct_a: " in found.detail) == (Status.DEGRADED, True)
    assert "`Payouts: read`" in str(found.advice)
    simulator.change_key(key, permissions=permissions)
    await planned(res)
    assert await keys(res)
    assert (await check_of_lists(res)).status is Status.OK


@pytest.mark.parametrize("away", ["hold", "500"])
async def test_payouts_of_an_account_that_stripe_does_not_answer_for_keep_no_others_from_being_read(
    res: Resources, admin: httpx.AsyncClient, database_url: str, simulator: Simulator, away: str
) -> None:
    # Given more waiting payouts of an account that cannot be read than one batch holds, and newer ones of another
    simulator.add_account("eu")
    first, second = [one.id for one in payouts_of(simulator.world, simulator.account("eu"), owner=None, since=0)][-2:]
    named = "insert into payouts (account, connected_account, id, look_at)"
    hour = f"{named} select 'default', '', 'po_' || n, now() - interval '1 hour' from generate_series(1, 60) as n"
    await execute(res, hour)
    if away == "hold":
        later = "now() + interval '1 hour'"
        await execute(res, f"insert into account_holds values ('default', 'read', '401: revoked', now(), 0, {later})")
    simulator.inject("status", match={"path": f"/v1/payouts/(po_[0-9]{{1,2}}|{first})$"}, times=None)
    accounts = json.dumps({"eu": {"api_key": "sk_test_simulator_eu"}})
    async with open_resources(make_settings(database_url, simulator, STRIPE_ACCOUNTS=accounts)) as two:
        await execute(two, f"{named} values ('eu', '', :first, now()), ('eu', '', :second, clock_timestamp())",
            first=first, second=second)  # fmt: skip

        # When the round has come to its end, then each of the others was asked for
        with pytest.raises(NotNow, match=r"default: .*; eu: "):
            await payouts.read_lists(two)

    waiting = await fetch(res, "select account, id from payouts where look_at is not null and account = 'eu'")
    assert [row["id"] for row in waiting] == [first]
    read = await fetch(res, "select id from payouts where seen_at is not null and account = 'eu'")
    assert [row["id"] for row in read] == [second]


async def test_all_payouts_of_the_others_are_read_in_the_round_in_which_one_account_is_on_hold(
    res: Resources, admin: httpx.AsyncClient, database_url: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payouts, "LISTS_AT_ONCE", 1)
    simulator.add_account("eu")
    named = [one.id for one in payouts_of(simulator.world, simulator.account("eu"), owner=None, since=0)][-3:]
    later = "now() + interval '1 hour'"
    await execute(res, f"insert into account_holds values ('default', 'read', '401: revoked', now(), 0, {later})")
    waiting = "insert into payouts (account, connected_account, id, look_at)"
    await execute(res, f"{waiting} values ('default', '', 'po_1', now() - interval '1 hour')")
    accounts = json.dumps({"eu": {"api_key": "sk_test_simulator_eu"}})

    async with open_resources(make_settings(database_url, simulator, STRIPE_ACCOUNTS=accounts)) as two:
        theirs = f"{waiting} select 'eu', '', id, now() from unnest(cast(:named as text[])) as id"
        await execute(two, theirs, named=named)

        with pytest.raises(NotNow, match=r"default: .* on hold"):
            await payouts.read_lists(two)

    read = await fetch(res, "select id from payouts where seen_at is not null and account = 'eu'")
    assert {row["id"] for row in read} == set(named)


async def test_an_account_that_could_not_be_read_is_asked_again_while_others_still_wait(
    res: Resources, admin: httpx.AsyncClient, database_url: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payouts, "LISTS_AT_ONCE", 1)
    monkeypatch.setattr(payouts, "LEFT_OUT_SECONDS", 0.0)
    simulator.add_account("eu")
    of_eu = [one.id for one in payouts_of(simulator.world, simulator.account("eu"), owner=None, since=0)][-3:]
    own = simulator_payouts(simulator, None)[-1].id
    simulator.inject("status", match={"path": f"/v1/payouts/{own}$"}, times=1)
    accounts = json.dumps({"eu": {"api_key": "sk_test_simulator_eu"}})

    async with open_resources(make_settings(database_url, simulator, STRIPE_ACCOUNTS=accounts)) as two:
        waiting = "insert into payouts (account, connected_account, id, look_at)"
        await execute(two, f"{waiting} values ('default', '', :own, now() - interval '1 hour')", own=own)
        await execute(two, f"{waiting} select 'eu', '', id, now() from unnest(cast(:ids as text[])) as id", ids=of_eu)
        more = [await payouts.read_lists(two) for _ in range(2)]

    assert more == [True, True]
    read = await fetch(res, "select account, id from payouts where seen_at is not null")
    assert [row["id"] for row in read if row["account"] == "default"] == [own]
    assert len([row["id"] for row in read if row["account"] == "eu"]) == 1


async def check_of_lists(res: Resources) -> Check:
    (found,) = [one for one in (await judge(res.sessions, res.settings)).checks if one.name == "payout_lists"]
    return found


async def test_a_400_about_a_payout_waits_for_more_data_and_spends_no_attempt(
    res: Resources, admin: httpx.AsyncClient, simulator: Simulator
) -> None:
    await admin.post("/v1/rules", json=RULE)
    await planned(res)
    simulator.inject("status", match={"method": "POST"}, status=400, param="parameters[payout]", times=None)
    await request_due(res)

    rows = await fetch(res, "select distinct state, attempt, refused_at_availability is not null as waits from runs")
    assert [(row["state"], row["attempt"], row["waits"]) for row in rows] == [("planned", 1, True)]
    simulator.clear_faults()
    assert await request_due(res) == 0
    reconciled(simulator, until="2026-03-09")
    await reconcile(res)
    assert await request_due(res) > 0


async def test_coverage_pages_through_payouts_that_arrive_on_one_day(res: Resources, admin: httpx.AsyncClient) -> None:
    await admin.post("/v1/rules", json=RULE)
    await planned(res)
    everything = (await admin.get("/v1/rules/payouts/coverage", params={"limit": 100})).json()["data"]
    pages: list[dict[str, Any]] = []
    asked: dict[str, Any] = {"limit": 1}
    while True:
        page = (await admin.get("/v1/rules/payouts/coverage", params=asked)).json()
        pages += page["data"]
        if page["next_cursor"] is None:
            break
        asked["cursor"] = page["next_cursor"]

    assert pages == everything
    assert {one["run_id"] for one in pages} == {str(row["id"]) for row in await fetch(res, "select id from runs")}


async def test_a_backfill_covers_payouts_from_before_the_rule(res: Resources, admin: httpx.AsyncClient) -> None:
    await admin.post("/v1/rules", json={**RULE, "name": "older", "starts_on": "2026-03-01"})
    await admin.post("/v1/rules", json=RULE)
    await planned(res)

    counts = (await admin.post("/v1/rules/payouts/backfill", json={"from": "2026-03-02", "to": "2026-03-06"})).json()
    while await work_slice(res):
        pass

    assert counts["planned"] > 0
    per_rule = await fetch(res, "select count(distinct window_key) as number from runs group by rule_id")
    assert len({row["number"] for row in per_rule}) == 1


async def test_a_backfill_selects_payouts_by_the_day_on_which_they_arrive(
    res: Resources, admin: httpx.AsyncClient
) -> None:
    # Given a failed run of a payout that was made at the end of one month, and arrived at the beginning of the next
    await admin.post("/v1/rules", json=RULE)
    await planned(res)
    (payout,) = await fetch(res, "update payouts set stripe_created_at = '2026-03-30', arrives_on = '2026-04-03' "
        "where id = (select min(window_key) from runs) returning id")  # fmt: skip
    await execute(res, "update runs set state = 'failed', interval_start = '2026-04-03', interval_end = '2026-04-04' "
        "where window_key = :id", id=payout["id"])  # fmt: skip

    async def backfilled(month: str, through: str) -> dict[str, Any]:
        asked = {"from": month, "through": through, "dry_run": True}
        return dict((await admin.post("/v1/rules/payouts/backfill", json=asked)).json())

    covered = await admin.get("/v1/rules/payouts/coverage", params={"from": "2026-04-01", "through": "2026-04-30"})
    assert [one["state"] for one in covered.json()["data"]] == ["failed"]
    assert (await backfilled("2026-04-01", "2026-04-30"))["retried"] == 1
    assert (await backfilled("2026-03-01", "2026-03-31"))["retried"] == 0


async def test_a_backfill_from_a_rules_start_leaves_out_what_was_made_before_it(
    res: Resources, admin: httpx.AsyncClient
) -> None:
    start = date.fromisoformat(RULE["starts_on"])
    await admin.post("/v1/rules", json=RULE)
    await planned(res)
    before = await fetch(res, "select 1 from payouts where automatic and reconciliation = 'completed' "
        "and stripe_created_at < :start and arrives_on >= :start", start=start)  # fmt: skip
    assert before != []

    async def backfilled(first: date) -> dict[str, Any]:
        asked = {"from": str(first), "through": str(start + timedelta(days=20)), "dry_run": True}
        return dict((await admin.post("/v1/rules/payouts/backfill", json=asked)).json())

    assert (await backfilled(start))["planned"] == 0
    assert (await backfilled(start - timedelta(days=1)))["planned"] >= len(before)


async def test_payouts_need_their_cadence_and_the_cadence_needs_payouts(admin: httpx.AsyncClient) -> None:
    wrong = [
        await admin.post("/v1/rules/preview", json={**RULE, **change})
        for change in (
            {"cadence": "daily"},
            {"report_type": "balance.summary.1"},
            {"parameters": {"payout": "po_1"}},
        )
    ]

    assert [answer.json()["errors"][0]["pointer"] for answer in wrong] == ["/cadence", "/cadence", "/parameters/payout"]


async def all_stored(res: Resources, simulator: Simulator) -> None:
    await planned(res)
    while await request_due(res):
        simulator.set_clock(advance=3600)
        await everything_is_due(res)
        await look_up_due(res)
        await download_due(res)


async def lacking(res: Resources, admin: httpx.AsyncClient, month: int = 3) -> list[tuple[str, str, str]]:
    """What the pack of March says it lacks, and how the reasons begin; its page says the same."""
    pack = await admin.get(f"/v1/packs/2026-{month:02}.zip")
    missing = [] if pack.status_code == 200 else pack.json()["missing"]
    first, until = date(2026, month, 1), date(2026, month + 1, 1)
    async with res.sessions() as session:
        gaps = (await count_month(session, first, until, at("2026-05-04T06:00")))[0].gaps
    assert [gap.reason.lower() for gap in gaps] == [f"{one['reason'].lower()}." for one in missing]
    return [(one["first"], one["last"], one["reason"].split(":")[0]) for one in missing]


async def test_a_month_is_complete_when_it_is_over_and_each_payout_that_arrived_in_it_has_its_report(
    res: Resources, admin: httpx.AsyncClient, simulator: Simulator
) -> None:
    await add_listener(res)
    await admin.post("/v1/rules", json={**RULE, "starts_on": "2026-03-28"})
    moved = "update payouts set stripe_created_at = stripe_created_at + :by where reconciliation <> 'completed'"
    until_now = datetime.now(UTC) - at("2026-03-29")
    for day, until in (("2026-04-04", "2026-03-29"), ("2026-04-06", "2026-04-04")):
        simulator.set_clock(to=at(f"{day}T06:00").timestamp(), stopped=True)
        reconciled(simulator, until=until)
        await reconcile(res)
        await all_stored(res, simulator)
        if day == "2026-04-04":
            await execute(res, moved, by=until_now)
            assert await months_told(res) == [], "one that arrived in March is not reconciled"
            assert await lacking(res, admin) == [("2026-03-28", "2026-03-31", "a payout that arrived has no report")]
            await execute(res, moved, by=-until_now)
    await execute(res, "update payout_lists set read_at = '2026-03-31T23:00Z', whole_at = null")
    assert await months_told(res) == [], "there may be others"
    unread = "the list of payouts has not been read since the month ended"
    assert await lacking(res, admin) == [("2026-03-28", "2026-03-31", unread)]
    await execute(res, "update payout_lists set read_at = '2026-04-01T00:30Z', read_from = null")
    assert await months_told(res) == [], "one of the list could not be read"
    unreadable = "an item of the list of payouts cannot be read"
    assert await lacking(res, admin) == [("2026-03-28", "2026-03-31", unreadable)]
    await execute(res, "update payout_lists set read_from = '2026-03-28'")
    assert await lacking(res, admin) == []
    told = await months_told(res)

    arrived = await fetch(
        res,
        "select 1 from payouts where automatic and stripe_created_at >= '2026-03-28' and arrives_on < '2026-04-01'",
    )
    assert told == [("2026-03", len(arrived))]


async def test_a_complete_month_stays_so_when_its_list_can_no_longer_be_read_and_later_ones_say_why(
    res: Resources, admin: httpx.AsyncClient, simulator: Simulator
) -> None:
    await admin.post("/v1/rules", json=RULE)
    await all_stored(res, simulator)
    await execute(res, "delete from payouts where reconciliation <> 'completed'")

    async def read(**how: Any) -> None:
        async with res.sessions.begin() as session:
            await note_read(session, DueList("default", "", at("2026-03-03")), **how)

    async def april(**how: Any) -> list[str]:
        """What April lacks, and March does not, after a reading like this."""
        await read(**how)
        assert await lacking(res, admin) == []
        return [reason for _, _, reason in await lacking(res, admin, 4)]

    await execute(res, "update rules set created_at = '2026-03-05'")
    await execute(res, "update payout_lists set read_at = '2026-04-30', whole_at = null")
    assert await april(refusal="403: restricted") == ["Stripe refuses the list of payouts"]
    assert await april(refusal="403: restricted") == ["Stripe refuses the list of payouts"]
    assert await april(whole=False) == ["an item of the list of payouts cannot be read"]
    assert await april(whole=False) == ["an item of the list of payouts cannot be read"]
    found = await check_of_lists(res)
    assert (found.status, found.detail.endswith("default: 1 list (its own)")) == (Status.DEGRADED, True)

    # A rule made since then may owe payouts of which nothing is known
    await execute(res, "update rules set created_at = '2026-05-01'")
    assert await lacking(res, admin) != []
    await read()
    assert await lacking(res, admin) == []
    assert (await check_of_lists(res)).status is Status.OK
    await execute(res, "update payout_lists set read_from = '2026-03-06'")
    assert await lacking(res, admin) != []


@pytest.mark.parametrize(("days", "owed"), [(59, 1), (61, 0)])
async def test_a_payout_that_stripe_never_reconciles_keeps_its_month_open_for_60_days(
    res: Resources, admin: httpx.AsyncClient, simulator: Simulator, days: int, owed: int
) -> None:
    await admin.post("/v1/rules", json=RULE)
    await all_stored(res, simulator)
    await execute(res, "delete from payouts where reconciliation <> 'completed'")
    assert await lacking(res, admin) == []

    made = f"clock_timestamp() - interval '{days} days'"
    values = f"values ('default', '', 'po_late', {made}, '2026-03-20', true, 'in_progress')"
    columns = "account, connected_account, id, stripe_created_at, arrives_on, automatic, reconciliation"
    await execute(res, f"insert into payouts ({columns}) {values}")
    assert len(await lacking(res, admin)) == owed

    # However old one is that can be itemized, its report is owed
    await execute(res, "update payouts set reconciliation = 'completed' where id = 'po_late'")
    assert len(await lacking(res, admin)) == 1


async def test_the_last_month_is_complete_though_its_last_payout_came_days_before_its_end(
    res: Resources, admin: httpx.AsyncClient, simulator: Simulator
) -> None:
    await add_listener(res)
    await admin.post("/v1/rules", json=RULE)
    await all_stored(res, simulator)
    await execute(res, "delete from payouts where reconciliation <> 'completed'")
    await execute(res, "update run_moves set at = at - interval '3 days'")
    (last,) = await fetch(res, "select date_trunc('month', now() at time zone 'UTC') - interval '1 month' as month")
    later = "+ (cast(:month as timestamp) - timestamp '2026-03-01')"
    days = f"interval_start = interval_start {later}, interval_end = interval_end {later}"
    await execute(res, f"update runs set {days}", month=last["month"])

    assert await months_told(res) == [(f"{last['month']:%Y-%m}", len(await keys(res)))]
