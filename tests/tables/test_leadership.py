"""One rule leads at any time: nothing adds up twice, and no month changes because rules come and go."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.errors import BadInput, Conflict
from app.resources import Resources
from app.rules import changes, store, withdrawals
from app.tables import leadership
from app.tables.catalogue import family_of
from tests.service import add_rule, execute, fetch
from tests.tables.stored import day, line, load_all, rows, stored_and_loaded
from tests.tables.stored import store as store_file

DAILY = "balance_change_from_activity.itemized.6"
NEXT = "balance_change_from_activity.itemized.7"


async def made(res: Resources, name: str, **values: Any) -> UUID:
    """A rule made as the API makes it."""
    rule = await add_rule(res, name=name, **{"report_type": DAILY, "starts_on": date(2026, 10, 1), **values})
    async with res.sessions.begin() as session:
        await leadership.settle(session, *leadership.table_of(rule))
    return rule.id


async def changed(res: Resources, rule_id: UUID, **table: Any) -> None:
    async with res.sessions.begin() as session:
        rule = await store.get(session, rule_id, lock=True)
        wanted = replace(store.values_of(rule), table={**rule.table, **table})
        await changes.change(session, rule, wanted, settings=res.settings, by="test")


async def given(res: Resources, rule_id: UUID, **values: Any) -> None:
    """Other values of a rule, as the API changes them."""
    async with res.sessions.begin() as session:
        rule = await store.get(session, rule_id, lock=True)
        await changes.change(session, rule, replace(store.values_of(rule), **values), settings=res.settings, by="test")


async def months(res: Resources) -> dict[str, Decimal]:
    """What a bookkeeper asks: the net of each month."""
    found = await fetch(
        res,
        "select to_char(_interval_start at time zone 'UTC', 'MM') as month, sum(net) as net"
        " from reports.balance_change_from_activity_itemized group by 1 order by 1",
    )
    return {row["month"]: row["net"] for row in found}


async def a_day(res: Resources, rule_id: UUID, number: int, month: int = 10, **more: Any) -> None:
    await store_file(res, rows(line(month * 100 + number, "1.00")), rule_id=rule_id, start=day(number, month), **more)


async def test_a_monthly_beside_a_daily_rule_never_counts_twice(tables: Resources) -> None:
    daily, monthly = await made(tables, "daily"), await made(tables, "monthly", cadence="monthly")
    for number in range(1, 32):
        await a_day(tables, daily, number)
    whole = rows(*(line(1000 + number, "1.00") for number in range(1, 32)))
    await store_file(tables, whole, rule_id=monthly, start=day(1), end=day(32))
    await load_all(tables)

    assert await months(tables) == {"10": 31}
    async with tables.sessions() as session:
        assert await leadership.leading(session, [daily, monthly]) == {daily}


async def test_6_followed_by_7_in_mid_year_leaves_every_month_as_it_was(tables: Resources) -> None:
    six = await made(tables, "six")
    for number in (1, 2):
        await a_day(tables, six, number)
    await load_all(tables)
    before = await months(tables)

    seven = await made(
        tables, "seven", report_type=NEXT, starts_on=date(2026, 10, 3), table={"state": "leading", "personal": []}
    )
    await a_day(tables, six, 3)
    await a_day(tables, seven, 3, report_type=NEXT)
    await a_day(tables, seven, 1, 11, report_type=NEXT)
    await load_all(tables)

    assert before == {"10": 2}
    assert await months(tables) == {"10": 3, "11": 1}


async def test_a_rule_deleted_and_made_again_leaves_every_month_as_it_was(tables: Resources) -> None:
    first = await made(tables, "daily")
    for number in (1, 2):
        await a_day(tables, first, number)
    await load_all(tables)
    async with tables.sessions.begin() as session:
        await changes.remove(session, await store.get(session, first, lock=True), by="test")
    assert await months(tables) == {"10": 2}

    second = await made(tables, "daily")
    for number in (1, 2, 3):
        await a_day(tables, second, number)
    await load_all(tables)

    assert await months(tables) == {"10": 3}


async def test_listed_beside_together_never_counts_twice(tables: Resources) -> None:
    type_ = "connected_account_balance_change_from_activity.itemized.3"
    together = await made(tables, "together", report_type=type_)
    listed = await made(tables, "listed", report_type=type_, connected_accounts=["acct_1"])
    header = "connected_account,balance_transaction_id,currency,net"
    both = rows("acct_1,txn_1,usd,1.00", "acct_2,txn_2,usd,1.00", header=header)
    await stored_and_loaded(tables, both, rule_id=together, report_type=type_)
    one = rows("acct_1,txn_1,usd,1.00", header=header)
    await stored_and_loaded(tables, one, rule_id=listed, report_type=type_, connected_account="acct_1")

    (found,) = await fetch(
        tables, "select sum(net) as net from reports.connected_balance_change_from_activity_itemized"
    )
    assert found["net"] == 2


CONNECT = "connected_account_balance_change_from_activity.itemized.3"
CONNECT_HEADER = "connected_account,balance_transaction_id,currency,net"
SUMS = (
    "select _connected_account as whose, sum(net) as net from reports.connected_balance_change_from_activity_itemized"
    " group by 1 order by 1"
)


async def of_accounts(res: Resources, rule_id: UUID, *numbers: int, on: int = 1) -> None:
    """The files of accounts for a day, with a line of 1.00 in each."""
    for number in numbers:
        content = rows(f"acct_{number},txn_{on},usd,1.00", header=CONNECT_HEADER)
        await store_file(
            res, content, rule_id=rule_id, report_type=CONNECT, start=day(on), connected_account=f"acct_{number}"
        )
    await load_all(res)


async def sums(res: Resources) -> dict[str | None, Decimal]:
    return {row["whose"]: row["net"] for row in await fetch(res, SUMS)}


async def test_the_rows_of_each_account_are_there_and_none_twice(tables: Resources) -> None:
    each = await made(tables, "each", report_type=CONNECT, connected="each")
    listed = await made(tables, "listed", report_type=CONNECT, connected_accounts=["acct_1"])
    together = await made(tables, "together", report_type=CONNECT)

    await of_accounts(tables, each, 1, 2, 3)
    await of_accounts(tables, listed, 1)
    everything = rows("acct_1,txn_1,usd,1.00", header=CONNECT_HEADER)
    await stored_and_loaded(tables, everything, rule_id=together, report_type=CONNECT)

    assert await sums(tables) == {"acct_1": 1, "acct_2": 1, "acct_3": 1}
    async with tables.sessions() as session:
        assert await leadership.leading(session, [each, listed, together]) == {each}


async def test_each_leads_the_accounts_that_no_other_rule_has_led_before(tables: Resources) -> None:
    listed = await made(tables, "listed", report_type=CONNECT, connected_accounts=["acct_1"])
    await of_accounts(tables, listed, 1)
    each = await made(tables, "each", report_type=CONNECT, connected="each", starts_on=date(2026, 9, 30))
    await of_accounts(tables, each, 1, 2)
    await of_accounts(tables, each, 1, on=0)

    assert await sums(tables) == {"acct_1": 2, "acct_2": 1}  # one of a day before `listed` begins

    async with tables.sessions.begin() as session:
        await changes.remove(session, await store.get(session, listed, lock=True), by="test")
    await of_accounts(tables, each, 1, 2, on=2)
    assert await sums(tables) == {"acct_1": 3, "acct_2": 2}


async def test_a_rule_that_says_leading_takes_its_accounts_from_each_and_leaves_the_others(tables: Resources) -> None:
    each = await made(tables, "each", report_type=CONNECT, connected="each")
    await of_accounts(tables, each, 1, 2)
    table = {"state": "leading", "personal": []}
    values: dict[str, Any] = {"report_type": CONNECT, "connected_accounts": ["acct_1"], "table": table}
    listed = await made(tables, "listed", starts_on=date(2026, 10, 2), **values)
    for rule_id in (each, listed):
        await of_accounts(tables, rule_id, 1, on=2)
    await of_accounts(tables, each, 2, on=2)

    assert await sums(tables) == {"acct_1": 2, "acct_2": 2}
    (whose,) = await fetch(
        tables, "select _rule from reports.connected_balance_change_from_activity_itemized"
        " where _connected_account = 'acct_1' and _interval_start = :day", day=day(2),
    )  # fmt: skip
    assert whose["_rule"] == "listed"

    async with tables.sessions.begin() as session:
        await changes.remove(session, await store.get(session, each, lock=True), by="test")
    assert await sums(tables) == {"acct_1": 2, "acct_2": 2}


async def test_an_account_that_a_rule_no_longer_names_is_led_by_another_from_there_on(tables: Resources) -> None:
    first = await made(tables, "first", report_type=CONNECT, connected_accounts=["acct_1", "acct_2"])
    await of_accounts(tables, first, 1, 2)

    await given(tables, first, connected_accounts=["acct_1"])
    second = await made(tables, "second", report_type=CONNECT, connected_accounts=["acct_2"])
    await of_accounts(tables, second, 2)
    await of_accounts(tables, second, 2, on=2)
    await of_accounts(tables, first, 1, on=2)
    assert await sums(tables) == {"acct_1": 2, "acct_2": 2}


async def test_a_rule_for_each_that_names_its_accounts_from_now_on_shows_what_it_showed(tables: Resources) -> None:
    each = await made(tables, "each", report_type=CONNECT, connected="each")
    await of_accounts(tables, each, 1, 2)

    await given(tables, each, connected="listed", connected_accounts=["acct_1"])
    await of_accounts(tables, each, 1, on=2)
    assert await sums(tables) == {"acct_1": 2, "acct_2": 1}

    await given(tables, each, connected="each", connected_accounts=[])
    await of_accounts(tables, each, 1, 2, on=3)
    assert await sums(tables) == {"acct_1": 3, "acct_2": 2}


async def test_lines_of_accounts_that_a_rule_leaves_out_are_not_shown(tables: Resources) -> None:
    together = await made(tables, "together", report_type=CONNECT)
    both = rows("acct_1,txn_1,usd,1.00", "acct_2,txn_2,usd,2.00", header=CONNECT_HEADER)
    await stored_and_loaded(tables, both, rule_id=together, report_type=CONNECT)

    assert await sums(tables) == {None: 3}
    await execute(tables, "update loads set object_due = false")
    await given(tables, together, excepted=["acct_2"])
    assert await sums(tables) == {None: 1}
    every = "select connected_account, _is_current from reports.connected_balance_change_from_activity_itemized_all"
    assert {row["connected_account"]: row["_is_current"] for row in await fetch(tables, every)} == {
        "acct_1": True, "acct_2": False,
    }  # fmt: skip
    assert await fetch(tables, "select object_due from loads") == [{"object_due": True}]
    await given(tables, together, excepted=[])
    assert await sums(tables) == {None: 3}


async def test_kept_gives_way_and_the_next_rule_leads(tables: Resources) -> None:
    daily, other = await made(tables, "daily"), await made(tables, "other")
    await a_day(tables, daily, 1)
    await store_file(tables, rows(line(1, "5.00")), rule_id=other)
    await load_all(tables)

    await changed(tables, daily, state="kept")

    assert await months(tables) == {"10": 5}


async def test_off_takes_the_rows_away_and_auto_brings_none_back_by_itself(tables: Resources) -> None:
    daily = await made(tables, "daily")
    await a_day(tables, daily, 1)
    await load_all(tables)

    await changed(tables, daily, state="off")

    assert await months(tables) == {}
    assert (await fetch(tables, "select state from loads")) == [{"state": "removed"}]


async def test_a_column_that_is_no_longer_named_leaves_the_table(tables: Resources) -> None:
    daily = await made(tables, "daily", table={"state": "auto", "personal": ["description"]})
    content = rows("txn_1,usd,1.00,shoes", header="balance_transaction_id,currency,net,description")
    await stored_and_loaded(tables, content, rule_id=daily)
    view = "reports_personal.balance_change_from_activity_itemized"
    before = await fetch(tables, f"select description from {view}")

    await changed(tables, daily, personal=[])
    await load_all(tables)

    assert before == [{"description": "shoes"}]
    assert await fetch(tables, f"select description from {view}") == [{"description": None}]


async def test_two_rules_that_say_leading_are_refused(tables: Resources) -> None:
    leading_table = {"state": "leading", "personal": []}
    await made(tables, "one", table=leading_table)

    with pytest.raises(Conflict, match="rules 'two' and 'one' both say that they lead"):
        await made(tables, "two", table=leading_table)
    with pytest.raises(BadInput, match="cannot lead"):
        leadership.check("leading", {"currency": "usd"})


async def test_the_api_takes_and_shows_what_is_done_with_rows(tables: Resources, api: httpx.AsyncClient) -> None:
    rule = {"report_type": DAILY, "cadence": "daily", "starts_on": "2026-10-01"}
    first = (await api.post("/v1/rules", json={**rule, "name": "a", "recheck_days": [3, 30]})).json()
    second = (await api.post("/v1/rules", json={**rule, "name": "b", "table": {"personal": ["description"]}})).json()

    assert first["table"] == {"state": "auto", "personal": [], "leads": True}
    assert (first["connected"], first["recheck_days"]) == ("none", [3, 30])
    assert second["table"] == {"state": "auto", "personal": ["description"], "leads": False}
    patched = await api.patch(f"/v1/rules/{second['id']}", json={"table": {"state": "leading"}})
    assert patched.json()["table"]["leads"] is True
    for wrong in ({"connected": "each"}, {"connected": "together"}, {"table": {"state": "maybe"}}):
        assert (await api.post("/v1/rules", json={**rule, "name": "c", **wrong})).status_code == 422
    filtered = {"parameters": {"currency": "usd"}, "table": {"state": "leading"}}
    assert (await api.post("/v1/rules", json={**rule, "name": "d", **filtered})).status_code == 422


async def test_a_preview_says_which_checks_a_rule_feeds_and_what_they_lack(api: httpx.AsyncClient) -> None:
    wanted = {"report_type": DAILY, "cadence": "daily"}

    fed = {one["name"]: one["missing"] for one in (await api.post("/v1/rules/preview", json=wanted)).json()["checks"]}
    await api.post("/v1/rules", json={"name": "balance", "report_type": "balance.summary.1", "cadence": "daily"})
    then = {one["name"]: one["missing"] for one in (await api.post("/v1/rules/preview", json=wanted)).json()["checks"]}

    assert (fed["activity_total"], fed["row_net"]) == (["balance.summary"], [])
    assert then["activity_total"] == []
    assert "balance_rolls" not in fed


def candidate(name: str, *, starts: int, state: str = "auto", deleted: bool = False) -> leadership.Candidate:
    return leadership.Candidate(
        UUID(int=ord(name)), name, DAILY, "UTC", date(2026, 10, starts), {}, None, [], state, deleted
    )


def at(number: int) -> datetime:
    return datetime(2026, 10, 1, tzinfo=UTC) + timedelta(days=number - 1)


def test_a_successor_begins_where_a_window_of_its_predecessor_ends() -> None:
    old, new = candidate("a", starts=1), candidate("b", starts=15, state="leading")
    held = [leadership.Period(old.id, "", at(1), None)]
    straddling = [leadership.Made(old.id, "", new.starts_at, at(20))]

    after = leadership.decide([old, new], held, straddling)

    assert [(p.rule_id, p.starts_at, p.ends_at) for p in after] == [
        (old.id, at(1), at(20)),
        (new.id, at(20), None),
    ]


def test_deciding_twice_changes_nothing() -> None:
    rules = [candidate("a", starts=5), candidate("b", starts=1), candidate("c", starts=9, state="leading")]

    once = leadership.decide(rules, [], [])

    assert leadership.decide(rules, once, []) == once
    assert [(p.rule_id, p.starts_at, p.ends_at) for p in once] == [
        (rules[1].id, at(1), at(5)),
        (rules[0].id, at(5), at(9)),
        (rules[2].id, at(9), None),
    ]


async def test_every_period_of_a_scope_is_alone(tables: Resources) -> None:
    for number in range(4):
        await made(tables, f"rule {number}", starts_on=date(2026, 10, 1 + number))
    await execute(tables, "update rules set deleted_at = now() where name = 'rule 1'")
    async with tables.sessions.begin() as session:
        await leadership.settle(session, "default", family_of(DAILY).id)

    overlapping = await fetch(
        tables,
        "select 1 from leaderships as a join leaderships as b on a.id < b.id and a.scope = b.scope"
        " and tstzrange(a.starts_at, a.ends_at) && tstzrange(b.starts_at, b.ends_at)",
    )
    assert overlapping == []


async def test_a_rule_that_moves_to_another_account_leaves_its_table_to_the_next(tables: Resources) -> None:
    first, second = await made(tables, "first"), await made(tables, "second")
    await execute(tables, "insert into accounts (slug) values ('other')")
    settings = tables.settings.model_copy()
    settings.__dict__["accounts"] = {**tables.settings.accounts, "other": tables.settings.accounts["default"]}

    async with tables.sessions.begin() as session:
        rule = await store.get(session, first, lock=True)
        wanted = replace(store.values_of(rule), account="other")
        await changes.change(session, rule, wanted, settings=settings, by="test")

    async with tables.sessions() as session:
        assert await leadership.leading(session, [first, second]) == {first, second}


async def test_the_next_rule_leads_from_the_first_window_that_a_deleted_one_has_not_requested(
    tables: Resources,
) -> None:
    first, second = await made(tables, "first"), await made(tables, "second")
    await a_day(tables, first, 1)
    await a_day(tables, first, 2)
    await execute(tables, "update runs set state = 'planned', stored_at = null where window_key = '2026-10-02'")
    await execute(tables, "delete from loads using runs where runs.id = run_id and runs.state = 'planned'")

    async with tables.sessions.begin() as session:
        await changes.remove(session, await store.get(session, first, lock=True), by="test")
    await a_day(tables, second, 2)
    await load_all(tables)

    assert await months(tables) == {"10": 2}


@pytest.mark.parametrize("withdrawn", [False, True], ids=["deleted", "taken out"])
async def test_a_window_that_is_planned_again_after_its_rule_has_ended_still_shows(
    tables: Resources, withdrawn: bool
) -> None:
    # Given a rule that ends for an account while Stripe is making its newest report
    of_one: dict[str, Any] = {"connected_account": "acct_1"}
    first = await made(tables, "first", connected_accounts=["acct_1", "acct_2"])
    await a_day(tables, first, 1, **of_one)
    await a_day(tables, first, 2, **of_one)
    await load_all(tables)
    await execute(tables, "update runs set state = 'requested', stored_at = null where window_key = '2026-10-02'")
    if withdrawn:
        await given(tables, first, connected_accounts=["acct_2"])
    else:
        async with tables.sessions.begin() as session:
            await changes.remove(session, await store.get(session, first, lock=True), by="test")

    # When that report fails and is planned again while the next rule comes
    await execute(tables, "update runs set state = 'planned' where state = 'requested'")
    second = await made(tables, "second", connected_accounts=["acct_1"], starts_on=date(2026, 10, 3))
    await a_day(tables, second, 3, **of_one)
    await load_all(tables)

    # Then its day is the first rule's
    assert await months(tables) == {"10": 3}


async def test_what_a_withdrawal_has_yet_to_cancel_does_not_keep_the_next_rule_from_leading(
    tables: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(withdrawals, "BATCH", 1)
    first, second = await made(tables, "first"), await made(tables, "second")
    for number in (1, 2, 3):
        await a_day(tables, first, number)
    await execute(tables, "update runs set state = 'planned', stored_at = null where window_key > '2026-10-01'")
    await execute(tables, "delete from loads using runs where runs.id = run_id and runs.state = 'planned'")

    async with tables.sessions.begin() as session:
        await changes.remove(session, await store.get(session, first, lock=True), by="test")
    for number in (2, 3):
        await a_day(tables, second, number)
    await load_all(tables)

    assert await months(tables) == {"10": 3}
