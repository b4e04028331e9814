"""The pages and fragments that labkit writes, in a real browser: quiet, self-contained, usable without a mouse."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import labkit
from labkit.show.dialogue import Dialogue
from labkit.show.explain import Explanation
from tests.browser.chromium import Page
from tests.browser.served import barriers
from tests.show.scripts import conversation

# A fragment in a page that has nothing of its own.
AROUND = "<!DOCTYPE html><html lang=en><head><meta charset=utf-8><title>t</title></head><body>{}</body></html>"
# Open what a reader would open first. Every fold of every record would be some thousand elements of the same few kinds.
OPEN_SOME = (
    "document.querySelectorAll('.labkit-tree, .labkit-said > details, .labkit-fold').forEach(one => one.open = true)"
)
OPEN_ALL = "document.querySelectorAll('details').forEach(one => one.open = true)"
STOPS = (
    "[...document.querySelectorAll('summary, a[href], input, [tabindex=\"0\"]')].filter(one => one.checkVisibility())"
)

PAGES: Mapping[str, Callable[[labkit.Comparison], str]] = {
    "comparison": lambda comparison: comparison.page(),
    "smtp-auth": lambda comparison: comparison.captures["smtp-auth"].page(),
    "ssl": lambda comparison: comparison.captures["ssl"].page(),
}


@pytest.fixture(scope="module")
def comparison() -> labkit.Comparison:
    """The same exchange under three policies."""
    return labkit.compare("plaintext", "smtp-auth", "ssl", engine="tap")


def shown(page: Page, folder: Path, html: str) -> None:
    path = folder / "page.html"
    path.write_text(html, encoding="utf-8")
    page.open(path.as_uri())


def quiet(page: Page) -> None:
    assert page.complaints == []
    assert [address for address in page.requests[1:] if not address.startswith("data:")] == []


@pytest.mark.parametrize(("name", "dark"), [("comparison", False), ("smtp-auth", False), ("ssl", True)])
def test_a_page_has_no_barrier_and_asks_for_nothing(
    page: Page, axe: str, comparison: labkit.Comparison, tmp_path: Path, name: str, dark: bool
) -> None:
    page.see(1366, 768, dark=dark)
    shown(page, tmp_path, PAGES[name](comparison))
    page.evaluate(OPEN_SOME)
    assert barriers(page, axe) == []
    quiet(page)


def test_axe_finds_what_is_wrong(page: Page, axe: str, tmp_path: Path) -> None:
    shown(page, tmp_path, AROUND.format("<p style='color:#ccc;background:#fff'>faint</p><button></button>"))
    assert {finding.split(": ")[0] for finding in barriers(page, axe)} == {
        "critical button-name",
        "serious color-contrast",
    }


def test_tab_reaches_everything_and_enter_opens_it(page: Page, comparison: labkit.Comparison, tmp_path: Path) -> None:
    shown(page, tmp_path, comparison.captures["plaintext"].page())
    count = page.evaluate(f"{STOPS}.length")
    assert count > 20
    reached = []
    for _stop in range(count):
        page.press("Tab")
        reached.append(page.evaluate(f"{STOPS}.indexOf(document.activeElement)"))
    assert reached == list(range(count))
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    before = page.evaluate("document.activeElement.parentElement.open")
    page.press("Enter")
    assert page.evaluate("document.activeElement.parentElement.open") is not before


@pytest.mark.parametrize("name", PAGES)
def test_at_200_percent_nothing_is_cut_off(
    page: Page, comparison: labkit.Comparison, tmp_path: Path, name: str
) -> None:
    """WCAG 2.2, 1.4.4 and 1.4.10: text wraps; a table that is too wide scrolls in a box of its own."""
    page.see(1366, 768, zoom=2)
    shown(page, tmp_path, PAGES[name](comparison))
    page.evaluate(OPEN_ALL)
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


def test_hostile_bytes_stay_text(page: Page, tmp_path: Path) -> None:
    hostile = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\x1b[2J\u202e"
    heard = [conversation("S: 220 mail.example", f"C: MAIL FROM:<{hostile}>", f"S: 250 {hostile}")]
    shown(page, tmp_path, AROUND.format(Dialogue(heard).html() + Explanation(heard).html()))
    page.evaluate(OPEN_ALL)
    assert page.evaluate("document.title") == "t"
    assert page.evaluate("document.scripts.length + document.images.length") == 0
    assert "<script>" in page.evaluate("document.body.innerText")
    quiet(page)
