"""What people do in a browser, click by click; each flow without script too."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from app.queue import timetable
from tests.service import READ_TOKEN, until_found
from tests.web.books import BALANCE, PAYOUTS, RECONCILED, Books
from tests.web.browser.looking import looking

# Types that no other rule has.
SPARE, STORE_TYPE = "payouts.summary.1", "payout_reconciliation.summary.1"


async def add_rule(morning: Books, **rule: object) -> None:
    """A rule of one test alone."""
    async with morning.api() as api:
        (await api.post("/v1/rules", json={"cadence": "daily", **rule})).raise_for_status()


def yesterday(morning: Books) -> str:
    return (morning.today - timedelta(days=1)).date().isoformat()


WITH_AND_WITHOUT_SCRIPT = pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])


async def test_the_reason_of_a_failed_report_is_on_the_first_page_and_its_story_one_click_away(
    morning: Books, chromium: Browser
) -> None:
    async with looking(chromium, morning) as look:
        row = look.page.get_by_role("listitem").filter(has_text="payouts-one-failed")
        await expect(row).to_contain_text("An error occurred while generating the report")

        await row.get_by_role("link", name="payouts-one-failed").click()

        await expect(look.page.get_by_role("heading", name="Why it is not here")).to_be_visible()
        await expect(look.page.locator(".why")).to_contain_text("Stripe failed to make it")


async def test_a_stored_report_is_found_in_the_calendar_and_downloaded(morning: Books, chromium: Browser) -> None:
    async with looking(chromium, morning, accept_downloads=True) as look:
        await look.page.get_by_role("rowheader", name="activity-los-angeles").get_by_role("link").click()
        await look.page.locator("td.stored a").first.click()

        async with look.page.expect_download() as download:
            await look.page.get_by_role("link", name=re.compile(r"^Download \(")).click()

        name = (await download.value).suggested_filename
        assert name.startswith("balance_change_from_activity.itemized.7_default_")
        assert name.endswith(".csv")


@WITH_AND_WITHOUT_SCRIPT
async def test_a_rule_is_previewed_and_made(morning: Books, chromium: Browser, script: bool) -> None:
    name = f"made-by-hand-{'script' if script else 'plain'}"
    async with looking(chromium, morning, script=script) as look:
        page = look.page
        await page.get_by_role("link", name="Rules", exact=True).click()
        await page.get_by_role("link", name="New rule…").click()
        await page.get_by_label("Which report?").fill(PAYOUTS)
        await page.get_by_label("Name").fill(name)
        await page.get_by_label("From which day?").fill((morning.today.replace(day=1)).date().isoformat())
        await page.get_by_role("button", name="Show what it would request").click()
        await expect(page.get_by_role("heading", name=re.compile("It would request [0-9]+ report"))).to_be_visible()

        await page.get_by_role("button", name="Create the rule").click()

        await expect(page.get_by_role("heading", name=name)).to_be_visible()
        await expect(page.get_by_role("status")).to_contain_text("Rule created")


async def test_what_cannot_work_is_explained_beside_what_was_typed(morning: Books, chromium: Browser) -> None:
    async with looking(chromium, morning) as look:
        await look.open("/rules/new")
        await look.page.get_by_label("Which report?").fill("Payouts")
        await look.page.get_by_label("Name").fill("odd")
        await look.page.get_by_label("Time zone of its days").fill("Berlin")
        await look.page.get_by_role("button", name="Create the rule").click()

        await expect(look.page.get_by_role("alert")).to_contain_text("report type")
        await expect(look.page.get_by_label("Time zone of its days")).to_have_value("Berlin")


async def test_a_month_that_is_not_complete_says_why_and_gives_what_there_is(morning: Books, chromium: Browser) -> None:
    async with looking(chromium, morning, accept_downloads=True) as look:
        await look.page.get_by_role("link", name="Months").click()
        assert "not complete" in await look.heading()
        await expect(look.page.get_by_role("listitem").filter(has_text="no-such-type").first).to_be_visible()

        async with look.page.expect_download() as download:
            await look.page.get_by_role("link", name=re.compile("^Download [0-9]+ stored file")).click()

        assert (await download.value).suggested_filename.endswith("_incomplete.zip")


@WITH_AND_WITHOUT_SCRIPT
async def test_a_rule_is_switched_off_and_on_after_a_page_that_says_what_happens(
    morning: Books, chromium: Browser, script: bool
) -> None:
    name = f"switched-{'script' if script else 'plain'}"
    await add_rule(morning, name=name, report_type=RECONCILED, cadence="weekly")
    async with looking(chromium, morning, script=script) as look:
        await look.open(f"/rules/{name}")
        for action, said in (("Switch off", "It is off."), ("Switch on", "It is on")):
            await look.page.get_by_role("link", name=f"{action}…").click()
            await look.page.get_by_role("button", name=action).click()
            await expect(look.page.get_by_role("status")).to_contain_text(said)


async def test_a_read_only_visitor_finds_no_button_anywhere(morning: Books, chromium: Browser) -> None:
    async with looking(chromium, morning, token=READ_TOKEN) as look:
        for path in ("/", "/rules", "/rules/payouts-one-failed", "/runs?state=failed", "/targets"):
            await look.open(path)
            buttons = await look.page.get_by_role("button").all_inner_texts()
            assert [text for text in buttons if text not in ("Log out", "Show")] == [], path
            assert await look.page.get_by_role("link", name=re.compile("…$")).count() == 0, path


async def test_a_failed_report_is_retried_and_arrives_while_the_reader_watches(
    morning: Books, chromium: Browser
) -> None:
    morning.simulator.inject("run_fails", match={"report_type": SPARE}, times=3)
    morning.simulator.advance(SPARE, morning.today)
    await add_rule(morning, name="retried", report_type=SPARE, starts_on=yesterday(morning))
    failed = "select 1 from runs where report_type = :type and state = 'failed'"
    await until_found(morning.res, failed, type=SPARE)
    async with looking(chromium, morning) as look:
        row = look.page.get_by_role("listitem").filter(has_text="retried")
        await row.get_by_role("link", name="Retry…").click()
        await look.page.get_by_role("button", name="Retry").click()

        # Without a click more: the page is fetched again while the run moves.
        await expect(look.page.locator("h1 .stored")).to_be_visible(timeout=60_000)
        await expect(look.page.locator(".timeline")).to_contain_text("retried by admin")
        assert look.messages == []


async def test_a_backfill_says_how_many_it_makes_and_then_how_far_it_is(morning: Books, chromium: Browser) -> None:
    await add_rule(morning, name="backfilled", report_type=BALANCE, starts_on=yesterday(morning))
    stored = "select 1 from runs join rules on rules.id = rule_id where name = 'backfilled' and state = 'stored'"
    await until_found(morning.res, stored)
    first = morning.today - timedelta(days=31)
    # Stripe takes its time, so that there is something to see.
    morning.simulator.inject("run_hangs", match={"report_type": BALANCE}, times=1)
    async with looking(chromium, morning) as look:
        page = look.page
        await look.open("/rules/backfilled")
        await page.get_by_role("link", name="Backfill…").click()
        await page.get_by_label("From").fill(first.date().isoformat())
        await page.get_by_label("Through").fill(yesterday(morning))
        await page.get_by_role("button", name="Show what that does").click()
        await page.get_by_role("button", name="Request 30 reports").click()

        await expect(page.get_by_role("status")).to_contain_text("30 reports")
        await expect(page.locator(".moving")).to_contain_text("29 of 30 reports")
        assert await page.get_by_role("progressbar").get_attribute("value") == "29"


async def test_a_target_is_made_changed_and_tested(morning: Books, chromium: Browser) -> None:
    async with looking(chromium, morning, script=False) as look:
        page = look.page
        await look.open("/targets")
        await page.get_by_role("link", name="New target…").click()
        await page.get_by_label("Name", exact=True).fill("changed by hand")
        await page.get_by_label("Where").fill("http://127.0.0.1:9/here")
        await page.get_by_role("button", name="Create the target").click()
        await page.get_by_role("link", name="Back to the target").click()

        await page.get_by_role("link", name="Change…").click()
        await page.get_by_label("Where").fill("http://127.0.0.1:9/there")
        await page.get_by_label("Only these rules").fill("marketplace")
        await page.get_by_role("button", name="Save").click()

        await expect(page.get_by_role("heading", name="changed by hand")).to_be_visible()
        await expect(page.locator(".facts")).to_contain_text("/there")
        await expect(page.locator(".facts")).to_contain_text("marketplace")


async def test_a_link_whose_address_says_go_logs_in_by_itself_and_without_script_by_its_button(
    morning: Books, chromium: Browser
) -> None:
    for script in (True, False):
        async with morning.api() as api:
            url = (await api.post("/v1/login-links", json={"name": "anna", "role": "admin"})).json()["url"]
        async with looking(chromium, morning, token=None, script=script) as look:
            await look.page.goto(f"{url}#go")
            if not script:
                await look.page.get_by_role("button", name="Log in as anna").click()

            await expect(look.page.locator(".who")).to_contain_text("anna")


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a report is not here: the rule, what is clicked from the first page on, and what is read there at last."""

    rule: str
    clicks: tuple[str, ...]  # CSS selectors, below the line of the first page that names the rule or the cause
    line: str
    reads: str


