"""What somebody does who uses Thunderbird: one message written and sent, or the new mail fetched.

Thunderbird has no command for either. It runs without a screen and is told what to do by Marionette, the remote control
that Mozilla builds in; a dialog that it opens is read and cancelled. Its accounts stand in the folder's user.js. It ends
with 0 or, with what it said in dialogs and on its error console, with 1. Arguments: task, folder (its profile), password,
CA file, recipient, subject. A script of its own, as `plain_python.py` is.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

PATIENCE = 25  # seconds, less than its caller's: nobody else would end Thunderbird
SCRIPT = Path(__file__).with_suffix(".js")


class Marionette:
    """The remote control: JSON of [0, number, command, parameters] and [1, number, error, result], each after its length."""

    def __init__(self, connection: socket.socket, until: float) -> None:
        self._socket = connection
        self._file = self._socket.makefile("rwb")
        self._until = until
        self._receive()  # who it is

    def __call__(self, command: str, **parameters: object) -> Any:
        """Do one thing. Raises RuntimeError with what went wrong, OSError when the time is up."""
        if time.monotonic() > self._until:
            raise TimeoutError(f"no time is left for {command}")
        content = json.dumps([0, 1, command, parameters]).encode()
        self._file.write(b"%d:%s" % (len(content), content))
        self._file.flush()
        _kind, _number, error, result = self._receive()
        if error:
            raise RuntimeError(f"{command}: {error['message']}")
        return result

    def _receive(self) -> Any:
        self._socket.settimeout(max(0.1, self._until - time.monotonic()))
        length = b""
        while (octet := self._file.read(1)) != b":":
            if not octet:
                raise ConnectionError("Thunderbird hung up")
            length += octet
        return json.loads(self._file.read(int(length)))


def main() -> int:
    """Do what the arguments say."""
    task, folder, password, ca, recipient, subject = sys.argv[1:]
    errand = {
        "password": password,
        "authority": Path(ca).read_text() if Path(ca).is_file() else "",
        "recipient": recipient,
        "subject": subject,
        "body": Path(folder, "body.txt").read_text(),
    }
    arguments = ("--headless", "--no-remote", "--marionette", "--remote-allow-system-access", "--profile", folder)
    with Path(folder, "log").open("wb") as log:
        program = subprocess.Popen(["thunderbird", *arguments], stdout=log, stderr=log, start_new_session=True)
        try:
            until = time.monotonic() + PATIENCE
            marionette = Marionette(connected(program, Path(folder), until), until)
            status, said = outcome(marionette, task, errand)
            marionette("Marionette:Quit", flags=["eForceQuit"])
            program.wait(max(0.1, until - time.monotonic()))
        finally:
            if program.poll() is None:
                os.killpg(program.pid, signal.SIGKILL)
                program.wait()
    print(*said, sep="\n")
    return 1 if status else 0


def connected(program: subprocess.Popen[bytes], folder: Path, until: float) -> socket.socket:
    """A connection to Marionette, which chose its port and writes it down: not yet, by halves, before it listens there."""
    written = folder / "MarionetteActivePort"
    while program.poll() is None:
        if time.monotonic() > until:
            raise TimeoutError("Thunderbird did not start in time")
        with suppress(OSError, ValueError):
            return socket.create_connection(("127.0.0.1", int(written.read_text())))
        time.sleep(0.05)
    last = (folder / "log").read_text(errors="replace")[-500:]
    raise RuntimeError(f"Thunderbird ended with {program.returncode}: {last}")


def outcome(marionette: Marionette, task: str, errand: dict[str, str]) -> tuple[int, list[str]]:
    """Thunderbird's status, 0 when all went well, and everything that it said."""
    marionette("WebDriver:NewSession", unhandledPromptBehavior="ignore")
    marionette("Marionette:SetContext", value="chrome")
    marionette("WebDriver:ExecuteScript", script=SCRIPT.read_text(), args=[task, errand])
    while not (ended := waited(marionette)):
        pass
    return ended["status"], ended["said"]


def waited(marionette: Marionette) -> Any:
    """How it ended, or None when a dialog interrupted the wait."""
    try:
        return marionette("WebDriver:ExecuteAsyncScript", script="window.labOutcome.then(arguments[0])", args=[])[
            "value"
        ]
    except RuntimeError as error:
        if "alert" not in str(error):
            raise
        time.sleep(0.05)  # it is about to be cancelled
        return None


if __name__ == "__main__":
    sys.exit(main())
