"""How Thunderbird's remote control is found, with other programs in its place."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.peers.thunderbird import PATIENCE, connected


@contextmanager
def program(code: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as running:
        try:
            yield running
        finally:
            running.kill()


def test_a_program_that_has_ended_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("cannot open display")
    with (
        program("raise SystemExit(3)") as ended,
        pytest.raises(RuntimeError, match=r"ended with 3: cannot open display"),
    ):
        connected(ended, tmp_path, time.monotonic() + PATIENCE)


def test_a_port_that_is_half_written_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = tmp_path / "MarionetteActivePort"
    real = socket.create_connection
    with program("input()") as running, socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        contents = iter([f"{port}"[:1], f"{port}"])
        written.write_text("")
        monkeypatch.setattr(time, "sleep", lambda _seconds: written.write_text(next(contents)))

        def refused_at_first(address: tuple[str, int]) -> socket.socket:
            if address[1] != port:
                raise ConnectionRefusedError
            return real(address)

        monkeypatch.setattr(socket, "create_connection", refused_at_first)
        with connected(running, tmp_path, time.monotonic() + PATIENCE) as connection:
            assert connection.getpeername()[1] == port
