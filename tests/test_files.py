"""What labkit writes: for its owner alone, complete or not at all, never through somebody else's link; and what is left."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

import labkit
from labkit import files
from labkit.cli import main
from labkit.lessons.progress import Progress

POSIX = pytest.mark.skipif(os.name != "posix", reason="modes, links, signals and forks are POSIX's")


@pytest.fixture(scope="module")
def capture() -> labkit.Capture:
    with labkit.Provider() as provider, provider.capture(engine="tap") as capture:
        provider.client("taro").receive()
    return capture


SAVERS: dict[str, Callable[[labkit.Capture, Path], object]] = {
    "session.pcap": labkit.Capture.save,
    "session.pcapng": labkit.Capture.save,
    "ladder.svg": lambda capture, path: capture.ladder().save(path),
    "ladder.pdf": lambda capture, path: capture.ladder().save(path),
    "progress.json": lambda _capture, path: Progress({"taro": {}}).save(path),
    "progress.csv": lambda _capture, path: Progress({"taro": {}}).save(path),
    "policies.html": lambda _capture, path: CliRunner().invoke(
        main, ["compare", "plaintext", "--format", "html", "--output", str(path)], catch_exceptions=False
    ),
}


@POSIX
@pytest.mark.parametrize("name", SAVERS)
def test_what_is_saved_is_its_owners_alone_and_follows_no_link(
    capture: labkit.Capture, tmp_path: Path, name: str
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = tmp_path / "shared"
    folder.mkdir()
    for planted in (name, f".{name}.{os.getpid()}.part"):
        (folder / planted).symlink_to(victim)
    SAVERS[name](capture, folder / name)
    assert victim.read_text() == "precious"
    assert stat.S_IMODE(victim.stat().st_mode) != 0o600
    saved = (folder / name).lstat()
    assert stat.S_ISREG(saved.st_mode)
    assert stat.S_IMODE(saved.st_mode) == 0o600
    assert saved.st_size > 10
    assert sorted(path.name for path in folder.iterdir()) == sorted([name, f".{name}.{os.getpid()}.part"])


def test_a_name_on_the_way_cannot_be_guessed(tmp_path: Path) -> None:
    seen = []

    def content() -> Iterator[bytes]:
        seen.extend(path.name for path in tmp_path.iterdir())
        yield b"x"

    for _time in range(2):
        files.write(tmp_path / "saved", content())
        (tmp_path / "saved").unlink()
    assert len(set(seen)) == 2


def test_a_file_stays_as_it_was_when_writing_fails(tmp_path: Path) -> None:
    path = files.write(tmp_path / "saved", "first")

    def breaking() -> Iterator[bytes]:
        yield b"second"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        files.write(path, breaking())
    assert {path: path.read_text() for path in tmp_path.iterdir()} == {path: "first"}


@POSIX
def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    files.write(pipe, "said")
    reader.join(10)
    assert read == ["said"]
    assert stat.S_ISFIFO(pipe.lstat().st_mode)


def test_a_name_in_a_folder_that_is_not_there_is_refused_before_anything_is_recorded(tmp_path: Path) -> None:
    files.refuse_unwritable(tmp_path / "session.pcapng")
    with pytest.raises(OSError, match="No such file"):
        files.refuse_unwritable(tmp_path / "missing" / "session.pcapng")
    assert list(tmp_path.iterdir()) == []


# A provider in a process of its own, with TLS keys, of which somebody has read mail; then it does what it is told.
RUNNING = """
import os, signal, sys
import labkit

with labkit.Provider("ssl", keylog=True) as provider:
    with provider.capture(engine="tap") as capture:
        provider.client("taro").receive()
    assert "SECRET" in capture.keylog
    print(provider.ca_file, flush=True)
    {then}
"""


@contextmanager
def running(then: str, temporary: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """The process, and the file of its authority. Its temporary files are in `temporary`."""
    temporary.mkdir()
    command = [sys.executable, "-c", RUNNING.format(then=then)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(temporary)}
    ) as process:
        try:
            assert process.stdout
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@POSIX
@pytest.mark.parametrize("end", ["SIGTERM", "SIGHUP"])
def test_nothing_is_left_when_the_process_is_ended(end: str, tmp_path: Path) -> None:
    with running("signal.pause()", tmp_path / "temporary") as (process, authority):
        assert authority.exists()
        process.send_signal(signal.Signals[end])
        assert process.wait(20) == -signal.Signals[end]
    assert list((tmp_path / "temporary").iterdir()) == []


@POSIX
def test_keys_have_no_name_while_they_are_used_so_that_no_end_leaves_them_behind(tmp_path: Path) -> None:
    with running("signal.pause()", tmp_path / "temporary") as (process, _authority):
        assert left_in(tmp_path / "temporary") == ["ca.pem"]
        process.kill()
    assert left_in(tmp_path / "temporary") == ["ca.pem"]


@POSIX
def test_a_program_that_has_plans_for_a_signal_keeps_them(tmp_path: Path) -> None:
    script = (
        "import signal, labkit\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGHUP, print)\n"
        "with labkit.Provider('ssl') as provider: provider.ca_file\n"
        "assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN\n"
        "assert signal.getsignal(signal.SIGHUP) is print\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


FORKING = """child = os.fork()
    if not child:
        sys.exit(7)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    provider.client("taro").receive()
    import json
    print(json.dumps([status, provider.ca_file.exists()]))
"""


@POSIX
def test_a_forked_child_leaves_its_parents_provider_alone(tmp_path: Path) -> None:
    with running(FORKING, tmp_path / "temporary") as (process, _authority):
        assert process.stdout
        assert json.loads(process.stdout.readline()) == [7, True]
        assert process.wait(20) == 0
    assert list((tmp_path / "temporary").iterdir()) == []
