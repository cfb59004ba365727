"""Every page, in light and dark, on a phone, on paper and without script: complete, legible, and without findings."""

import re
import zlib

from playwright.async_api import Browser

from tests.web.books import Books
from tests.web.browser.looking import looking
from tests.web.paths import paths_of

# What a reader without colours goes by.
GLYPHS = "✓…○⊘!✕–·"


async def test_nothing_is_wrong_with_any_page(morning: Books, chromium: Browser) -> None:
    async with looking(chromium, morning) as look:
        found = {}
        for name, path in (await paths_of(morning)).items():
            await look.open(path)
            found[name] = await look.problems()

    assert {name: problems for name, problems in found.items() if problems} == {}


async def test_every_page_says_the_same_without_script(morning: Books, chromium: Browser) -> None:
    async with looking(chromium, morning) as look, looking(chromium, morning, script=False) as plain:
        for name, path in (await paths_of(morning)).items():
            await look.open(path)
            await plain.open(path)

            assert await plain.heading() == await look.heading(), name


async def test_nothing_is_wrong_with_the_log_in(morning: Books, chromium: Browser) -> None:
    async with looking(chromium, morning) as look:
        await look.page.get_by_role("button", name="Log out").click()

        assert await look.heading() == "Log in"
        assert await look.problems() == []


async def test_the_keyboard_goes_through_problems_and_passes_over_what_is_stored(
    morning: Books, chromium: Browser
) -> None:
    async with looking(chromium, morning) as look:
        rules = (await paths_of(morning))["rule with a failure"]
        await look.open(rules)
        await look.page.locator(".matrix th a").first.focus()

        await look.page.keyboard.press("Tab")
        first = await look.page.evaluate("document.activeElement.getAttribute('aria-label')")
        assert first is not None
        assert first.endswith("failed")
        await look.page.keyboard.press("Tab")
        assert await look.page.evaluate("document.activeElement.closest('th') !== null")  # the next month
        stored = look.page.locator("td.stored a")
        assert await stored.count() > 20
        assert await look.page.locator("td.stored a:not([tabindex='-1'])").count() == 0

        await look.open("/")
        await look.page.keyboard.press("Tab")
        assert await look.page.evaluate("document.activeElement.textContent") == "Skip to content"


async def test_every_state_has_a_glyph_and_a_word_besides_its_colour(morning: Books, chromium: Browser) -> None:
    async with looking(chromium, morning) as look:
        for path in ("/", (await paths_of(morning))["rule with a failure"]):
            await look.open(path)
            cells = await look.page.locator("td.cell[class*=' ']").all_inner_texts()
            assert cells
            assert all(text.strip()[:1] in GLYPHS or text.strip()[:1].isdigit() for text in cells), set(cells)
            unnamed = "td.cell a:not([aria-label])"
            assert await look.page.locator(unnamed).count() == 0
            legend = await look.page.locator(".legend").inner_text()
            assert {"stored", "failed", "missing", "waiting", "blocked"} <= set(legend.split())


async def test_a_month_fits_on_paper_with_every_rule_and_no_button(morning: Books, chromium: Browser) -> None:
    async with looking(chromium, morning) as look:
        await look.open((await paths_of(morning))["month"])
        await look.page.emulate_media(media="print")
        shown = await look.page.locator("body").inner_text()
        assert not await look.page.locator(".top nav, .buttons, .who").first.is_visible()
        paper = await look.page.pdf(format="A4")

    assert "activity-los-angeles" in shown
    assert "Do the numbers agree?" in shown
    pages = len(re.findall(rb"/Type\s*/Page\b", paper))
    assert 1 <= pages <= 3, pages
    assert any(zlib.decompress(piece) for piece in re.findall(rb"stream\r?\n(.*?)endstream", paper, re.DOTALL)[:1])
