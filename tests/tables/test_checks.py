"""Numbers that must agree: in Stripe's files they do; if not, the verdict says by how much and where."""

import asyncio
from datetime import date
from typing import Any

import httpx
import pytest
from sqlalchemy.exc import DBAPIError

from app.resources import Resources
from app.simulator import Simulator
from app.tables import checking
from app.tables.checks import inputs
from app.tables.checks.registry import CHECKS, checks_of, missing_for
from tests.service import add_rule, at, execute, fetch, unpublished, work_off
from tests.tables.stored import day, line, load_all, rows, rule, store, stored_and_loaded

BALANCE = "balance.summary.1"
ACTIVITY = "balance_change_from_activity.itemized.6"
ACTIVITY_SUMMARY = "balance_change_from_activity.summary.1"
PAYOUTS = "payouts.itemized.5"
RECONCILIATION = "payout_reconciliation.itemized.7"
UNPAID = "ending_balance_reconciliation.itemized.4"
SET = {
    BALANCE: None,
    ACTIVITY: None,
    ACTIVITY_SUMMARY: None,
    PAYOUTS: None,
    RECONCILIATION: ["balance_transaction_id", "automatic_payout_id", "currency", "gross", "fee", "net",
                     "reporting_category"],
    UNPAID: None,
}  # fmt: skip


async def verdicts(res: Resources, **where: Any) -> dict[str, set[str]]:
    """The newest verdicts, by the name of their check."""
    found = await fetch(
        res,
        "select name, verdict from checks where not exists (select 1 from checks as later"
        " where later.subject = checks.subject and later.id > checks.id)",
    )
    by_name: dict[str, set[str]] = {}
    for row in found:
        by_name.setdefault(row["name"], set()).add(row["verdict"])
    return by_name


async def only(res: Resources, name: str) -> Any:
    """The newest verdict of a check; fails if it gave none."""
    found = await fetch(res, "select * from checks where name = :name order by id desc limit 1", name=name)
    assert found, f"no verdict of {name}"
    return found[0]


@pytest.mark.slow
async def test_everything_agrees_in_what_stripe_writes_and_a_restatement_shows(
    tables: Resources, simulator: Simulator, api: httpx.AsyncClient
) -> None:
    for report_type, columns in SET.items():
        unpublished(simulator, report_type, until="2026-03-04")
        parameters = {} if columns is None else {"columns": columns}
        await add_rule(tables, name=report_type, report_type=report_type, parameters=parameters)
    await add_rule(
        tables, name="whole", report_type=ACTIVITY, cadence="every_update", table={"state": "kept", "personal": []}
    )
    await work_off(tables)
    await load_all(tables)

    assert await fetch(tables, "select report_type, error from loads where state <> 'loaded'") == []
    found = await verdicts(tables)
    assert found == {check.name: {"agrees"} for check in CHECKS if check.name not in ("total_line",)}

    assert await found_by_checking(tables, one_by_one=True) == await found_by_checking(tables, one_by_one=False)

    simulator.restate(at("2026-03-02"), at("2026-03-03"))
    (day_rule,) = await fetch(tables, "select id from rules where name = :name", name=ACTIVITY)
    await rerun(tables, day_rule["id"], date(2026, 3, 2))
    await work_off(tables)
    await load_all(tables)

    (diff,) = await fetch(tables, "select * from diffs")
    assert diff["changed"] + diff["added"] + diff["removed"] > 0
    after = await verdicts(tables)
    assert "differs" in after["activity_total"]
    assert "differs" in after["days_make_the_month"]
    (numbers,) = [one for one in (await api.get("/health")).json()["checks"] if one["name"] == "numbers"]
    assert numbers["status"] == "degraded"
    assert "days_make_the_month of 2026-03-01 usd differs by -70.15" in numbers["detail"]
    assert "differs by 0" not in numbers["detail"]


async def found_by_checking(res: Resources, *, one_by_one: bool) -> set[tuple[Any, ...]]:
    """All verdicts, with the loads that they are from, when files are checked each by itself, or together."""
    ids = [row["id"] for row in await fetch(res, "select id from loads order by id")]
    found: set[tuple[Any, ...]] = set()
    async with res.sessions.begin() as session:
        for some in [[one] for one in ids] if one_by_one else [ids]:
            read = await inputs.gather(session, "default", some)
            for name, one in await checking.find(session, read):
                loads = tuple(load.id for load in one.loads)
                found.add((name, one.currency, one.verdict, one.left, one.right, one.reason, loads))
    return found