CAUSES = {
    "failed": Cause("payouts-one-failed", (".what a",), "payouts-one-failed", "Stripe failed to make it"),
    "rejected": Cause("balance-one-rejected", (".what a",), "balance-one-rejected", "Invalid column: nett"),
    "key refused": Cause("eu-payouts", ("td.blocked a",), "", "Stripe refuses the account"),
    "data late": Cause("tokyo-data-late", (".what a",), "data is late", "Stripe’s data reaches"),
    "type missing": Cause("no-such-type", (), "no-such-type", "did you mean payouts.itemized.5?"),
    "wrong secret": Cause("", (".todo a",), "webhooks refused", "bad signature"),
}


@pytest.mark.parametrize("cause", CAUSES)
async def test_why_a_report_is_missing_is_at_most_two_clicks_away(
    morning: Books, chromium: Browser, cause: str
) -> None:
    wanted = CAUSES[cause]
    async with looking(chromium, morning) as look:
        line = look.page.locator(".troubles li" if wanted.line else ".matrix tr").filter(
            has_text=wanted.line or wanted.rule
        )
        for selector in wanted.clicks:
            await line.first.locator(selector).first.click()

        await expect(look.page.locator("main")).to_contain_text(wanted.reads)
    assert len(wanted.clicks) <= 2


