"""The door to the terminal: nothing acts on it, everything is legible in it, and it may close at any time."""

import json
import os
import struct
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from labkit.cli import terminal
from labkit.show.marks import STYLES
from tests.cli.test_read import controls, read, session
from tests.wire.test_pcap import Blocks

MARKS = [style.mark for style in STYLES.values()]
# An ordinary user's: no PYTHONUNBUFFERED, under which Python has nothing left to write when it ends.
PLAIN = {"PATH": os.environ.get("PATH", ""), "HOME": os.environ.get("HOME", ""), "LANG": "C.UTF-8"}
LABKIT = (sys.executable, "-m", "labkit")


def test_an_interface_name_acts_on_nothing(tmp_path: Path) -> None:
    """The name of an interface is told where it lost packets; this one would write the clipboard and the title."""
    file, end = Blocks("<"), b"\0\0\0\0"
    file.section().interface(file.option(2, b"\x1b]52;c;cm0gLXJm\x07\x1b]0;title\x07") + end)
    file.packet(0, bytes(60))
    file.block(5, file.pack("3I", 0, 0, 0) + file.option(5, file.pack("Q", 3)) + end)
    (tmp_path / "lossy.pcapng").write_bytes(file.data)
    result = read(tmp_path / "lossy.pcapng")
    assert "lost packets on interface ␛]52;c;cm0gLXJm␇␛]0;title␇: 3" in result.output
    assert controls(result.output) == set()


def test_a_file_name_acts_on_nothing(tmp_path: Path) -> None:
    result = read(tmp_path / "\x1b]0;title\x07.pcap")
    assert result.exit_code == 2
    assert "␛]0;title␇.pcap cannot be read" in result.output


def test_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    from labkit.cli.base import as_json

    hostile = "".join(map(chr, [*range(0x100), 0x202E, 0x2028, 0x3164, 0xFE0F, 0xE0100, 0x1F600, 0xDC80]))
    terminal.say(as_json([hostile], indent=None))
    printed = capsys.readouterr().out
    assert json.loads(printed) == [hostile]
    assert {unicodedata.category(one) for one in printed.rstrip("\n")} & {"Cc", "Cf", "Cs", "Zl", "Zp"} == set()


# Encodings


def test_every_mark_has_letters_of_its_own_and_a_colour_that_is_a_marks() -> None:
    spelled = [mark.encode("ascii", "labkit.legible") for mark in MARKS]
    assert len(set(spelled)) == len(MARKS)
    assert {len(mark) for mark in spelled} == {1}
    assert set(terminal._COLOURS) <= {*MARKS, "✓", "✗"}


@pytest.mark.parametrize("encoding", ["cp932", "latin-1", "ascii", "utf-8"])
def test_a_terminal_of_any_encoding(encoding: str, tmp_path: Path) -> None:
    path = session(tmp_path / "session.pcap", "EHLO 日本é\x1b\r\n".encode())
    done = subprocess.run([*LABKIT, "read", path], env=PLAIN | {"PYTHONIOENCODING": encoding}, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode(encoding)
    assert ("EHLO 日本" if encoding in ("cp932", "utf-8") else r"EHLO \u65e5\u672c") in text
    assert ("␛" if encoding == "utf-8" else "^[") in text
    assert ("● readable" if encoding in ("cp932", "utf-8") else "* readable") in text
    assert (" – not sent" if encoding == "utf-8" else " - not sent") in text


# Readers that have gone


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["compare", "plaintext"], {0}),
        (["compare", "plaintext", "--format", "json"], {0}),
        (["compare", "plaintext", "--format", "html"], {0}),
        (["doctor"], {0}),
        (["probe", "127.0.0.1", "--smtp-port", "1", "--pop3-port", "1"], {0}),
        (["serve", "plaintext"], {0}),
        (["read", "missing.pcap"], {0, 2}),
        (["lab", "--porrt"], {0, 2}),
        (["compare", "--no-such-option"], {0, 2}),
        (["--help"], {0, 1}),  # 1 is click's
    ],
)
def test_a_reader_may_go(arguments: list[str], code: set[int], both: bool) -> None:
    """Its end of the pipe is closed before the first word is written. both: that of the errors, too."""
    ours, its = os.pipe()
    os.close(ours)
    try:
        errors = its if both else subprocess.PIPE
        done = subprocess.run([*LABKIT, *arguments], env=PLAIN, stdout=its, stderr=errors, text=True, timeout=60)
    finally:
        os.close(its)
    assert done.returncode in code
    assert "Traceback" not in (done.stderr or "")
    assert "BrokenPipe" not in (done.stderr or "")


# Width and colours

if os.name == "posix":
    import fcntl
    import pty
    import termios


def on_a_terminal(columns: int, *arguments: str | Path, **environment: str) -> str:
    """What a terminal of that width gets."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(
        [*LABKIT, *map(str, arguments)],
        stdout=its,
        stderr=subprocess.DEVNULL,
        env=PLAIN | {"TERM": "xterm"} | environment,
    ) as process:
        os.close(its)
        got = b""
        try:
            while octets := os.read(ours, 65536):
                got += octets
        except OSError:  # its end has closed
            pass
        os.close(ours)
        assert process.wait(timeout=60) == 0
    return got.decode().replace("\r\n", "\n")


@pytest.mark.skipif(os.name != "posix", reason="no terminals")
@pytest.mark.parametrize(("columns", "abreast"), [(80, 2), (200, 4)])
def test_compare_fits_the_terminal(columns: int, abreast: int) -> None:
    lines = on_a_terminal(columns, "compare", "--engine", "tap", NO_COLOR="1").splitlines()
    assert max(map(len, lines)) <= columns
    assert {line.count("┼") + 1 for line in lines if line[:1] == "─"} == {abreast}


@pytest.mark.skipif(os.name != "posix", reason="no terminals")
def test_colours_repeat_the_marks_on_a_terminal_and_nowhere_else(tmp_path: Path) -> None:
    path = session(tmp_path / "session.pcap", b"EHLO client.example\r\nMAIL FROM:<hanako@mail.example>\r\n")
    coloured = on_a_terminal(100, "read", path)
    assert "\x1b[31m● MAIL FROM:<hanako@mail.example>\x1b[0m\n" in coloured
    assert coloured.count("\x1b[") == 2 * coloured.count("\x1b[0m")
    plain = on_a_terminal(100, "read", path, NO_COLOR="1")
    assert plain == on_a_terminal(100, "read", path, TERM="dumb") == read(path).output
    assert "\x1b" not in plain
