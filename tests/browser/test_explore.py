"""The explorer in a page: by keyboard alone, in light and dark, with hostile bytes, and with no barrier; and in JupyterLab
in its frame."""

from collections.abc import Callable, Iterator

import pytest

import labkit
from labkit.decode.spans import at
from labkit.show.exploration import Packets
from labkit.show.explore import explore
from labkit.show.page import framed
from tests.browser.chromium import Page
from tests.browser.served import Lab, barriers

BOX = "document.querySelector('.labkit-explore')"
FOCUS = "document.activeElement"
CHOSEN = f"{BOX}.querySelector('li[aria-selected=true] > .labkit-label > b')?.textContent"
LIT = f"[...{BOX}.querySelectorAll('.labkit-lit')].map(one => one.textContent).join('')"
SHOWN = f"[...{BOX}.querySelectorAll('tbody tr')].filter(one => !one.hidden).length"


@pytest.fixture(scope="module")
def capture() -> labkit.Capture:
    """A message sent; its subject is hostile."""
    message = labkit.sample_message()
    message.replace_header("Subject", "<img src=x onerror=document.title='owned'>")
    with labkit.Provider("smtp-auth", repeatable=True) as provider, provider.capture(engine="tap") as recorded:
        provider.client("hanako").send(message)
    return recorded


@pytest.fixture(scope="module")
def explored(
    tab: Callable[[], Page], capture: labkit.Capture, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Page]:
    """A page that explores the packets of a capture."""
    page = tab()
    page.see(1366, 768)
    explorer = explore(capture).exact()
    path = tmp_path_factory.mktemp("explored") / "page.html"
    path.write_text(framed(explorer.title, explorer.body()), encoding="utf-8")
    page.open(path.as_uri())
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


def test_every_byte_belongs_to_the_innermost_node(explored: Page, capture: labkit.Capture) -> None:
    """The page finds the node by itself."""
    choose_packet(explored, "mail from")
    packets = Packets(capture)
    index, entry = next((index, each) for index, each in enumerate(packets.entries) if "mail from" in each.info.lower())
    spans = packets.contents(index).spans
    wanted = [at(spans, position)[-1].field for position in range(entry.length)]
    found = explored.evaluate(
        f"[...{BOX}.querySelectorAll('.labkit-row [role=gridcell][data-at]')].map(one => (one.click(), {CHOSEN}))"
    )
    assert found == wanted


def test_hostile_bytes_stay_text(explored: Page) -> None:
    choose_packet(explored, "onerror")
    assert explored.evaluate(f"{BOX}.querySelectorAll('img, script, iframe').length") == 0
    assert "<img src=x" in explored.evaluate(f"{BOX}.querySelector('[role=tree]').textContent")
    assert explored.evaluate("document.title") != "owned"


def test_no_other_script_runs_in_the_page(explored: Page) -> None:
    """Even if bytes became an element: its policy allows the one script only."""
    explored.evaluate(
        "(() => { const one = document.createElement('script'); one.textContent = 'document.title = \"owned\"';"
        " document.body.append(one); one.remove(); })()"
    )
    assert explored.evaluate("document.title") != "owned"
    assert any("Content Security Policy" in said for said in explored.take_complaints())


@pytest.mark.parametrize("dark", [True, False])
def test_there_is_no_barrier_in_any_theme(explored: Page, axe: str, dark: bool) -> None:
    explored.see(1366, 768, dark=dark)
    choose_packet(explored, "rcpt")
    explored.press(*"domain")
    assert barriers(explored, axe, BOX) == []


def test_it_is_quiet(explored: Page) -> None:
    assert explored.complaints == []
    assert explored.requests[1:] == []


def test_in_jupyterlab_the_frame_is_there_and_cannot_reach_the_notebook(tab: Callable[[], Page], lab: Lab) -> None:
    page = tab()
    page.see(1366, 768)
    lab.enter(page)
    with lab.opened(page, "exploring.ipynb"):
        lab.run_all(page)
        page.wait("document.querySelector('iframe.labkit-frame') !== null")
        page.evaluate("document.querySelector('iframe.labkit-frame').scrollIntoView()")
        assert page.evaluate("document.querySelector('iframe.labkit-frame').contentDocument") is None
        page.wait_in_newest_frame("document.querySelectorAll('.labkit-explore tbody tr').length > 5")
        assert page.take_complaints() == []
    page.close()