@contextmanager
def taken_away(folder: Path) -> Iterator[None]:
    """Something else is where the folder was."""
    away = folder.with_name("away")
    folder.rename(away)
    folder.write_text("in the way")
    yield
    folder.unlink()
    away.rename(folder)


async def test_a_file_store_that_is_away_is_reported_on_the_first_page_and_at_the_run_that_waits_for_it(
    morning: Books, chromium: Browser, store_folder: Path
) -> None:
    with taken_away(store_folder):
        morning.simulator.advance(STORE_TYPE, morning.today)
        await add_rule(morning, name="waits-for-the-store", report_type=STORE_TYPE, starts_on=yesterday(morning))
        async with morning.res.sessions.begin() as session:
            await timetable.make_due(session, "file_store")
        ready = "select 1 from runs where report_type = :type and state = 'ready' and last_trouble is not null"
        await until_found(morning.res, ready, type=STORE_TYPE)
        await until_found(morning.res, "select 1 from kept_checks where name = 'file_store' and status = 'failing'")
        async with looking(chromium, morning) as look:
            line = look.page.locator(".troubles li").filter(has_text="file store")
            await expect(line).to_contain_text("TALLYHOOK_FILE_STORE")

            await look.page.locator(".matrix tr").filter(has_text="waits-for-the-store").locator("td a").last.click()

            await expect(look.page.locator(".why")).to_contain_text("file store")
    stored = "select 1 from runs where report_type = :type and state = 'stored'"
    await until_found(morning.res, stored, type=STORE_TYPE)