async def rerun(res: Resources, rule_id: Any, first: date) -> None:
    """Have a window made once more, as a new revision."""
    await execute(
        res,
        "insert into runs (id, account, rule_id, report_type, connected_account, window_key, revision, interval_start,"
        " interval_end, timezone, parameters, state, attempts_granted) select gen_random_uuid(), account, rule_id,"
        " report_type, connected_account, window_key, revision + 1, interval_start, interval_end, timezone, parameters,"
        " 'planned', 3 from runs where rule_id = :rule_id and window_key = :key",
        rule_id=rule_id,
        key=first.isoformat(),
    )
    await execute(
        res,
        "insert into attempts (run_id, number, account, idempotency_key) select id, 1, account, id::text from runs"
        " where not exists (select 1 from attempts where run_id = runs.id)",
    )


def balance(*lines: str) -> bytes:
    return rows(*lines, header="category,currency,description,net_amount")


ROLLS = ("starting_balance,usd,,10.00", "activity,usd,,5.00", "payouts,usd,,-3.00", "ending_balance,usd,,12.00")


async def test_a_balance_rolls_or_says_by_how_much_not(tables: Resources) -> None:
    rule_id = await rule(tables, report_type=BALANCE)
    await stored_and_loaded(tables, balance(*ROLLS), rule_id=rule_id, report_type=BALANCE)
    assert (await only(tables, "balance_rolls"))["verdict"] == "agrees"

    broken = balance(*ROLLS[:-1], "ending_balance,usd,,12.01")
    await stored_and_loaded(tables, broken, rule_id=rule_id, report_type=BALANCE, start=day(2))

    found = await only(tables, "balance_rolls")
    assert (found["verdict"], str(found["left_value"]), str(found["right_value"])) == ("differs", "12.00", "12.01")


@pytest.mark.parametrize(
    ("ending", "verdict"),
    [("12345678901234567890.120000000000000001", "agrees"), ("12345678901234567890.120000000000000000", "differs")],
)
async def test_the_last_of_38_digits_decides(tables: Resources, ending: str, verdict: str) -> None:
    lines = ("starting_balance,usd,,12345678901234567890.12", "activity,usd,,0.000000000000000001",
             "payouts,usd,,0.00", f"ending_balance,usd,,{ending}")  # fmt: skip
    rule_id = await rule(tables, report_type=BALANCE)
    await stored_and_loaded(tables, balance(*lines), rule_id=rule_id, report_type=BALANCE)

    found = await only(tables, "balance_rolls")
    assert (found["verdict"], f"{found['left_value']:f}") == (verdict, "12345678901234567890.120000000000000001")


async def test_eight_lines_with_subtotals_are_added_once(tables: Resources) -> None:
    lines = (
        ROLLS[0], "activity_gross,usd,,6.00", "activity_fee,usd,,-1.00", ROLLS[1], "payouts_gross,usd,,-3.00",
        "payouts_fee,usd,,0.00", ROLLS[2], ROLLS[3],
    )  # fmt: skip
    rule_id = await rule(tables, report_type=BALANCE)
    await stored_and_loaded(tables, balance(*lines), rule_id=rule_id, report_type=BALANCE)
    parts = [one for one in lines if not one.startswith(("activity,", "payouts,"))]
    await stored_and_loaded(tables, balance(*parts), rule_id=rule_id, report_type=BALANCE, start=day(2))

    assert {
        row["verdict"] for row in await fetch(tables, "select verdict from checks where name = 'balance_rolls'")
    } == {"agrees"}


async def test_a_line_without_currency_takes_that_of_the_line_above_and_is_not_believed_where_it_does_not_roll(
    tables: Resources,
) -> None:
    two = (*ROLLS[:2], "payouts,,,-3.00", ROLLS[3], *(one.replace("usd", "eur") for one in ROLLS))
    rule_id = await rule(tables, report_type=BALANCE)
    await stored_and_loaded(tables, balance(*two), rule_id=rule_id, report_type=BALANCE)
    assert (await verdicts(tables))["balance_rolls"] == {"agrees"}

    moved = (*ROLLS[:2], ROLLS[3], *(one.replace("usd", "eur") for one in ROLLS[:2]), "payouts,,,-3.00",
             *(one.replace("usd", "eur") for one in ROLLS[2:]))  # fmt: skip
    await stored_and_loaded(tables, balance(*moved), rule_id=rule_id, report_type=BALANCE, start=day(2))

    assert (await only(tables, "balance_rolls"))["verdict"] == "not_comparable"


async def test_a_balance_starts_where_the_previous_one_ended(tables: Resources) -> None:
    rule_id = await rule(tables, report_type=BALANCE)
    await stored_and_loaded(tables, balance(*ROLLS), rule_id=rule_id, report_type=BALANCE, start=day(2))
    assert "balance_continues" not in await verdicts(tables)

    before = balance("starting_balance,usd,,0.00", "activity,usd,,9.50", "ending_balance,usd,,9.50")
    await stored_and_loaded(tables, before, rule_id=rule_id, report_type=BALANCE)

    found = await only(tables, "balance_continues")
    assert (found["verdict"], str(found["left_value"]), str(found["right_value"])) == ("differs", "9.50", "10.00")
    assert len(found["load_ids"]) == 2


