"""Pages about money: what a month adds up to, and how much was compared."""

import re
from collections.abc import AsyncIterator
from datetime import date, timedelta
from decimal import Decimal

import httpx
import pytest

from app.resources import Resources
from app.simulator import Simulator
from app.tables import loading
from app.web.month_money import money_of
from tests.service import add_rule, fetch, unpublished, work_off
from tests.tables.stored import load_all
from tests.web.visiting import heading, log_in, plain, visitor

BALANCE = "balance.summary.1"
ACTIVITY = "balance_change_from_activity.itemized.6"


@pytest.fixture
async def loaded(res: Resources, simulator: Simulator) -> AsyncIterator[httpx.AsyncClient]:
    """A balance and its activity of three days of March, loaded; and somebody who looks."""
    for report_type in (BALANCE, ACTIVITY):
        unpublished(simulator, report_type, until="2026-03-04")
        await add_rule(res, name=report_type, report_type=report_type)
    await work_off(res)
    await load_all(res)
    async with visitor(res) as client:
        await log_in(client)
        yield client
    await loading.end_child(res)


async def test_a_month_shows_each_currencys_money_and_says_what_each_check_compares(
    loaded: httpx.AsyncClient, res: Resources
) -> None:
    page = await loaded.get("/months/2026-03")
    async with res.sessions() as session:
        money = await money_of(session, date(2026, 3, 1), date(2026, 4, 1))

    balances = [one for one in money if one.family == "balance.summary"]
    activity = {one.currency: one for one in money if one.family != "balance.summary"}
    assert balances
    for one in balances:
        assert (one.files, one.dates, one.has_hole) == (3, "1–3 Mar 2026", False)
        assert one.opening is not None
        assert one.closing is not None
        assert one.opening + (one.net or Decimal(0)) + (one.payouts or Decimal(0)) == one.closing
        assert one.net == activity[one.currency].net
        assert f"{one.closing:,f}" in page.text
        assert one.currency.upper() in page.text
    assert "What it adds up to" in page.text
    assert "The activity in the balance is the net of its transactions." in page.text


async def test_checks_that_agree_say_how_many_through_which_day_and_what_was_not_compared(
    loaded: httpx.AsyncClient, res: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.web.lists.COMPARED_FOR", timedelta(days=3650))

    page = await loaded.get("/checks")

    assert heading(page) == "All numbers that can be compared agree."
    said = re.search(r"through 3 Mar 2026: ([\d,]+) comparisons, ([\d,]+) agree, 0 differ", plain(page.text))
    assert said
    assert said[1] == said[2] != "0"
    assert re.search(r"No rule fetches payout\w+", page.text)


async def test_a_stored_run_has_totals_zones_and_the_verdicts_of_its_checks(
    loaded: httpx.AsyncClient, res: Resources
) -> None:
    (activity,) = await fetch(
        res, "select run_id from loads where report_type = :type order by id limit 1", type=ACTIVITY
    )
    (balance,) = await fetch(
        res, "select run_id from loads where report_type = :type order by id limit 1", type=BALANCE
    )
    page, of_balance = [(await loaded.get(f"/runs/{one['run_id']}")).text for one in (activity, balance)]

    currencies = await fetch(
        res,
        "select distinct currency from load_sums join loads on loads.id = load_id where run_id = :run",
        run=activity["run_id"],
    )
    assert page.count('class="sum"') == len(currencies) > 0
    assert 'class="sum"' not in of_balance  # a balance has no total
    assert re.search(r'<th[^>]*>created <span class="beside">UTC', page)
    assert re.search(r'agrees</span> <a href="/checks/\d+">row net</a>', page)
    assert "On every row, net is gross minus fee." in page


async def test_where_nothing_was_compared_the_checks_do_not_claim_that_all_agree(res: Resources) -> None:
    async with visitor(res) as client:
        await log_in(client)
        assert heading(await client.get("/checks")) == "Nothing has been compared yet."
