"""Every page in a real browser: Chromium, driven by Playwright, with axe's accessibility rules.

Runs where the extra ``browser`` and a Chromium are installed, and is skipped where they are not:
``pip install -e .[browser]``, and Debian's package chromium (or ``playwright install chromium``).
"""

from pathlib import Path

import pytest

REPORTS = Path(__file__).resolve().parents[1] / "reports"
PAGES = sorted(path.relative_to(REPORTS).as_posix() for path in REPORTS.rglob("*.html"))
# What sticks out to the right, unless something around it scrolls.
STICKS_OUT = """() => [...document.querySelectorAll('main *, nav *')].filter(e => {
    if (e.getBoundingClientRect().right <= window.innerWidth + 1) return false;
    for (let p = e.parentElement; p; p = p.parentElement)
        if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(p).overflowX)) return false;
    return !e.closest('math') && e.getClientRects().length > 0;
}).map(e => e.tagName + ' ' + e.className + ' ' + e.textContent.slice(0, 60))"""
HIDDEN_CODE = """() => [...document.querySelectorAll('details.code .highlight')]
    .filter(e => !e.checkVisibility({contentVisibilityAuto: true})).length"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_at_every_width(browser, name: str, scheme: str):
    page = browser.new_page(color_scheme=scheme)
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto((REPORTS / name).as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls"
        assert page.evaluate(STICKS_OUT) == []
    outside = [url for url in asked if not url.startswith(("file:", "data:"))]
    assert (said, outside) == ([], [])
    assert page.locator("img:not([alt]), img[alt='']").count() == 0
    for formula in page.locator("math").all():
        box = formula.bounding_box()
        assert box["width"] > 2 and box["height"] > 2
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "best-practice"]})
    assert found.violations_count == 0, found.generate_report()
    page.close()


@pytest.mark.parametrize("name", [n for n in PAGES if n not in ("index.html", "glossary.html")])
def test_code_is_folded_and_unfolds(browser, name: str):
    page = browser.new_page()
    page.goto((REPORTS / name).as_uri())
    folded = page.locator("details.code").count()
    assert folded > 0 and page.evaluate(HIDDEN_CODE) == folded
    page.locator("details.code > summary").first.click()
    assert page.evaluate(HIDDEN_CODE) == folded - 1
    page.close()


def test_the_first_tab_stop_leads_past_the_other_pages(browser):
    page = browser.new_page()
    page.goto((REPORTS / "index.html").as_uri())
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")
    page.close()
