"""Maildrops: one account's stored messages (RFC 1939 section 3's word), in memory or in a Maildir folder.

A message is its octets with CRLF line ends and a unique id that never changes and is never given twice (RFC 1939
section 7). Everything is safe to call from several threads: learners read a maildrop while the servers fill it.
"""

import hashlib
import itertools
import mailbox
import os
import re
import socket
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_DIGITS = re.compile(r"(\d+)")
_COUNT = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Message:
    """A stored message. content: octets in which every line, the last one too, ends with CRLF. uid: RFC 1939's unique-id."""

    uid: str
    content: bytes


def canonical(content: bytes) -> bytes:
    """The message with every line end made CRLF, the last one included; a message of no octets stays one."""
    line_ends = content.count(b"\r\n")
    if content.count(b"\r") != line_ends or content.count(b"\n") != line_ends:
        # Three passes in C: a pattern would take a quarter of a minute for the largest message of nothing but bare LF.
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    return content if not content or content.endswith(b"\r\n") else content + b"\r\n"


def header_end(content: bytes) -> int:
    """Where the body of a message begins: after the first empty line, or at the end if there is none."""
    if content.startswith(b"\r\n"):
        return 2
    end = content.find(b"\r\n\r\n")
    return len(content) if end < 0 else end + 4


def has_utf8_header(content: bytes) -> bool:
    """Whether the message's header holds UTF-8 beyond ASCII (RFC 6532), which not every program can read."""
    header = content[: header_end(content)]
    if header.isascii():
        return False
    try:
        header.decode()
    except UnicodeDecodeError:
        return False
    return True


class Maildrop:
    """One account's messages, in memory, in the order of their arrival."""

    def __init__(self) -> None:
        self._messages: dict[str, Message] = {}
        self._arrived = 0
        self._change = threading.Lock()
        self._session = threading.Lock()

    def append(self, content: bytes) -> str:
        """Store a message and return its uid. When this returns, the message is stored whole."""
        content = canonical(content)
        with self._change:
            self._arrived += 1
            uid = f"{self._arrived:08}"  # counted, not drawn: the same exchange then reads the same in every recording
            self._messages[uid] = Message(uid, content)
        return uid

    def messages(self) -> tuple[Message, ...]:
        """The messages as they are now, oldest first."""
        with self._change:
            return tuple(self._messages.values())

    def delete(self, uids: Iterable[str]) -> None:
        """Remove these messages; one that is gone already is no error."""
        with self._change:
            for uid in uids:
                self._messages.pop(uid, None)

    def acquire(self) -> bool:
        """Take the exclusive-access lock of RFC 1939 section 4; False when another session holds it. Never waits."""
        return self._session.acquire(blocking=False)

    def release(self) -> None:
        """Give the exclusive-access lock back. Raises RuntimeError when nobody holds it."""
        self._session.release()


class MaildirMaildrop(Maildrop):
    """One account's messages in a Maildir, which other mail programs can read too.

    A message is written to `tmp`, synced, and then moved to `new`: one step before which it is not stored and after which
    it is, whole, also when the process is killed. Raises OSError when the folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._box = mailbox.Maildir(path, factory=None, create=True)

    def append(self, content: bytes) -> str:
        """Store a message and return its uid. When this returns, the message is on disk."""
        # Files have the local line end, as mailbox reads them. It writes too, but it links the message into `new` before it
        # removes the one in `tmp`: when that fails, it reports a message as lost that is there.
        octets = canonical(content).replace(b"\r\n", os.linesep.encode())
        with self._change:
            key = _new_key()
            uid, unfinished, stored = _uid(key), self._path / "tmp" / key, self._path / "new" / key
            try:
                with unfinished.open("xb") as file:
                    file.write(octets)
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(unfinished, stored)  # noqa: PTH104 (Path.rename goes on behind the moment that counts)
            except BaseException:
                unfinished.unlink(missing_ok=True)
                raise
        return uid

    def messages(self) -> tuple[Message, ...]:
        """The messages as they are now, in the order of arrival that their file names tell."""
        found = []
        with self._change:
            for key in sorted(self._box.keys(), key=_arrival):
                with suppress(KeyError, FileNotFoundError):  # another mail program removed it
                    found.append(Message(_uid(key), canonical(self._box.get_bytes(key))))
        return tuple(found)

    def delete(self, uids: Iterable[str]) -> None:
        """Remove these messages; one that is gone already is no error."""
        doomed = frozenset(uids)
        with self._change:
            for key in self._box.keys():  # noqa: SIM118 (iterating a mailbox gives messages)
                if _uid(key) in doomed:
                    self._box.discard(key)


def _new_key() -> str:
    """A file name that nobody else gives: time, process, count, host (the Maildir specification's "delivery identifier")."""
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    host = socket.gethostname().replace("/", r"\057").replace(":", r"\072")
    return f"{seconds}.M{nanoseconds // 1000}P{os.getpid()}Q{next(_COUNT)}.{host}"


def _uid(key: str) -> str:
    # The file name is unique for ever but may be long, and holds this machine's name: its digest does not.
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:32]


def _arrival(key: str) -> list[str | int]:
    """Sorts names such as 1700000000.M5P7Q11.host by the numbers in them: seconds, microseconds, process, count."""
    return [int(part) if number % 2 else part for number, part in enumerate(_DIGITS.split(key))]
