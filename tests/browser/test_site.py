"""The built site in headless Chromium, under a path prefix, from a server of plain files: lessons run in the tab."""

import functools
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import Page
from tests.conftest import ROOT, THOROUGH
from tests.notebooks import lessons
from tests.notebooks.outputs import seen

SITE = ROOT / "_site"
PATIENCE = 180.0  # seconds: a kernel that starts loads Python first, and the machine may be busy
NOW = "jupyterapp.shell.currentWidget"
OPENED = lessons() if THOROUGH else lessons()[1:2]

pytestmark = pytest.mark.skipif(not SITE.is_dir(), reason="the site is not built: make site")


class _Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_said: object) -> None:
        """Nothing is printed."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The site, served from below /a/prefix/."""
    folder = tmp_path_factory.mktemp("host")
    (folder / "a").mkdir()
    (folder / "a" / "prefix").symlink_to(SITE)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Files, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/a/prefix/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def page(tab: Callable[[], Page]) -> Iterator[Page]:
    opened = tab()
    yield opened
    opened.close()


def wait(page: Page, condition: str) -> None:
    """As Page.wait, with more patience."""
    end = time.monotonic() + PATIENCE
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"not within {PATIENCE:.0f} s: {condition}"
        time.sleep(0.2)


def test_the_start_page_leads_to_every_lesson(page: Page, address: str) -> None:
    page.open(address)
    links = page.evaluate("[...document.querySelectorAll('.lessons a')].map(link => link.href)")
    assert [link.partition("path=")[2] for link in links] == [path.name for path in lessons()]
    assert all(link.startswith(f"{address}lite/notebooks/") for link in links)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize("path", OPENED, ids=lambda path: path.stem)
def test_run_all_in_the_tab_gives_the_committed_outputs(page: Page, address: str, path: Path) -> None:
    committed = [cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    page.open(f"{address}lite/notebooks/index.html?path={path.name}")
    wait(page, f"window.jupyterapp !== undefined && {NOW}?.content?.model?.cells.length > 1")
    wait(page, f"{NOW}.sessionContext.session?.kernel?.status === 'idle'")
    page.evaluate("void jupyterapp.commands.execute('notebook:run-all-cells').then(() => (window.done = true))")
    wait(page, "window.done === true")
    cells = json.loads(page.evaluate(f"JSON.stringify({NOW}.content.model.toJSON().cells)"))
    assert seen([cell for cell in cells if cell["cell_type"] == "code"]) == seen(committed)
    assert page.beyond_this_machine() == []
