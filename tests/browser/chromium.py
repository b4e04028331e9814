"""A headless Chromium, spoken to in its own DevTools protocol: JSON over a websocket, nothing else.

It notes every address that a page asks for and every complaint on its console, and resolves no name: whatever a page wants
from beyond this machine fails and is seen.
"""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket

FLAGS = (
    "--headless",
    "--no-sandbox",  # the pages are the lab's own, and where an ordinary user may make no namespaces there is no sandbox
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-prefers-reduced-motion",
    "--disable-features=IsolateSandboxedIframes",  # so that a sandboxed frame is seen from its page's tab
    "--remote-debugging-port=0",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
PATIENCE = 90.0  # seconds; much is started here, and other tests run beside it

# What the keyboard sends: name → (code, Windows virtual key, text)
KEYS = {
    "Tab": ("Tab", 9, ""),
    "Enter": ("Enter", 13, "\r"),
    "Escape": ("Escape", 27, ""),
    " ": ("Space", 32, " "),
    "PageUp": ("PageUp", 33, ""),
    "PageDown": ("PageDown", 34, ""),
    "End": ("End", 35, ""),
    "Home": ("Home", 36, ""),
    "ArrowLeft": ("ArrowLeft", 37, ""),
    "ArrowUp": ("ArrowUp", 38, ""),
    "ArrowRight": ("ArrowRight", 39, ""),
    "ArrowDown": ("ArrowDown", 40, ""),
}


class Page:
    """One tab. requests: every address asked for. complaints: errors on its console, and exceptions that nobody caught."""

    def __init__(self, socket: websocket.WebSocket) -> None:
        self._socket = socket
        self._number = 0
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._contexts: list[int] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol, and its result."""
        self._number += 1
        number = self._number
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == number:
                assert "error" not in message, (method, message["error"])
                return message["result"]
            self._note(message.get("method", ""), message.get("params", {}))

    def _note(self, event: str, about: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif event == "Network.webSocketCreated":
            self.requests.append(about["url"])
        elif event == "Runtime.executionContextCreated":
            self._contexts.append(about["context"]["id"])
        elif event == "Runtime.consoleAPICalled" and about["type"] in {"error", "assert"}:
            said = [str(each.get("value", each.get("description", ""))) for each in about["args"]]
            self.complaints.append(" ".join(said))
        elif event == "Runtime.exceptionThrown":
            details = about["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", details["text"]))
        elif event == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.complaints.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")

    def close(self) -> None:
        """Close the tab."""
        self._socket.send(json.dumps({"id": 0, "method": "Page.close"}))
        self._socket.close()

    def open(self, address: str) -> None:
        """Go there, and wait until the page is loaded."""
        self.send("Page.navigate", url=address)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, expression: str, **where: Any) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, **where)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until a JavaScript expression is true."""
        until(lambda: bool(self.evaluate(condition)), condition)

    def wait_in_newest_frame(self, condition: str) -> None:
        """Until a JavaScript expression is true in the frame that came last."""
        until(lambda: bool(self.evaluate(condition, contextId=self._contexts[-1])), condition)

    def press(self, *keys: str, modifiers: int = 0) -> None:
        """Press keys one after another. modifiers: 2 for Ctrl, 8 for Shift."""
        for key in keys:
            code, number, text = KEYS.get(key) or (f"Key{key.upper()}", ord(key.upper()), key)
            about = {"key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": modifiers}
            self.send("Input.dispatchKeyEvent", type="keyDown", text="" if modifiers & 2 else text, **about)
            self.send("Input.dispatchKeyEvent", type="keyUp", **about)

    def see(self, width: int, height: int, zoom: float = 1.0, dark: bool = False) -> None:
        """A window of that many pixels; zoomed, a page has fewer of its own for the same window."""
        size = {"width": int(width / zoom), "height": int(height / zoom)}
        self.send("Emulation.setDeviceMetricsOverride", deviceScaleFactor=zoom, mobile=False, **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path) -> None:
        """What is seen, as PNG."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def take_complaints(self) -> list[str]:
        """What the console complained of since this was last asked."""
        taken, self.complaints = self.complaints, []
        return taken

    def beyond_this_machine(self) -> list[str]:
        """The addresses asked for that are not this machine's."""
        here = ("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:", "file:", "about:")
        return [address for address in self.requests if not address.startswith(here)]


def until(condition: Callable[[], bool], what: str) -> None:
    """Ask until it is so. Raises AssertionError when that takes too long."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"not within {PATIENCE:.0f} s: {what}"
        time.sleep(0.02)


@contextmanager
def chromium(folder: Path) -> Iterator[Callable[[], Page]]:
    """A browser with a profile of its own in `folder`; gives a function that opens a tab."""
    program = shutil.which("chromium")
    assert program
    home = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"],
            stdout=log,
            stderr=log,
            env=os.environ | home,
        )
    sockets: list[websocket.WebSocket] = []
    try:
        chosen = folder / "profile" / "DevToolsActivePort"
        until(lambda: chosen.exists() and chosen.read_text().count("\n") > 0, "Chromium's port")
        port, path = chosen.read_text().splitlines()[:2]
        control = websocket.create_connection(f"ws://127.0.0.1:{port}{path}", suppress_origin=True, timeout=PATIENCE)
        sockets.append(control)

        def tab() -> Page:
            control.send(json.dumps({"id": 1, "method": "Target.createTarget", "params": {"url": "about:blank"}}))
            target = json.loads(control.recv())["result"]["targetId"]
            address = f"ws://127.0.0.1:{port}/devtools/page/{target}"
            sockets.append(websocket.create_connection(address, suppress_origin=True, timeout=PATIENCE))
            return Page(sockets[-1])

        yield tab
    finally:
        for socket in sockets:
            socket.close()
        process.terminate()
        process.wait(PATIENCE)
