"""Every file that labkit writes: complete or not at all, and readable by nobody but its owner.

Captures hold passwords and TLS keys, and a folder may be shared. So a file is written under a random name that nobody can
have taken (O_EXCL), with mode 0600, and renamed when it is complete: a symbolic link that waits at its name is replaced and
not followed. What other programs read while the lab runs lies in a private folder, which goes with the process; TLS session
keys lie in files that have no name at all.
"""

import contextlib
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING
from weakref import WeakSet, finalize

if TYPE_CHECKING:
    import ssl


def write(path: str | os.PathLike[str], content: str | bytes | Iterable[bytes]) -> Path:
    """Write a file (text as UTF-8, line ends as they are) and return its path. Raises OSError; nothing has changed then."""
    octets = content.encode() if isinstance(content, str) else content
    with _replacement(Path(path)) as file:
        file.writelines([octets] if isinstance(octets, bytes) else octets)
    return Path(path)


def refuse_unwritable(path: str | os.PathLike[str]) -> None:
    """Raise now the OSError that `write` would raise for this path, for whoever has nothing to write yet."""
    with contextlib.suppress(FileNotFoundError):
        os.lstat(path)  # a name may be too long
    with tempfile.TemporaryFile(dir=Path(path).parent):
        pass


@contextlib.contextmanager
def _replacement(path: Path) -> Iterator[IO[bytes]]:
    if path.exists() and not path.is_file():  # a device or a pipe is no file to replace; the system refuses a folder
        with path.open("wb") as device:
            yield device
        return
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".labkit-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


class PrivateFolder:
    """A folder that only its owner may enter.

    It goes at `remove`, and when the process ends: by itself, or by SIGTERM or SIGHUP where the program has no plans of its
    own for them. A forked child leaves it to its parent.
    """

    def __init__(self) -> None:
        _remove_folders_when_killed()
        self.path = Path(tempfile.mkdtemp(prefix="labkit-"))
        self.remove = finalize(self, _remove, self.path, os.getpid())
        _FOLDERS.add(self)


_FOLDERS: WeakSet[PrivateFolder] = WeakSet()


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_folders_when_killed() -> None:
    if threading.current_thread() is not threading.main_thread():
        return  # no other thread may say what a signal does
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _killed)


def _killed(number: int, _frame: FrameType | None) -> None:
    """Remove the folders, then end as the signal would have ended the process."""
    for folder in tuple(_FOLDERS):
        folder.remove()
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


class KeyLogFile:
    """Where TLS contexts write down their session keys (NSS format): files that have no name.

    ssl opens such a file by its name, which is taken away at once; so no end of the process, however sudden, leaves keys
    behind. (Windows does not allow that: there the name goes at `close`.)
    """

    def __init__(self) -> None:
        self._files: list[tuple[str, IO[bytes]]] = []
        self._text = ""

    def attach(self, context: "ssl.SSLContext") -> None:
        """Have the session keys of `context` written down. Raises OSError."""
        descriptor, name = tempfile.mkstemp(prefix="labkit-")
        self._files.append((name, os.fdopen(descriptor, "rb")))
        try:
            context.keylog_filename = name
        finally:
            _unlink(name)

    def text(self) -> str:
        """All session keys so far."""
        for _name, file in self._files:
            file.seek(0)
        return self._text + "".join(file.read().decode("ascii") for _name, file in self._files)

    def close(self) -> None:
        """Keep the text, and no file."""
        self._text = self.text()
        for name, file in self._files:
            file.close()
            _unlink(name)
        self._files.clear()


def _unlink(name: str) -> None:
    with contextlib.suppress(OSError):
        Path(name).unlink()