async def test_net_that_would_fit_the_other_convention_says_so(tables: Resources) -> None:
    await stored_and_loaded(tables, rows("txn_1,,usd,-300.00,-10.00,-310.00,refund"), rule_id=await rule(tables))

    found = await only(tables, "row_net")
    assert found["verdict"] == "differs"
    assert found["reason"] == "1 row where net is not gross - fee; net = gross + fee would fit instead"


async def test_a_duplicate_key_is_reported(tables: Resources) -> None:
    await stored_and_loaded(tables, rows(line(1), line(1)), rule_id=await rule(tables))

    found = await only(tables, "key_unique")
    assert (found["verdict"], found["left_value"], found["right_value"]) == ("differs", 2, 1)


async def test_a_total_line_is_left_out_of_the_sum_and_must_equal_it(tables: Resources) -> None:
    header = "reporting_category,currency,count,gross,fee,net"
    lines = ("charge,usd,2,10.00,1.00,9.00", "refund,usd,1,-5.00,0.00,-5.00", "total,usd,3,5.00,1.00,4.00")
    summary = await rule(tables, "summary", report_type=ACTIVITY_SUMMARY)
    await stored_and_loaded(tables, rows(*lines, header=header), rule_id=summary, report_type=ACTIVITY_SUMMARY)
    assert (await only(tables, "total_line"))["verdict"] == "agrees"

    itemized = rows(line(1, "4.50"), line(2, "4.50"), "txn_3,,usd,-5.00,0.00,-5.01,refund")
    await stored_and_loaded(tables, itemized, rule_id=await rule(tables, "itemized"))

    found = await only(tables, "summary_is_sum")
    assert found["verdict"] == "differs"
    assert found["reason"] == "gross of charge: the summary says 10.00, the rows 11.00"


async def test_no_verdict_while_an_input_is_missing_and_none_is_given_twice(tables: Resources) -> None:
    load = await stored_and_loaded(tables, rows(line(1)), rule_id=await rule(tables))
    before = await fetch(tables, "select id from checks")

    await execute(tables, "update loads set checks_due = true")
    assert await checking.check_due(tables) == 1

    assert set(await verdicts(tables)) == {"row_net", "key_unique"}
    assert await fetch(tables, "select id from checks") == before
    assert load["state"] == "loaded"


async def test_a_process_does_not_wait_for_another_one_at_the_checks_of_an_account(tables: Resources) -> None:
    load = await stored_and_loaded(tables, rows(line(1)), rule_id=await rule(tables))
    await execute(tables, "update loads set checks_due = true")
    async with tables.sessions.begin() as another:
        await another.execute(checking._LOCK, {"account": load["account"]})

        assert await asyncio.wait_for(checking.check_due(tables), 20) == 0

    assert await checking.check_due(tables) == 1


async def test_verdicts_are_neither_changed_nor_removed(tables: Resources) -> None:
    await stored_and_loaded(tables, rows(line(1)), rule_id=await rule(tables))

    for statement in ("update checks set verdict = 'agrees'", "delete from checks"):
        with pytest.raises(DBAPIError, match="neither changed nor removed"):
            await execute(tables, statement)


async def test_a_month_that_lacks_a_row_of_its_days_differs(tables: Resources) -> None:
    daily = await rule(tables, "daily")
    monthly = await rule(tables, "monthly", cadence="monthly", table_state="kept")
    for number in (1, 2):
        await store(tables, rows(line(number)), rule_id=daily, start=day(number))
    await store(tables, rows(line(1), line(2)), rule_id=monthly, start=day(1), end=day(3))
    await load_all(tables)
    assert (await only(tables, "days_make_the_month"))["verdict"] == "agrees"

    await stored_and_loaded(tables, rows(line(2, "8.00")), rule_id=daily, start=day(2), revision=2)

    found = await only(tables, "days_make_the_month")
    assert (found["verdict"], str(found["left_value"]), str(found["right_value"])) == ("differs", "17.00", "18.00")
    assert found["reason"] == "2 rows are different: the report was restated"


def test_every_check_of_the_contract_is_registered_and_knows_what_it_needs() -> None:
    assert [check.name for check in CHECKS] == [
        "row_net", "key_unique", "balance_rolls", "balance_continues", "activity_total", "payouts_total",
        "summary_is_sum", "total_line", "payout_is_paid", "ending_is_unpaid", "nothing_lost", "days_make_the_month",
    ]  # fmt: skip
    by_name = {check.name: check for check in checks_of(ACTIVITY)}
    assert "balance_rolls" not in by_name
    assert missing_for(by_name["activity_total"], ACTIVITY, []) == ["balance.summary"]
    assert missing_for(by_name["activity_total"], ACTIVITY, [BALANCE]) == []
    assert missing_for(by_name["summary_is_sum"], ACTIVITY, []) == ["balance_change_from_activity.summary"]
