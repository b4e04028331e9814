"""The three panes in real JupyterLab: by keyboard alone, in light and dark, with hostile bytes, and with no barrier."""

from collections.abc import Callable, Iterator

import pytest

import labkit
from labkit.decode.spans import at
from labkit.show.explore import Exploration
from tests.browser.chromium import Page
from tests.browser.served import Lab, barriers

BOX = "document.querySelector('.labkit-explore')"
FOCUS = "document.activeElement"
CHOSEN = f"{BOX}.querySelector('li[aria-selected=true] > .labkit-label > b')?.textContent"
LIT = f"[...{BOX}.querySelectorAll('.labkit-lit')].map(one => one.textContent).join('')"
SHOWN = f"[...{BOX}.querySelectorAll('tbody tr')].filter(one => !one.hidden).length"


@pytest.fixture(scope="module")
def explored(tab: Callable[[], Page], lab: Lab) -> Iterator[Page]:
    """A notebook that explores a capture, run."""
    page = tab()
    page.see(1366, 768)
    lab.enter(page)
    with lab.opened(page, "exploring.ipynb"):
        lab.run_all(page)
        page.wait(f"{BOX}?.querySelector('li') != null")
        yield page
    page.close()


def choose_packet(page: Page, words: str) -> None:
    """Filter, and go into the tree of the first packet that is left."""
    page.evaluate(f"{BOX}.querySelector('input').focus()")
    page.evaluate(f"{BOX}.querySelector('input').select()")
    page.press(*words, "ArrowDown")
    page.wait(f"{BOX}.querySelector('[role=tree]').textContent.toLowerCase().includes({words!r})")
    page.press("Enter")


def test_a_packet_is_found_and_taken_apart_by_keyboard(explored: Page) -> None:
    choose_packet(explored, "rcpt")
    assert explored.evaluate(SHOWN) == 1
    assert explored.evaluate(f"{FOCUS}.getAttribute('role')") == "treeitem"
    explored.press(*"domain")
    assert explored.evaluate(CHOSEN) == "smtp.rcpt.recipient.domain"
    assert explored.evaluate(LIT) == "mail.example"
    assert "mail.example" in explored.evaluate(f"{BOX}.querySelector('.labkit-about').textContent")
    explored.press("Enter")
    assert explored.evaluate(f"{FOCUS}.getAttribute('role')") == "gridcell"
    explored.press("ArrowLeft")
    assert explored.evaluate(CHOSEN) == "smtp.rcpt.recipient.at"
    assert explored.evaluate(LIT) == "@"
    explored.press("ArrowUp")
    assert explored.evaluate(CHOSEN).startswith("tcp.") or explored.evaluate(CHOSEN).startswith("smtp.")
    explored.press("Enter", "ArrowLeft", "ArrowLeft", "ArrowLeft", "Home")
    assert explored.evaluate(CHOSEN) == "ethernet"
    explored.press("Escape")


def test_tab_goes_from_pane_to_pane_and_out(explored: Page) -> None:
    explored.evaluate(f"{BOX}.querySelector('input').focus()")
    roles = []
    for _stop in range(3):
        explored.press("Tab")
        roles.append(explored.evaluate(f"{FOCUS}.closest('[role=grid],[role=tree]').tagName"))
        style = f"getComputedStyle({FOCUS}.querySelector(':scope > .labkit-label') ?? {FOCUS}).outlineStyle"
        assert explored.evaluate(style) == "solid"
    assert roles == ["TABLE", "UL", "DIV"]
    explored.press("Tab")
    assert explored.evaluate(f"{BOX}.contains({FOCUS})") is False


def test_home_end_and_pages_move_in_the_list(explored: Page) -> None:
    explored.evaluate(f"{BOX}.querySelector('input').focus()")
    explored.evaluate(f"{BOX}.querySelector('input').select()")
    explored.press("x", "Escape", "ArrowDown")
    count = explored.evaluate(SHOWN)
    number = f"Number({FOCUS}.firstChild.textContent)"
    seen = []
    for key in ("Home", "End", "ArrowDown", "PageUp", "Home", "ArrowUp"):
        explored.press(key)
        seen.append(explored.evaluate(number))
    assert seen[:3] == [1, count, count]
    assert 1 < seen[3] < count
    assert seen[4:] == [1, 1]


def test_every_byte_belongs_to_the_innermost_node(explored: Page) -> None:
    """As the spans of a capture made the same way have it: the page finds the node by itself."""
    choose_packet(explored, "mail from")
    with labkit.Provider("smtp-auth", repeatable=True) as provider, provider.capture(engine="tap") as capture:
        provider.client("hanako").send(labkit.sample_message())
    exploration = Exploration(capture)
    row = next(row for row in exploration.rows if "mail from" in row.info.lower())
    wanted = [at(exploration.tree(row.number).spans, position)[-1].field for position in range(row.length)]
    found = explored.evaluate(
        f"[...{BOX}.querySelectorAll('.labkit-row [role=gridcell][data-at]')].map(one => (one.click(), {CHOSEN}))"
    )
    assert found == wanted


def test_letters_are_no_shortcuts_of_jupyterlab(explored: Page) -> None:
    cells = "jupyterapp.shell.currentWidget.content.model.cells.length"
    before = explored.evaluate(cells)
    explored.evaluate(f"{BOX}.querySelector('[role=treeitem][tabindex=\"0\"]').focus()")
    explored.press("d", "d", "a", "b", "x")
    assert explored.evaluate(cells) == before
    assert explored.evaluate(f"{BOX}.contains({FOCUS})")


def test_hostile_bytes_stay_text(explored: Page) -> None:
    choose_packet(explored, "onerror")
    assert explored.evaluate(f"{BOX}.querySelectorAll('img, script, iframe').length") == 0
    assert "<img src=x" in explored.evaluate(f"{BOX}.querySelector('[role=tree]').textContent")
    assert explored.evaluate("document.title") != "owned"


@pytest.mark.parametrize("theme", ["JupyterLab Dark", "JupyterLab Light"])
def test_there_is_no_barrier_in_any_theme(explored: Page, axe: str, theme: str) -> None:
    choose_packet(explored, "rcpt")
    explored.press(*"domain")
    explored.evaluate(f"jupyterapp.commands.execute('apputils:change-theme', {{theme: {theme!r}}})")
    explored.wait(f"document.body.dataset.jpThemeName === {theme!r}")
    assert barriers(explored, axe, BOX) == []


def test_it_is_quiet(explored: Page, lab: Lab) -> None:
    assert explored.complaints == []
    assert explored.beyond_this_machine() == []
    assert lab.left_the_machine() == []
