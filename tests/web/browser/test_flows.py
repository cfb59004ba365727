"""What people do in a browser, click by click; each flow without script too."""

import re

import pytest
from playwright.async_api import Browser, expect

from tests.service import READ_TOKEN
from tests.web.books import PAYOUTS, Books
from tests.web.browser.looking import looking

WITH_AND_WITHOUT_SCRIPT = pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])


async def test_the_reason_of_a_failed_report_is_on_the_first_page_and_its_story_one_click_away(
    morning: Books, chromium: Browser
) -> None:
    async with looking(chromium, morning) as look:
        row = look.page.get_by_role("listitem").filter(has_text="payouts-one-failed")
        await expect(row).to_contain_text("An error occurred while generating the report")

        await row.get_by_role("link", name="payouts-one-failed").click()

        await expect(look.page.get_by_role("heading", name="Why it is not here")).to_be_visible()
        await expect(look.page.locator(".why")).to_contain_text("Stripe gave up making it")


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
        await page.get_by_role("button", name="Show what it requests").click()
        await expect(page.get_by_role("heading", name=re.compile("It requests [0-9]+ report"))).to_be_visible()

        await page.get_by_role("button", name="Make the rule").click()

        await expect(page.get_by_role("heading", name=name)).to_be_visible()
        await expect(page.get_by_role("status")).to_contain_text("It is made")


async def test_what_cannot_work_is_said_beside_what_was_typed(morning: Books, chromium: Browser) -> None:
    async with looking(chromium, morning) as look:
        await look.open("/rules/new")
        await look.page.get_by_label("Which report?").fill("Payouts")
        await look.page.get_by_label("Name").fill("odd")
        await look.page.get_by_label("Days of which time zone?").fill("Berlin")
        await look.page.get_by_role("button", name="Make the rule").click()

        await expect(look.page.get_by_role("alert")).to_contain_text("report type")
        await expect(look.page.get_by_label("Days of which time zone?")).to_have_value("Berlin")


async def test_a_month_that_is_not_complete_says_why_and_gives_what_there_is(morning: Books, chromium: Browser) -> None:
    async with looking(chromium, morning, accept_downloads=True) as look:
        await look.page.get_by_role("link", name="Months").click()
        assert "not complete" in await look.heading()
        await expect(look.page.get_by_role("listitem").filter(has_text="no-such-type").first).to_be_visible()

        async with look.page.expect_download() as download:
            await look.page.get_by_role("link", name="Download what is there").click()

        assert (await download.value).suggested_filename.endswith("_incomplete.zip")


@WITH_AND_WITHOUT_SCRIPT
async def test_a_rule_is_switched_off_and_on_after_a_page_that_says_what_happens(
    morning: Books, chromium: Browser, script: bool
) -> None:
    async with looking(chromium, morning, script=script) as look:
        await look.open("/rules/reconciled-weekly")
        for action, said in (("Switch off", "It is off."), ("Switch on", "It is on")):
            await look.page.get_by_role("link", name=f"{action}…").click()
            await look.page.get_by_role("button", name=action).click()
            await expect(look.page.get_by_role("status")).to_contain_text(said)


async def test_who_may_only_look_finds_no_button_anywhere(morning: Books, chromium: Browser) -> None:
    async with looking(chromium, morning, token=READ_TOKEN) as look:
        for path in ("/", "/rules", "/rules/payouts-one-failed", "/runs?state=failed", "/targets"):
            await look.open(path)
            buttons = await look.page.get_by_role("button").all_inner_texts()
            assert [text for text in buttons if text not in ("Log out", "Show")] == [], path
            assert await look.page.get_by_role("link", name=re.compile("…$")).count() == 0, path


async def test_a_failed_report_is_retried_and_arrives_under_the_eyes_of_who_looks(
    morning: Books, chromium: Browser
) -> None:
    async with looking(chromium, morning) as look:
        await (
            look.page.get_by_role("listitem")
            .filter(has_text="payouts-one-failed")
            .get_by_role("link", name="Retry…")
            .click()
        )
        await look.page.get_by_role("button", name="Retry").click()

        # Without a click more: the page is fetched again while the run moves.
        await expect(look.page.locator("h1 .stored")).to_be_visible(timeout=60_000)
        await expect(look.page.locator(".timeline")).to_contain_text("retried by admin")
        assert look.messages == []
