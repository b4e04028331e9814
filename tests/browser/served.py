"""What the browser is shown: a real JupyterLab, started as a learner starts it; and axe-core, which looks for barriers.

axe-core comes from the npm registry, as CI may fetch it, and stays in pytest's cache. The lab runs on copies of notebooks,
in a home of its own. Its server and its kernels note every connection that they open beyond this machine, by an audit hook.
"""

import os
import re
import secrets
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.browser.chromium import PATIENCE, Page, until

AXE = "axe-core@4.10"
RUN = "axe.run({scope}, {{resultTypes: ['violations']}}).then(found => found.violations)"
NOW = "jupyterapp.shell.currentWidget"
IDLE = f"{NOW}.sessionContext?.session?.kernel?.status === 'idle'"
GRAVE = {"serious", "critical"}

# sitecustomize.py of the lab's interpreters
WATCH = """
import os, sys
def _watch(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = str(arguments[1][0])
    elif event == "socket.getaddrinfo":
        host = str(arguments[0] or "")
    else:
        return
    if host and not host.startswith("127.") and host not in ("::1", "localhost", "0.0.0.0", "::"):
        with open(os.environ["LABKIT_TEST_LEAKS"], "a") as leaks:
            leaks.write(f"{event} {host}\\n")
sys.addaudithook(_watch)
"""


def axe_source(cache: Path) -> str:
    """axe-core's source. Raises OSError when the registry does not give it."""
    found = next(cache.glob("axe-core-*.tgz"), None)
    if found is None:
        command = ["npm", "pack", AXE, "--silent", "--pack-destination", str(cache)]
        done = subprocess.run(command, cwd=cache, capture_output=True, text=True, check=False, timeout=120)
        found = next(cache.glob("axe-core-*.tgz"), None)
        if done.returncode or found is None:
            raise OSError(f"npm pack {AXE}: {done.stderr.strip()[-300:]}")
    with tarfile.open(found) as archive:
        script = archive.extractfile("package/axe.min.js")
        assert script
        return script.read().decode("utf-8")


def barriers(page: Page, axe: str, scope: str = "document") -> list[str]:
    """The serious and critical violations that axe-core finds. scope: a JavaScript expression, what is looked at."""
    page.evaluate(f"{axe}; void 0")
    found: list[dict[str, Any]] = page.evaluate(RUN.format(scope=scope))
    return [
        f"{each['impact']} {each['id']}: {node['html'][:160]} {node['failureSummary']}"
        for each in found
        if each["impact"] in GRAVE
        for node in each["nodes"][:3]
    ]


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab. folder: its notebooks' parent."""

    address: str
    token: str
    folder: Path
    leaks: Path

    def enter(self, page: Page) -> None:
        """Open the lab in a workspace of its own."""
        page.open(f"{self.address}lab/workspaces/{secrets.token_hex(4)}?token={self.token}")
        page.wait("window.jupyterapp !== undefined")
        page.evaluate("jupyterapp.restored.then(() => true)")

    @contextmanager
    def opened(self, page: Page, name: str) -> Iterator[None]:
        """Open a notebook there, and wait until its kernel is idle; afterwards stop its kernel and close it unsaved."""
        page.evaluate(f"jupyterapp.commands.execute('docmanager:open', {{path: 'en/{name}'}}).then(() => true)")
        page.wait(f"{NOW}.context?.path === 'en/{name}' && {NOW}.context.isReady && {IDLE}")
        try:
            yield
        finally:
            page.evaluate(f"{NOW}.sessionContext.shutdown().then(() => ({NOW}.dispose(), true))")

    def run_all(self, page: Page) -> None:
        """What the menu's Run All does; returns when the last cell is done."""
        assert page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells')") is not False
        page.wait(IDLE)

    def left_the_machine(self) -> list[str]:
        """What the server and its kernels asked for beyond this machine."""
        return self.leaks.read_text().splitlines() if self.leaks.exists() else []


@contextmanager
def lab_server(folder: Path) -> Iterator[Lab]:
    """`labkit lab` on the notebooks in folder/notebooks, with a home of its own."""
    watch, leaks, home = folder / "watch", folder / "leaks.txt", folder / "home"
    met = tempfile.TemporaryDirectory(prefix="lab-")  # a short name: socket files are to be found there
    watch.mkdir()
    home.mkdir()
    (watch / "sitecustomize.py").write_text(WATCH)
    token = secrets.token_hex(16)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "XDG", "IPYTHON"))}
    mine = {
        "HOME": str(home),
        "JUPYTER_RUNTIME_DIR": met.name,
        "LABKIT_TEST_LEAKS": str(leaks),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(watch), os.environ.get("PYTHONPATH", "")])),
        "LABKIT_CAPTURE": "tap",
    }
    options = [
        "--no-browser",
        "--port",
        "0",
        f"--IdentityProvider.token={token}",
        "--expose-app-in-browser",
        *_as_root(),
    ]
    log = folder / "lab.log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "labkit", "lab", *options]
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out, env=kept | mine)
        try:
            found = re.compile(r"http://(?:127\.0\.0\.1|localhost):(\d+)/")
            until(lambda: process.poll() is not None or bool(found.search(log.read_text())), "the lab's address")
            assert process.poll() is None, log.read_text()
            match = found.search(log.read_text())
            assert match
            yield Lab(f"http://127.0.0.1:{match[1]}/", token, folder, leaks)
        finally:
            process.terminate()
            process.wait(PATIENCE)
            met.cleanup()


def _as_root() -> list[str]:
    return ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
